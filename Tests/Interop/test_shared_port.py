"""TURN by TLS and HTTPS on one port (`listen.shared`): who comes is told apart, and neither is in the other's way."""

import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest

import harness
import stunclient
import stunwire as stun
from chromium import Chromium
from harness import PASSWORD, client_address, free_pair, free_port, wait_until
from signaling import API, HOST, USERS, Peer, Raw, is_open, pinned
from test_aioice import connect, relay_only
from test_page_visitor import run
from test_tls import fingerprint, new_pair, relays, tls_client, tls_context
from webpages import ADDRESS, PORT, assert_clean, serve_pages

LIMITS = {"allocations_per_user": 200, "unauthenticated_replies_per_second": 1000}


def start(serve, config=None, **options):
    """A server whose one port for TLS is shared."""
    port = free_port()
    config = harness.merged({"listen": {"shared": [f"{HOST}:{port}"], "tls": [], "https": []}, "limits": LIMITS,
                             "relay": {"rfc5766_channels": True}}, config or {})
    server = serve(config, start=False, users=USERS, **options)
    server.tls_port = server.https_port = port
    server.tls_address = (HOST, port)
    server.start()
    wait_until(lambda: is_open(port) and (server.data / "admin.sock").exists(), 20, f"a listener at {HOST}:{port}")
    return server


@pytest.fixture(scope="module")
def shared(serve_module):
    return start(serve_module)


def bare(server, source=None):
    sock = socket.socket()
    sock.bind((source or client_address(), 0))
    sock.settimeout(20)
    sock.connect(server.tls_address)
    return sock


def secured(server, source=None, **options):
    """A connection whose handshake is over, and that has sent nothing."""
    return tls_context(server, **options).wrap_socket(bare(server, source), server_hostname=HOST)


def ends(sock):
    """Whether the server closes the connection, however it does."""
    try:
        while sock.recv(65_536):
            pass
    except TimeoutError:
        return False
    except (ConnectionError, ssl.SSLError):
        pass
    return True


@pytest.mark.parametrize("protocols", [["stun.turn"], ["http/1.1", "stun.turn"], None])
def test_a_client_relays_whether_it_names_turn_or_nothing(shared, protocols):
    options = {"protocols": protocols} if protocols else {}
    with tls_client(shared, **options) as client:
        assert client.socket.selected_alpn_protocol() == (protocols and "stun.turn")
        client.allocated()
        assert relays(client, shared)


def test_nat_discovery_is_answered(shared):
    with tls_client(shared, protocols=["stun.nat-discovery"]) as client:
        assert client.binding() == client.local


@pytest.mark.parametrize("protocols", [["h2", "http/1.1"], ["http/1.1"], None])
def test_http_is_served_whether_it_is_named_or_not(shared, protocols):
    options = {"protocols": protocols} if protocols else {}
    with Raw(shared, **options) as client:
        assert client.socket.selected_alpn_protocol() == (protocols and "http/1.1")
        for _ in range(3):
            status, _, body = client.request()
            assert status == 200 and json.loads(body)["status"] == "ok"
    assert b"<!doctype html>" in API(shared).call("GET", "/")[1].lower()


