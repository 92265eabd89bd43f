"""`turnpike-peer netcheck`: what it says of NATs, of servers, and of what does not work."""

import time

import pytest

import harness
import natlab
import peertool
from harness import free_port
from natlab import NATLab
from peerlab import HOST, PeerLab
from peertool import coturn, fingerprint, of_a_server, peer, report, servers
from webpages import refuse

TRANSPORTS = ("udp", "tcp", "tls", "dtls")
# What each kind is called, and what is said of it.
NAMES = {
    "none": ("Open", "endpoint-independent", "endpoint-independent"),
    "firewall": ("Open", "endpoint-independent", "address-and-port-dependent"),
    "full-cone": ("Full Cone", "endpoint-independent", "endpoint-independent"),
    "address-restricted": ("Restricted", "endpoint-independent", "address-dependent"),
    "port-restricted": ("Port-Restricted", "endpoint-independent", "address-and-port-dependent"),
    "remapping": ("Port-Restricted", "endpoint-independent", "address-and-port-dependent"),
    "address-dependent": ("Symmetric", "address-dependent", "address-and-port-dependent"),
    "symmetric": ("Symmetric", "address-and-port-dependent", "address-and-port-dependent"),
}


@pytest.fixture(scope="module")
def nats(serve_module):
    """One server with two addresses, and a client behind each kind of NAT."""
    with NATLab(*NAMES) as lab:
        listen = {"alternate": [f"{natlab.SERVER[1]}:3479"], "tcp": [f"{natlab.SERVER[0]}:3478"]}
        serve_module({"listen": listen}, hosts=("0.0.0.0",), port=3478, namespace=lab.server, relays_loopback=False)
        yield {site.kind: site for site in lab.sites}


@pytest.mark.parametrize("kind", NAMES)
def test_a_nat_is_called_what_it_is(nats, kind):
    site = nats[kind]
    host = natlab.SERVER[0]
    environment = servers(f"turn:{host}:3478?transport=udp", f"turn:{host}:3478?transport=tcp",
                          stun=f"stun:{host}:3478")
    found, status = report("netcheck", environment=environment, namespace=site.client)
    ipv4 = found["ipv4"]
    assert (found["natType"], ipv4["mapping"], ipv4["filtering"]) == NAMES[kind], found
    assert status == 0 and found["works"]
    assert ipv4["publicAddress"].rsplit(":", 1)[0] == site.outside
    assert ipv4["firewalled"] is (True if kind == "firewall" else False if kind == "none" else None)
    assert [relay["works"] for relay in found["turnServers"]] == [True, True], found
    assert all(relay["roundTripMilliseconds"] > 0 for relay in found["turnServers"])
    assert found["ipv6"]["available"] is False


def test_a_network_that_blocks_udp_is_called_blocked_and_told_of_the_relay(serve):
    with NATLab("no-udp") as lab:
        host = natlab.SERVER[0]
        serve({"listen": {"tcp": [f"{host}:3478"]}}, hosts=("0.0.0.0",), port=3478, namespace=lab.server,
              relays_loopback=False)
        site = lab.sites[0]
        environment = servers(f"turn:{host}:3478?transport=udp", f"turn:{host}:3478?transport=tcp",
                              stun=f"stun:{host}:3478")
        began = time.monotonic()
        found, status = report("netcheck", environment=environment, namespace=site.client)
        # Three seconds are the case's own bound, though UDP is silent; a busy machine gets as much again.
        assert time.monotonic() - began < 6
        assert status == 0 and found["natType"] == "Blocked", found
        assert [relay["works"] for relay in found["turnServers"]] == [False, True]
        assert found["turnServers"][0]["problem"]["code"] == "no-answer"
        assert "lets no UDP through" in found["verdict"] and "by TCP" in found["verdict"]
        assert {peer["cause"] for peer in found["peers"]} == {"udp-blocked"}
        # The bound is the case's own, three seconds; a busy machine gets as much again. Ten is when all is given up.
        assert found["tookSeconds"] < 6


@pytest.fixture(scope="module")
def secured(serve_module):
    """A server on loopback with a certificate of its own."""
    tls = free_port()
    listen = {name: [f"127.0.0.1:{tls}"] for name in ("tls", "dtls")}
    server = serve_module({"listen": listen})
    server.tls_port = server.dtls_port = tls
    return server


