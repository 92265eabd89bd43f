"""NAT discovery between us and others: our tool with coturn's two-address server and with `stund`, which is as old as
RFC 3489; and the client that belongs to it with our server."""

import contextlib
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

import harness
import natlab
import stunclient
import stunwire as stun
from harness import wait_until
from namespaces import inside
from natlab import NATLab
from peertool import TURNSERVER, report
from test_peer_netcheck import NAMES
from totals import Totals

FIRST, SECOND = natlab.SERVER


@contextlib.contextmanager
def running(directory, namespace, *command, ports):
    """A server that answers at each of these ports of both addresses."""
    output = open(directory / "server.log", "wb")
    process = subprocess.Popen(["ip", "netns", "exec", namespace, *map(str, command)], stdin=subprocess.DEVNULL,
                               stdout=output, stderr=subprocess.STDOUT, cwd=directory)

    def answers(host, port):
        assert process.poll() is None, (directory / "server.log").read_text(errors="replace")
        with inside(namespace), stunclient.Wire((host, port), (host, 0)) as wire:
            try:
                return wire.request(stun.BINDING, timeout=0.2)
            except (stunclient.Silence, OSError):
                return False

    try:
        for host, port in ports:
            wait_until(lambda: answers(host, port), harness.START_SECONDS, f"an answer of {host}:{port}")
        yield
    finally:
        process.kill()
        process.wait()
        output.close()


def coturn(directory, namespace, *hosts, alternates=True):
    more = () if alternates else ("--no-rfc5780",)
    listening = [word for host in hosts for word in ("-L", host)]
    ports = [(host, port) for host in hosts for port in ((3478, 3479) if alternates else (3478,))]
    return running(
        directory, namespace, TURNSERVER, "-n", "--no-cli", "--no-auth", *listening, "--listening-port", 3478,
        "--alt-listening-port", 3479, "--no-tls", "--no-dtls", "--no-tcp", "--log-file", "stdout", "--relay-threads", 1,
        "--proc-user", "root", "--proc-group", "root", "--pidfile", directory / "coturn.pid", "--db", directory / "db",
        *more, ports=ports)


def stund(directory, namespace):
    ports = [(host, port) for host in (FIRST, SECOND) for port in (3478, 3479)]
    return running(directory, namespace, "stund", "-h", FIRST, "-a", SECOND, "-p", 3478, "-o", 3479, ports=ports)


@pytest.fixture(scope="module")
def lab():
    with NATLab(*NAMES) as lab:
        yield lab


def netcheck(site, *addresses):
    servers = ",".join(f"stun:{address}:3478" for address in addresses)
    found, status = report("netcheck", environment={"STUN_SERVERS": servers}, namespace=site.client)
    assert status == 0, found
    return found


def named(site):
    """On a machine that stalls answers come too late, and what is not known then is known the next time."""
    for _ in range(3):
        found = netcheck(site, FIRST)
        if found["natType"] and found["ipv4"]["filtering"]:
            break
    return found


def at_once(kinds, lab, work):
    """What `work` finds out at the site of each kind, some at a time: all of them wait more than they do."""
    sites = {site.kind: site for site in lab.sites}
    with ThreadPoolExecutor(4) as pool:
        found = {kind: pool.submit(work, sites[kind]) for kind in kinds}
    return {kind: (sites[kind], future.result()) for kind, future in found.items()}


@pytest.mark.parametrize("server", ["coturn", "stund"])
def test_their_servers_show_what_ours_shows(lab, tmp_path, server):
    with coturn(tmp_path, lab.server, FIRST, SECOND) if server == "coturn" else stund(tmp_path, lab.server):
        reports = at_once(NAMES, lab, named)
    for kind, (site, found) in reports.items():
        ipv4 = found["ipv4"]
        assert (found["natType"], ipv4["mapping"], ipv4["filtering"]) == NAMES[kind], (kind, found)
        assert ipv4["publicAddress"].rsplit(":", 1)[0] == site.outside
        assert ipv4["firewalled"] is (True if kind == "firewall" else False if kind == "none" else None)


def test_two_servers_of_one_address_show_the_mapping_and_no_more(lab, tmp_path):
    with coturn(tmp_path, lab.server, FIRST, SECOND, alternates=False):
        reports = at_once(NAMES, lab, lambda site: netcheck(site, FIRST, SECOND))
    for kind, (_, found) in reports.items():
        name, mapping, _ = NAMES[kind]
        ipv4 = found["ipv4"]
        # Ports make no difference that can be seen, and an answer from elsewhere is what a filter is found out by.
        assert ipv4["mapping"] == (mapping if name != "Symmetric" else "endpoint-dependent"), (kind, found)
        assert ipv4["filtering"] is None, (kind, found)
        assert found["natType"] == (name if name in ("Open", "Symmetric") else None), (kind, found)
        assert "no server has a second address to answer from" in str(found), (kind, found)


def test_a_client_of_rfc3489_gets_no_answer_and_is_counted(lab, serve):
    """Its requests have no magic cookie, by which the server knows what is STUN (RFC 8489 section 5)."""
    server = serve(port=3478, namespace=lab.server)
    done = subprocess.run(["ip", "netns", "exec", lab.server, "stun", "127.0.0.1"], capture_output=True, text=True,
                          timeout=60)
    assert "Primary: Blocked or could not reach STUN server" in done.stdout
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    assert totals.dropped["wrong_cookie"] >= 3