def test_curl_gets_the_page_and_the_ice_servers_with_this_port(shared):
    def curl(path, *more):
        command = ["curl", "-sS", "--fail", "-m", "20", "--cacert", shared.data / "certificate.pem", *more,
                   f"https://{HOST}:{shared.https_port}{path}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "<!doctype html>" in curl("/").lower()
    servers = json.loads(curl("/api/v1/ice-servers", "-u", f"alice:{PASSWORD}"))["iceServers"]
    urls = [url for entry in servers for url in entry["urls"]]
    assert f"turns:{HOST}:{shared.tls_port}?transport=tcp" in urls, urls


def test_two_peers_meet_by_wss_and_a_kept_out_user_is_closed_with_4403(serve):
    server = start(serve)
    with Peer(server) as alice, Peer(server, "bob") as bob, tls_client(server, "alice") as relay:
        relay.allocated()
        assert server.relay_sockets()
        alice.register("alice")
        bob.register("bob")
        alice.send(type="offer", **{"from": "alice"}, to="bob", offer={"sdp": "x" * 40_000})
        assert bob.take("offer")["offer"]["sdp"] == "x" * 40_000
        sessions = json.loads(server.cli("session", "list", "--format", "json").stdout)
        assert {entry["user"] for entry in sessions["signaling"]} == {"alice", "bob"}
        assert {entry["user"] for entry in sessions["allocations"]} == {"alice"}
        server.cli("user", "disable", "alice")
        assert alice.closing(timeout=5)[0] == 4403
        wait_until(lambda: not server.relay_sockets(), 5, "the end of alice's allocation")
        assert bob.ask("pong", type="ping")


def test_the_command_line_says_where_it_is(shared):
    assert f"shared {HOST}:{shared.tls_port}" in shared.cli("status").stdout
    done = subprocess.run(shared.command("user", "passwd", "bob", "--password-stdin", "--format", "env", "--data-dir",
                                         str(shared.data), "--config", str(shared.config_path)),
                          input=USERS["bob"] + "\n", capture_output=True, text=True, env=shared.environment)
    assert done.returncode == 0, done.stderr
    assert f"SIGNALING_SERVER=wss://{HOST}:{shared.https_port}/signal" in done.stdout, done.stdout
    assert f"turns:{HOST}:{shared.tls_port}?transport=tcp" in done.stdout
    assert "TURNPIKE_CERT_FINGERPRINT=sha256:" in done.stdout


def test_turnutils_uclient_relays(shared):
    port = free_pair()
    echo = subprocess.Popen(["turnutils_peer", "-L", HOST, "-p", str(port)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _is_bound(port) and _is_bound(port + 1), 10, "turnutils_peer listens")
        command = ["turnutils_uclient", "-t", "-S", "-e", HOST, "-r", str(port), "-m", "5", "-n", "100", "-z", "5",
                   "-u", "alice", "-w", PASSWORD, "-p", str(shared.tls_port), HOST]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, errors="replace")
    finally:
        echo.kill()
        echo.wait()
    text = done.stdout + done.stderr
    assert done.returncode == 0 and "Total lost packets 0 (0.000000%)" in text, text[-2000:]


def _is_bound(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def test_aioice_relay_only_pair_exchanges_data(shared):
    async def scenario():
        first, second = relay_only(shared, True, "tls"), relay_only(shared, False, "tls")
        try:
            await connect(first, second)
            for number in range(100):
                await first.send(b"%d" % number)
                assert await second.recv() == b"%d" % number
        finally:
            await asyncio.gather(first.close(), second.close())

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_chromium_has_page_signaling_and_relay_on_the_one_port(serve, namespaces, tmp_path):
    listen = {"https": [], "tls": [], "dtls": [], "shared": [f"{ADDRESS}:{PORT}"]}
    server, home = serve_pages(serve, namespaces.server, tmp_path, {"listen": listen})
    with Chromium(home, namespaces.world) as browser:
        rows = run(browser.page)
        for title in ("Relay over TLS", "Signaling (WebSocket)", "Relay over UDP", "Relay over TCP"):
            assert rows[title][0] == "good", rows
        assert_clean(browser.page)
    # The relay by TLS has been there, and not by another port.
    places = [place for place in server.cli("status").stdout.split() if place.endswith(f":{PORT}")]
    assert places == [f"{ADDRESS}:{PORT}"]


@pytest.mark.parametrize("protocol", ["h2", "acme-tls/1"])
def test_a_client_that_names_another_protocol_alone_is_refused(shared, protocol):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secured(shared, protocols=[protocol])


@pytest.mark.parametrize("first", [b"\x40\x01\x00\x04abcd", b"\x80", b"\x16\x03\x01\x00" * 8, b"{}", b"\xff" * 20_000])
def test_what_is_neither_stun_nor_http_is_closed(shared, first):
    with contextlib.closing(secured(shared)) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(first)
        # 0x16 begins with two zero bits: the relay gets it, and ends what is no STUN.
        assert ends(client)
    shared.assert_alive()


def test_garbage_before_and_behind_the_handshake_disturbs_nobody(shared):
    chance = random.Random(443)
    context = tls_context(shared)
    context.set_alpn_protocols(["http/1.1", "stun.turn"])
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST).do_handshake()
    hello = outgoing.read()
    with tls_client(shared) as relay, Raw(shared) as web:
        relay.allocated()
        for number in range(200):
            mutant = bytearray(hello if number % 2 else chance.randbytes(chance.randrange(1, 600)))
            for _ in range(chance.randrange(1, 8)):
                mutant[chance.randrange(len(mutant))] = chance.randrange(256)
            with contextlib.closing(bare(shared)) as client, contextlib.suppress(ConnectionError):
                client.sendall(bytes(mutant[: chance.randrange(1, len(mutant) + 1)]))
        for _ in range(60):
            with contextlib.closing(secured(shared)) as client, contextlib.suppress(ConnectionError):
                client.sendall(chance.randbytes(chance.randrange(1, 3_000)))
        assert relays(relay, shared)
        assert web.request()[0] == 200
    shared.assert_alive()


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", stun.build(stun.BINDING)], ids=["http", "stun"]
)
def test_nothing_is_served_without_tls(shared, first):
    with contextlib.closing(bare(shared)) as client:
        client.sendall(first)
        said = b""
        with contextlib.suppress(ConnectionError):
            while data := client.recv(65_536):
                said += data
        # An alert at most.
        assert len(said) <= 7 and b"HTTP" not in said