def own_environment(server, **more):
    """What `user passwd --format env` prints for a peer."""
    printed = server.cli("user", "passwd", "alice", "--password-stdin", "--format", "env", "--config",
                         str(server.config_path), input=harness.PASSWORD + "\n").stdout
    return dict(line.split("=", 1) for line in printed.replace("'", "").splitlines()) | more


def test_the_lines_that_the_server_prints_are_all_it_takes(secured):
    environment = own_environment(secured)
    found, status = report("netcheck", environment=environment)
    assert status == 0 and found["issues"] == [], found
    assert sorted(relay["transport"] for relay in found["turnServers"]) == sorted(TRANSPORTS)
    assert all(relay["works"] and relay["relayedAddresses"] for relay in found["turnServers"]), found
    done = peer("netcheck", environment=environment)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("NAT type ") and "\x1b" not in done.stdout
    # The signaling server's port is the usual one, which another run's may have.
    assert done.stdout.split("Signaling server")[0].count("  ok    ") == 5, done.stdout


def test_a_certificate_that_is_not_the_pinned_one_is_named_with_the_mend(secured):
    wrong = {"TURNPIKE_CERT_FINGERPRINT": "sha256:" + "ab" * 32}
    found, status = report("netcheck", environment=own_environment(secured, **wrong))
    relays = {relay["transport"]: relay for relay in found["turnServers"]}
    assert status == 0 and relays["udp"]["works"] and relays["tcp"]["works"]
    for transport in ("tls", "dtls"):
        problem = relays[transport]["problem"]
        assert problem["code"] == "certificate" and "not the one expected" in problem["message"], problem
        assert "fingerprint" in problem["mend"]


def test_a_certificate_that_nobody_vouches_for_is_named_with_the_mend(secured):
    environment = own_environment(secured)
    del environment["TURNPIKE_CERT_FINGERPRINT"]
    found, _ = report("netcheck", environment=environment)
    problems = [relay["problem"] for relay in found["turnServers"] if relay["transport"] in ("tls", "dtls")]
    assert [problem["code"] for problem in problems] == ["certificate", "certificate"]
    assert all("TURNPIKE_CERT_FINGERPRINT" in problem["mend"] for problem in problems)


def test_a_wrong_password_is_told_from_a_server_that_is_not_there(secured):
    environment = servers(f"turn:127.0.0.1:{secured.port}", password="wrong")
    found, status = report("netcheck", environment=environment)
    assert status == 0 and [relay["reached"] for relay in found["turnServers"]] == [True, True]
    assert {relay["problem"]["code"] for relay in found["turnServers"]} == {"wrong-credentials"}
    assert "TURN_PASSWORD" in found["verdict"]


def test_a_credential_that_has_expired_is_called_so(secured):
    environment = servers(f"turn:127.0.0.1:{secured.port}?transport=udp", TURN_USERNAME="1600000000:alice")
    found, _ = report("netcheck", environment=environment)
    assert found["turnServers"][0]["problem"]["code"] == "expired-credentials", found


# What a person sees, start and end of the program included; a busy machine gets as much again.
BOUND_SECONDS = 3


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    """All that a server has, 50 ms away, and networks that keep `netcheck` waiting for some of it."""
    kinds = ("none", "port-restricted", "symmetric", "no-udp", "https-only")
    with PeerLab(tmp_path_factory.mktemp("far"), *kinds, delay_ms=25) as lab:
        yield lab


def timed(lab, site, **changes):
    began = time.monotonic()
    found, _ = report("netcheck", environment=lab.environment | changes, namespace=site.client)
    assert time.monotonic() - began < 2 * BOUND_SECONDS, found
    return found


def test_it_ends_in_time_on_every_network_and_tells_of_the_signaling_server(far):
    for site in far.sites:
        signaling = timed(far, site)["signalingServer"]
        assert (signaling["works"], signaling["reached"], signaling["problem"]) == (True, True, None), signaling
        assert (signaling["address"], signaling["tls"]) == (f"{HOST}:443", "TLSv1.3")
        assert signaling["url"] == far.environment["SIGNALING_SERVER"]
        # A round trip, and no handshake on top of it.
        assert signaling["roundTripMilliseconds"] >= 50


