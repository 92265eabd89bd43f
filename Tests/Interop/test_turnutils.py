"""coturn's own client programs against our server, on loopback and between namespaces."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

import harness
from harness import free_pair, free_port
from namespaces import Namespaces, inside
from totals import Totals

# Debian's 4.6.1 picks channels from 0x4000-0x7FFF as RFC 5766 had them, and opens up to four allocations per client;
# all clients share one address, so their first requests would meet the cap on unauthenticated replies.
CONFIG = {
    "relay": {"rfc5766_channels": True},
    "limits": {"allocations_per_user": 2000, "unauthenticated_replies_per_second": 1000},
}
SECRET = "a shared secret of some length"
LOOPBACK = ("127.0.0.1", "::1")
LOAD = ("-m", "20", "-n", "500", "-z", "5")
TRANSPORTS = {"udp": (), "tcp": ("-t",), "tls": ("-t", "-S"), "dtls": ("-S",)}
MODES = {name + kind: flags + more for name, flags in TRANSPORTS.items()
         for kind, more in (("-channels", ()), ("-send-indications", ("-s",)))}


def by_name(argument, values):
    return pytest.mark.parametrize(argument, values.values(), ids=values)


def uclient(server, host, *arguments, credentials=None, namespace=None, port=None):
    enter = ("ip", "netns", "exec", namespace) if namespace else ()
    credentials = credentials or ("-u", "alice", "-w", harness.PASSWORD)
    if port is None:
        port = server.port if "-S" not in arguments else server.tls_port if "-t" in arguments else server.dtls_port
    command = [*enter, "turnutils_uclient", *arguments, *credentials, "-p", str(port), host]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, errors="replace")
    except subprocess.TimeoutExpired as silence:
        pytest.fail(f"{' '.join(command)} did not end; it printed {silence.stdout} {silence.stderr}")


def assert_nothing_lost(done, sent=20 * 500):
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    totals = re.findall(r"tot_send_msgs=(\d+), tot_recv_msgs=(\d+)\s*$", text, re.MULTILINE)
    assert totals and totals[-1] == (str(sent), str(sent)), f"sent and received: {totals[-1:]}\n{text[-1500:]}"
    assert "Total lost packets 0 (0.000000%), total send dropped 0 (0.000000%)" in text, text[-1500:]


def secured(config, hosts, serve, **options):
    """A server that is reached by TLS and DTLS too.

    DTLS has a port of its own. Each run leaves allocations behind, and an address that holds one by DTLS is not heard
    in the clear, nor the reverse (case DT-08); a later client that is given that address again would wait for ever.
    """
    ports = {"tls": free_port(), "dtls": free_port()}
    listen = {kind: [harness.endpoint(host, port) for host in hosts] for kind, port in ports.items()}
    server = serve(harness.merged(config, {"listen": listen}), hosts=hosts, secrets={"rest": SECRET}, **options)
    server.tls_port, server.dtls_port = ports["tls"], ports["dtls"]
    return server


@pytest.fixture(scope="module")
def loopback(serve_module):
    return secured(CONFIG, LOOPBACK, serve_module)


@pytest.fixture(scope="module")
def apart(serve_module, namespaces_module):
    """A server whose clients and peers are on another machine, as far as the kernel can tell."""
    config = harness.merged(CONFIG, {"relay": {"allow_peers": ["10.0.0.0/8", "fd77::/16"]}})
    return secured(config, Namespaces.SERVER, serve_module, namespace=namespaces_module.server, relays_loopback=False)


@pytest.fixture(scope="module")
def concurrently(request):
    """Runs a function for every chosen case of a test, three at a time, since these programs wait most of their time.

    Gives the result of the case in hand.
    """
    pool = ThreadPoolExecutor(3)
    results = {}

    def run(node, function):
        if node.function not in results:
            cases = [item for item in node.session.items if getattr(item, "function", None) is node.function]
            results[node.function] = {item.nodeid: pool.submit(function, **item.callspec.params) for item in cases}
        return results[node.function][node.nodeid].result()

    yield run
    pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def peer_program():
    """`turnutils_peer`, which echoes; waits until both its ports are bound."""
    started = []

    def start(host, namespace=None):
        with inside(namespace):
            port = free_pair(host)
        enter = ("ip", "netns", "exec", namespace) if namespace else ()
        process = subprocess.Popen([*enter, "turnutils_peer", "-L", host, "-p", str(port)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)

        def bound():
            assert process.poll() is None, "turnutils_peer has ended"
            with open(f"/proc/{process.pid}/net/udp") as four, open(f"/proc/{process.pid}/net/udp6") as six:
                sockets = four.read() + six.read()
            return all(f":{number:04X} " in sockets for number in (port, port + 1))

        harness.wait_until(bound, 10, "turnutils_peer binds its ports")
        return port

    yield start
    for process in started:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("host", LOOPBACK)
def test_stunclient_learns_its_address(loopback, host):
    done = subprocess.run(["turnutils_stunclient", "-p", str(loopback.port), host],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"UDP reflexive addr: {host}:" in done.stdout, done.stdout


@by_name("mode", MODES)
@pytest.mark.parametrize("host", LOOPBACK)
def test_uclient_to_a_peer_loses_nothing(loopback, peer_program, concurrently, request, host, mode):
    def run(host, mode):
        family = ("-x",) if ":" in host else ()
        return uclient(loopback, host, *LOAD, *mode, *family, "-e", host, "-r", str(peer_program(host)))

    assert_nothing_lost(concurrently(request.node, run))


@by_name("mode", MODES)
@pytest.mark.parametrize("host", LOOPBACK)
def test_uclient_client_to_client_loses_nothing(loopback, concurrently, request, host, mode):
    def run(host, mode):
        return uclient(loopback, host, *LOAD, "-y", *mode, *(("-x",) if ":" in host else ()))

    assert_nothing_lost(concurrently(request.node, run))


@by_name("transport", TRANSPORTS)
def test_uclient_on_ipv4_is_relayed_on_ipv6(loopback, concurrently, request, transport):
    def run(transport):
        return uclient(loopback, "127.0.0.1", *LOAD, *transport, "-y", "-c", "-x")

    assert_nothing_lost(concurrently(request.node, run))


@by_name("transport", TRANSPORTS)
def test_uclient_with_time_limited_credentials(loopback, concurrently, request, transport):
    def run(transport):
        return uclient(loopback, "127.0.0.1", *transport, "-m", "4", "-n", "50", "-z", "5", "-y",
                       credentials=("-u", "visitor", "-W", SECRET))

    assert_nothing_lost(concurrently(request.node, run), 4 * 50)


@pytest.mark.parametrize("credentials", [("-u", "alice", "-w", "wrong"), ("-u", "nobody", "-w", "wrong"),
                                         ("-u", "visitor", "-W", "another secret")],
                         ids=["password", "user", "secret"])
@by_name("transport", TRANSPORTS)
def test_uclient_with_wrong_credentials_is_refused(loopback, credentials, transport):
    done = uclient(loopback, "127.0.0.1", *transport, "-n", "5", "-y", credentials=credentials)
    assert done.returncode != 0, done.stdout
    assert "Cannot complete Allocation" in done.stdout + done.stderr


@by_name("mode", MODES)
@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_uclient_to_a_peer_on_another_host_loses_nothing(apart, namespaces_module, peer_program, concurrently,
                                                         request, family, mode):
    world = namespaces_module.world

    def run(family, mode):
        here, there = Namespaces.SERVER[family], Namespaces.WORLD[family]
        flags = (*mode, "-x") if family else mode
        port = peer_program(there, world)
        return uclient(apart, here, *LOAD, *flags, "-e", there, "-r", str(port), namespace=world)

    assert_nothing_lost(concurrently(request.node, run))


@by_name("transport", TRANSPORTS)
def test_uclient_client_to_client_across_hosts_loses_nothing(apart, namespaces_module, concurrently, request,
                                                             transport):
    def run(transport):
        return uclient(apart, Namespaces.SERVER[0], *LOAD, *transport, "-y", namespace=namespaces_module.world)

    assert_nothing_lost(concurrently(request.node, run))


def test_uclient_with_time_limited_credentials_across_hosts(apart, namespaces_module):
    done = uclient(apart, Namespaces.SERVER[0], "-m", "4", "-n", "50", "-z", "5", "-y",
                   credentials=("-u", "visitor", "-W", SECRET), namespace=namespaces_module.world)
    assert_nothing_lost(done, 4 * 50)


# RFC 6062


@pytest.fixture
def tcp_relaying(serve):
    port = free_port()
    server = serve(harness.merged(CONFIG, {"relay": {"tcp": True}, "listen": {"tls": [f"127.0.0.1:{port}"]}}),
                   hosts=LOOPBACK)
    server.tls_port = port
    return server


# These programs connect relays with each other, and bind with the nonce of the control connection.
@pytest.mark.parametrize("flags", [("-T",), ("-t", "-T"), ("-t", "-T", "-x")], ids=" ".join)
def test_uclient_relays_tcp_and_loses_nothing(tcp_relaying, flags):
    host = "::1" if "-x" in flags else "127.0.0.1"
    assert_nothing_lost(uclient(tcp_relaying, host, *LOAD, *flags))


def test_uclient_relays_tcp_by_tls_and_loses_nothing(tcp_relaying):
    done = uclient(tcp_relaying, "127.0.0.1", "-t", "-S", "-T", "-m", "4", "-n", "100", "-z", "5",
                   port=tcp_relaying.tls_port)
    assert_nothing_lost(done, 4 * 100)


def test_uclient_as_a_passive_client_is_connected_to(tcp_relaying):
    done = uclient(tcp_relaying, "127.0.0.1", "-P", "-m", "2", "-n", "20", "-z", "20")
    # It counts what both ends send and what one of them receives: the other is a peer, to whom nothing answers.
    assert done.returncode == 0 and "tot_send_msgs=40, tot_recv_msgs=20" in done.stdout + done.stderr
    tcp_relaying.stop()
    totals = Totals(tcp_relaying)
    assert (totals.stream_bytes_to_peers, totals.stream_bytes_to_clients) == (2000, 2000)