@pytest.mark.parametrize("request_bytes", [b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", stun.build(stun.BINDING)],
                         ids=["http", "stun"])
@pytest.mark.parametrize("pause", [0, 0.002])
def test_a_hello_and_a_request_byte_by_byte_are_understood(shared, request_bytes, pause):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = tls_context(shared).wrap_bio(incoming, outgoing, server_hostname=HOST)
    with contextlib.closing(bare(shared)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def dribble():
            for byte in outgoing.read():
                client.sendall(bytes([byte]))
                time.sleep(pause)

        def receive():
            data = client.recv(65_536)
            assert data, "the server has ended the connection"
            incoming.write(data)

        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                session.do_handshake()
                break
            dribble()
            receive()
        session.write(request_bytes[:1])
        dribble()
        session.write(request_bytes[1:])
        dribble()
        answer = b""
        while not answer:
            with contextlib.suppress(ssl.SSLWantReadError):
                answer = session.read(65_536)
                break
            receive()
        assert answer.startswith(b"HTTP/1.1 200 ") or answer[:2] == b"\x01\x01", answer[:40]


def test_who_goes_on_slowly_or_not_at_all_is_closed_in_time(shared):
    """Before the hello, within it, and behind a handshake that names nothing: ten seconds from the first moment."""
    begun = time.monotonic()
    silent, half, undecided = bare(shared), bare(shared), secured(shared)
    outgoing = ssl.MemoryBIO()
    session = tls_context(shared).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    hello = outgoing.read()
    half.sendall(hello[: len(hello) // 2])
    # One byte now and then buys no time.
    for byte in hello[len(hello) // 2 : len(hello) // 2 + 8]:
        time.sleep(1)
        half.sendall(bytes([byte]))
    for sock in (silent, half, undecided):
        assert ends(sock)
        sock.close()
    assert 9 < time.monotonic() - begun < 18
    with tls_client(shared) as client:
        client.allocated()


def test_who_says_nothing_behind_a_handshake_cannot_use_up_the_port(serve):
    server = start(serve, {"workers": 1})
    crowd, context = client_address(), tls_context(server)
    with contextlib.ExitStack() as stack:
        opened = 0
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while opened < 2_000:
                sock = context.wrap_socket(bare(server, crowd), server_hostname=HOST)
                stack.callback(sock.close)
                opened += 1
        # Half of a worker's 1,024 connections under way is what a source may have; on a slow machine the first have
        # ended.
        assert 512 <= opened < 2_000
        with tls_client(server, context=context) as client:
            client.allocated()
        with Raw(server) as client:
            assert client.request()[0] == 200
    wait_until(lambda: _is_served(server, crowd, context), 15, "its places are free again")


def _is_served(server, source, context):
    try:
        context.wrap_socket(bare(server, source), server_hostname=HOST).close()
        return True
    except (ConnectionError, ssl.SSLError):
        return False


def test_the_gateways_own_limit_of_an_address_holds(serve):
    server = start(serve, {"signaling": {"connections_per_address": 2}})
    crowd, context = client_address(), pinned(server)
    with contextlib.ExitStack() as stack:
        def ask():
            sock = context.wrap_socket(bare(server, crowd), server_hostname=HOST)
            stack.callback(sock.close)
            try:
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                return sock.recv(65_536).startswith(b"HTTP/1.1 200")
            except (ConnectionError, ssl.SSLError):
                return False

        # 32 besides those that signaling may have.
        assert [ask() for _ in range(36)] == [True] * 34 + [False] * 2
        with Raw(server) as other:
            assert other.request()[0] == 200


def test_a_renewed_certificate_is_for_both(serve, tmp_path):
    server = start(serve)
    with tls_client(server) as relay, Raw(server) as web:
        old = fingerprint(relay)
        relay.allocated()
        certificate, key = new_pair(tmp_path, "renewed")
        shutil.copy(key, server.data / "private-key.pem")
        shutil.copy(certificate, server.data / "certificate.pem")
        server.process.send_signal(signal.SIGUSR2)

        def renewed():
            with contextlib.suppress(ssl.SSLError), contextlib.closing(secured(server)) as sock:
                return sock.getpeercert(binary_form=True) != old

        wait_until(renewed, 10, "the new certificate")
        # Those who were there go on.
        assert relays(relay, server)
        assert web.request()[0] == 200
    with tls_client(server) as relay, Raw(server) as web:
        relay.allocated()
        assert web.request()[0] == 200


def test_a_port_that_another_program_has_stops_the_start(serve):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = serve({"listen": {"shared": [f"{HOST}:{port}"]}}, start=False)
        done = subprocess.run(server.command("serve", "--config", str(server.config_path), "--data-dir",
                                             str(server.data)), capture_output=True, text=True, timeout=30,
                              env=server.environment)
    assert done.returncode == 1
    assert f"cannot listen on {HOST}:{port}" in done.stderr and "listen.shared" in done.stderr, done.stderr[-500:]


def test_config_check_finds_a_port_that_is_shared_and_not(serve):
    server = serve({"listen": {"shared": ["127.0.0.1:4443"], "https": ["127.0.0.1:4443"]}}, start=False)
    done = subprocess.run(server.command("config", "check", "--config", str(server.config_path)), capture_output=True,
                          text=True, timeout=30, env=server.environment)
    assert done.returncode == 78 and "listen.shared: has the port of 127.0.0.1:4443 in listen.https" in done.stderr