def test_what_is_wrong_with_the_signaling_server_is_named_in_time(far):
    site = far.sites[1]
    assert site.kind == "port-restricted"
    for changes, reached, code in (
        ({"SIGNALING_SERVER": f"wss://{HOST}:443/elsewhere"}, True, "not-a-signaling-server"),
        # There it is TURN that answers, and at the next nobody.
        ({"SIGNALING_SERVER": f"wss://{HOST}:3478/signal"}, True, "tls"),
        ({"SIGNALING_SERVER": f"wss://{HOST}:8444/signal"}, False, "connection-refused"),
        ({"TURNPIKE_CERT_FINGERPRINT": "sha256:" + "ab" * 32}, True, "certificate"),
        ({"TURN_PASSWORD": "wrong"}, True, "wrong-credentials"),
    ):
        found = timed(far, site, **changes)
        signaling = found["signalingServer"]
        assert (signaling["works"], signaling["reached"]) == (False, reached), signaling
        assert signaling["problem"]["code"] == code and signaling["problem"]["mend"], signaling
        assert "signaling server" in found["verdict"]
        # Nobody waits for it who does not need it.
        assert found["tcp"]["mapping"] == "endpoint-independent", found["tcp"]


def test_a_signaling_server_that_is_silent_keeps_nobody_waiting(far):
    refuse(far.lab.server, "tcp sport 8445 drop")
    found = timed(far, far.sites[1], SIGNALING_SERVER=f"wss://{HOST}:8445/signal")
    signaling = found["signalingServer"]
    assert signaling["problem"]["code"] == "no-answer" and not signaling["reached"], signaling
    assert found["tcp"]["mapping"] == "endpoint-independent" and found["tcp"]["unsolicited"] is None, found["tcp"]


def test_the_signaling_server_is_told_of_where_one_is_named(serve, secured):
    environment = of_a_server(serve)
    text = peer("netcheck", environment=environment).stdout
    line = text[text.index("Signaling server\n"):].splitlines()[1]
    assert line.startswith(f"  ok    {environment['SIGNALING_SERVER']}  ") and "TLS 1.3, the pinned certificate" in line
    found, _ = report("netcheck", environment=servers(f"turn:127.0.0.1:{secured.port}"))
    assert found["signalingServer"] is None
    found, _ = report("netcheck", environment={
        "STUN_SERVERS": environment["STUN_SERVERS"], "SIGNALING_SERVER": environment["SIGNALING_SERVER"]})
    assert found["signalingServer"]["problem"]["code"] == "no-credentials", found


def test_nobody_there_ends_in_time_with_status_1():
    port = free_port()
    environment = servers(f"turn:127.0.0.1:{port}", stun=f"127.0.0.1:{port}", P2P_CONNECTION_TIMEOUT="3000")
    began = time.monotonic()
    found, status = report("netcheck", environment=environment)
    # The bound is the case's own; a busy machine gets as much again.
    assert time.monotonic() - began < 6
    assert status == 1 and not found["works"]
    assert {relay["transport"]: relay["problem"]["code"] for relay in found["turnServers"]} == {
        "udp": "connection-refused", "tcp": "connection-refused"}
    assert "no server listens where" in found["verdict"] and "Check the addresses" in found["verdict"], found


def test_nothing_to_ask_is_status_78_and_says_what_to_set():
    done = peer("netcheck")
    assert done.returncode == 78 and done.stdout == "" and "set STUN_SERVERS" in done.stderr


def test_coturn_is_reached_by_every_transport(tmp_path):
    with coturn(tmp_path) as server:
        environment = servers(*map(server.url, TRANSPORTS), stun=f"127.0.0.1:{server.port}",
                              TURNPIKE_CERT_FINGERPRINT=fingerprint(server.certificate))
        found, status = report("netcheck", environment=environment)
        assert status == 0
        assert [(relay["transport"], relay["works"]) for relay in found["turnServers"]] == [
            (transport, True) for transport in TRANSPORTS], found
        assert found["stunServers"][0]["works"]


def test_help_names_every_option():
    text = peer("netcheck", "--help").stdout
    assert all(option in text for option in ("--json", "--lifetime", "STUN_SERVERS", "TURNPIKE_CERT_FINGERPRINT"))
    assert peertool.BINARY.exists()
