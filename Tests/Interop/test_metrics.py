"""`GET /metrics`: what it says while the server runs, that it adds up, and that asking for it costs the relay
nothing."""

import http.client
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

import signaling
import stunwire as stun
from dtlsclient import DTLSClient
from harness import PASSWORD, Background, client_address, free_port, merged, wait_until
from namespaces import inside
from test_tls import new_pair, tls_client

HOST = "127.0.0.1"
DEFAULT_PORT = 9641
TRANSPORTS = ("udp", "tcp", "tls", "dtls")

# The contract's names, with the labels of each.
NAMES = {
    "turnpike_allocations": (),
    "turnpike_allocations_total": (),
    "turnpike_relayed_bytes_total": ("direction",),
    "turnpike_relayed_packets_total": ("direction",),
    "turnpike_dropped_packets_total": ("reason",),
    "turnpike_stun_requests_total": ("method", "transport"),
    "turnpike_auth_failures_total": ("reason",),
    "turnpike_allocation_duration_seconds_count": (),
    "turnpike_allocation_duration_seconds_sum": (),
    "turnpike_allocation_duration_seconds_bucket": ("le",),
    "turnpike_signaling_connections": (),
    "turnpike_signaling_messages_total": ("type",),
    "turnpike_signaling_rejected_total": ("reason",),
    "turnpike_rooms": (),
    "turnpike_certificate_expiry_timestamp_seconds": (),
    "turnpike_worker_busy_ratio": ("worker",),
}


class Page:
    """One scrape, parsed."""

    LINE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')

    def __init__(self, text):
        self.text = text
        self.samples = {}
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            name, labels, value = self.LINE.match(line).groups()
            key = (name, tuple(sorted(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or ""))))
            assert key not in self.samples, f"{key} stands twice"
            self.samples[key] = float(value)

    def __call__(self, name, **labels):
        return self.samples[("turnpike_" + name, tuple(sorted(labels.items())))]

    def all(self, name):
        return {labels: value for (found, labels), value in self.samples.items() if found == "turnpike_" + name}

    def sum(self, name):
        return sum(self.all(name).values())

    def assert_balanced(self):
        """Conservation, exactly: what came in was relayed, handled, dropped for one reason, or is held."""
        outcomes = [
            self.sum("relayed_packets_total"), self("stun_handled_total"), self.sum("dropped_packets_total"),
            self("packets_held"),
        ]
        assert self("packets_in_total") == sum(outcomes), outcomes


def start(serve, config=None, **options):
    port = free_port()
    server = serve(merged({"listen": {"metrics": [f"{HOST}:{port}"]}}, config or {}), start=False, **options)
    server.metrics_port = port
    return ready(server.start())


def ready(server):
    # STUN is answered a moment before.
    wait_until(lambda: signaling.is_open(server.metrics_port), 20, "a listener for metrics")
    return server


def ask(server, method="GET", path="/metrics", body=None):
    connection = http.client.HTTPConnection(HOST, server.metrics_port, timeout=20)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()


def scrape(server):
    status, text, _ = ask(server)
    assert status == 200
    return Page(text)


@pytest.fixture
def serve_all(serve):
    """A server for all four transports."""
    def start_all(config=None, **options):
        ports = {"tls": free_port(), "dtls": free_port()}
        listen = {name: [f"{HOST}:{port}"] for name, port in ports.items()}
        server = start(serve, merged({"listen": listen}, config or {}), **options)
        server.tls_port, server.dtls_port = ports["tls"], ports["dtls"]
        return server

    return start_all


def client_by(transport, server):
    match transport:
        case "udp":
            return server.client()
        case "tcp":
            return server.stream_client()
        case "tls":
            return tls_client(server)
        case "dtls":
            return DTLSClient((HOST, server.dtls_port), "alice", PASSWORD, (client_address(), 0))


# What it looks like


def test_promtool_accepts_the_page_and_every_name_is_there(serve_all):
    server = serve_all()
    with server.client() as client:
        client.allocated()
    status, text, headers = ask(server)
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = Page(text)
    for name, labels in NAMES.items():
        found = page.all(name.removeprefix("turnpike_"))
        assert found, name
        assert all(tuple(key for key, _ in each) == tuple(sorted(labels)) for each in found), name
    (build,) = page.all("build_info")
    assert {key for key, _ in build} == {"version", "openssl"} and dict(build)["openssl"].startswith("OpenSSL 3")
    assert dict(next(iter(page.all("worker_busy_ratio")))) == {"worker": "0"}
    assert page.samples[("process_open_fds", ())] <= page.samples[("process_max_fds", ())]
    assert page.samples[("process_resident_memory_bytes", ())] > 1 << 20
    assert abs(page.samples[("process_start_time_seconds", ())] - time.time()) < 600


def test_other_paths_are_404_and_other_methods_405(serve):
    server = start(serve)
    for path in ("/", "/metric", "/metrics/", "/metricsx", "/healthz", "/api/v1/admin/status", "/signal"):
        assert ask(server, path=path)[0] == 404, path
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        status, _, headers = ask(server, method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD"), method
    status, body, headers = ask(server, "HEAD")
    assert (status, body) == (200, "") and int(headers["Content-Length"]) > 1_000
    assert ask(server, path="/metrics?name[]=up")[0] == 200


# That it adds up


def test_packets_in_are_relayed_handled_or_dropped_and_nothing_else(serve_all):
    server = serve_all()
    before = scrape(server)
    before.assert_balanced()
    clients = {transport: client_by(transport, server) for transport in TRANSPORTS}
    with server.peer("127.0.0.2") as peer:
        for transport, client in clients.items():
            client.allocated().permitted(peer.address)
            for number in range(10):
                client.send_to(peer.address, bytes([number]) * 100)
                data, source = peer.receive()
                assert (data, source) == (bytes([number]) * 100, client.relayed), transport
                peer.send(data, client.relayed)
                assert client.receive_data() == (peer.address, data), transport
            # Of another length than any padding makes, and by a channel: payload counts, and no header.
            peer.send(b"odd", client.relayed)
            assert client.receive_data() == (peer.address, b"odd"), transport
            client.bound(0x4000, peer.address)
            client.send_channel(0x4000, b"by eight")
            assert peer.receive()[0] == b"by eight", transport
            peer.send(b"seven b", client.relayed)
            assert client.receive_data() == (0x4000, b"seven b"), transport
        with server.peer("127.0.0.3") as stranger:
            for client in clients.values():
                stranger.send(b"no permission", client.relayed)
    cookie = bytearray(stun.build(stun.BINDING))
    cookie[4] ^= 1
    with server.wire() as bad:
        for _ in range(3):
            bad.send(b"\x00\x01\x00")
        for _ in range(4):
            bad.send(b"\xff" * 30)
        for _ in range(5):
            bad.send(bytes(cookie))
        # An answer on the same socket: what was sent before has been seen.
        bad.binding()
    page = wait_until(
        lambda: (found := scrape(server))("dropped_packets_total", reason="peer_not_permitted") == 4 and found,
        10, "the strangers' packets counted",
    )
    # They are there, and all of this is known already.
    assert page("allocations") == 4 and page("allocations_total") == 4
    assert page("relayed_packets_total", direction="to_peers") == 44
    assert page("relayed_packets_total", direction="to_clients") == 48
    assert page("relayed_bytes_total", direction="to_peers") == 4_032
    assert page("relayed_bytes_total", direction="to_clients") == 4_040
    assert page("dropped_packets_total", reason="too_short") == 3
    assert page("dropped_packets_total", reason="unknown_first_byte") == 4
    assert page("dropped_packets_total", reason="wrong_cookie") == 5
    assert page.sum("dropped_packets_total") == 16
    page.assert_balanced()
    for client in clients.values():
        client.close()


def test_counters_are_live_while_an_allocation_runs(serve):
    server = start(serve)
    with server.client() as client, server.peer("127.0.0.2") as peer:
        client.allocated().permitted(peer.address)
        for count in range(1, 6):
            client.send_to(peer.address, b"x" * 50)
            peer.receive()
            page = wait_until(
                lambda: (found := scrape(server))("relayed_packets_total", direction="to_peers") == count and found,
                5, f"{count} packets",
            )
            assert page("relayed_bytes_total", direction="to_peers") == 50 * count
            assert page("allocations") == 1
            page.assert_balanced()


def test_requests_are_counted_by_method_and_transport(serve_all):
    server = serve_all()
    for transport in TRANSPORTS:
        before = scrape(server)
        with client_by(transport, server) as client, server.peer("127.0.0.2") as peer:
            client.challenge()
            client.allocated()
            client.permitted(peer.address)
            client.bound(0x4000, peer.address)
            client.refresh()
            client.refresh(0)
            for _ in range(3):
                client.binding()
        after = scrape(server)

        def gained(method):
            labels = {"method": method, "transport": transport}
            return after("stun_requests_total", **labels) - before("stun_requests_total", **labels)

        # Once each, though the first that names the user waits for the account store.
        assert gained("create_permission") == 1 and gained("channel_bind") == 1, transport
        assert gained("refresh") == 2 and gained("binding") == 3, transport
        assert gained("allocate") == 2, transport
        assert gained("connect") == 0 and gained("connection_bind") == 0
        others = [
            labels for labels, value in after.all("stun_requests_total").items()
            if value != before.all("stun_requests_total")[labels] and dict(labels)["transport"] != transport
        ]
        assert others == []
        assert after("stun_errors_total", code="401") - before("stun_errors_total", code="401") == 1


def test_failed_proofs_are_counted_by_reason(serve):
    server = start(serve, secrets={"web": "shared secret of the web"})
    expected = {}

    def fails(reason, client, code=401):
        with client:
            client.challenge()
            if reason == "foreign_nonce":
                client.nonce = b"N" * len(client.nonce)
            if reason == "wrong_realm":
                client.realm = "elsewhere"
            answer = client.exchange(client.signed(stun.ALLOCATE, [(stun.REQUESTED_TRANSPORT, stun.UDP)]))
            assert answer.error == code, reason
        expected[reason] = expected.get(reason, 0) + 1

    fails("wrong_password", server.client(password="no"))
    fails("wrong_password", server.client(password="nor this"))
    fails("unknown_user", server.client("nobody", "no"))
    fails("foreign_nonce", server.client(), 438)
    fails("wrong_realm", server.client())
    fails("expired", server.client(*stun.time_limited("shared secret of the web", "carol", int(time.time()) - 60)))
    server.cli("user", "add", "dave", "--password-stdin", input=PASSWORD + "\n")
    server.cli("user", "disable", "dave")
    fails("not_allowed", server.client("dave", PASSWORD))
    page = scrape(server)
    found = {dict(labels)["reason"]: value for labels, value in page.all("auth_failures_total").items() if value}
    assert found == expected
    page.assert_balanced()


def test_the_histogram_has_each_allocation_that_has_ended(serve):
    server = start(serve)
    with server.client() as first, server.client() as second:
        first.allocated()
        second.allocated()
        assert scrape(server)("allocation_duration_seconds_count") == 0
        first.refresh(0)
        page = scrape(server)
        assert page("allocation_duration_seconds_count") == 1 and page("allocations") == 1
        second.refresh(0)
    page = scrape(server)
    buckets = sorted((float(dict(labels)["le"]), value) for labels, value in
                     page.all("allocation_duration_seconds_bucket").items())
    counts = [value for _, value in buckets]
    assert counts == sorted(counts) and buckets[-1] == (float("inf"), 2)
    assert page("allocation_duration_seconds_count") == 2
    assert page("allocation_duration_seconds_sum") > 0
    assert (page("allocations"), page("allocations_total")) == (0, 2)


def test_limits_stand_beside_what_is_used_of_them(serve):
    server = start(serve, {"limits": {"allocations_total": 10}, "relay": {"min_port": 21_900, "max_port": 21_999}})
    with server.client() as client:
        client.allocated()
        page = scrape(server)
    assert page("limit", limit="limits.allocations_total") == 10
    assert page("limit_used", limit="limits.allocations_total") == 1
    assert page.sum("relay_ports_used") == 1
    assert set(page.all("relay_ports").values()) == {100}
    assert set(page.all("limit")) == set(page.all("limit_used"))
    assert page("limit", limit="connections") > 0 and page("memory_planned_bytes") > 0


# Signaling and the certificate


def test_signaling_is_counted_by_type_and_by_refusal(serve):
    port = free_port()
    server = signaling.start(serve, environment={"TURNPIKE_LISTEN_METRICS": f"{HOST}:{port}"})
    server.metrics_port = port
    ready(server)
    with signaling.Peer(server) as alice, signaling.Peer(server, "bob", signaling.BOB_PASSWORD) as bob:
        alice.register("alice")
        bob.register("bob")
        alice.join("alice", "hall")
        bob.join("bob", "hall")
        alice.ask("pong", type="ping")
        alice.send(type="signal", to="bob", signal={"n": 1})
        bob.take("signal")
        alice.send(type="nonsense")
        assert alice.take("error")["code"] == "bad-type"
        alice.send(type="lookup", peerId="nobody")
        alice.take("peer")
        page = scrape(server)
        assert page("signaling_connections") == 2 and page("rooms") == 1 and page("signaling_peers") == 2
        found = {dict(labels)["type"]: value for labels, value in page.all("signaling_messages_total").items() if value}
        assert found == {"hello": 2, "register": 2, "join-room": 2, "ping": 1, "signal": 1, "lookup": 1, "other": 1}
        assert page("signaling_rejected_total", reason="bad_type") == 1
        assert page.sum("signaling_rejected_total") == 1
    wait_until(lambda: scrape(server)("signaling_connections") == 0, 10, "the end of both")


def test_the_certificates_end_is_that_of_the_certificate(serve_all, tmp_path):
    server = serve_all()

    def end(path):
        text = subprocess.run(
            ["openssl", "x509", "-noout", "-enddate", "-in", str(path)], capture_output=True, text=True, check=True
        ).stdout
        return ssl.cert_time_to_seconds(text.strip().removeprefix("notAfter="))

    assert scrape(server)("certificate_expiry_timestamp_seconds") == end(server.data / "certificate.pem")
    certificate, key = new_pair(tmp_path, "renewed", days=77)
    shutil.copy(key, server.data / "private-key.pem")
    shutil.copy(certificate, server.data / "certificate.pem")
    server.process.send_signal(signal.SIGUSR2)
    wait_until(
        lambda: scrape(server)("certificate_expiry_timestamp_seconds") == end(certificate), 10, "the new end"
    )


# Where it listens, and who may hold it up


def test_left_out_it_is_on_loopback(serve, cut_off):
    server = serve(namespace=cut_off)

    def page():
        with inside(cut_off):
            try:
                sock = socket.create_connection((HOST, DEFAULT_PORT), timeout=10)
            except ConnectionRefusedError:
                return None
        with sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b"".join(iter(lambda: sock.recv(65_536), b""))

    assert b"turnpike_allocations 0\n" in wait_until(page, 20, "a page at the default port")


def test_left_out_and_taken_it_is_done_without_and_said(serve, cut_off):
    with inside(cut_off):
        taken = socket.create_server((HOST, DEFAULT_PORT))
    with taken:
        server = serve(namespace=cut_off)
        wait_until(lambda: "metrics are not served there" in server.log(), 20, "the warning")
        with server.client() as client:
            client.allocated()


def test_written_and_taken_it_ends_the_start(serve):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        place = f"{HOST}:{taken.getsockname()[1]}"
        server = serve({"listen": {"metrics": [place]}}, start=False)
        server.launch()
        assert server.process.wait(30) == 1
        assert f"cannot listen on {place} for metrics: Address already in use" in server.log()
        server.output.close()
        server.process = None


def test_beyond_loopback_it_is_served_with_a_warning(serve):
    port = free_port()
    server = serve({"listen": {"metrics": [f"0.0.0.0:{port}"]}, "relay": {"allow_loopback_peers": False}}, start=False)
    server.metrics_port = port
    ready(server.start())
    assert scrape(server)("allocations") == 0
    wait_until(lambda: f"metrics are served on 0.0.0.0:{port} to whoever reaches it" in server.log(), 10, "the warning")


def test_slow_clients_are_closed_and_do_not_hold_up_others(serve):
    server = start(serve)
    slow = socket.create_connection((HOST, server.metrics_port), timeout=40)
    slow.sendall(b"GET /metrics HTTP/1.1\r\nHos")
    crowd = [socket.create_connection((HOST, server.metrics_port), timeout=40) for _ in range(20)]
    assert scrape(server)("allocations") == 0
    assert b" 408 " in slow.recv(4_096)
    while slow.recv(4_096):
        pass
    for each in crowd:
        assert each.recv(1) == b""
        each.close()
    slow.close()


def test_connections_in_excess_are_closed_at_once(serve):
    server = start(serve)
    crowd = [socket.create_connection((HOST, server.metrics_port), timeout=5) for _ in range(60)]
    ended = 0
    for each in crowd:
        each.setblocking(False)
    deadline = time.monotonic() + 5
    # Those that are kept live for ten seconds.
    while ended < 28 and time.monotonic() < deadline:
        ended = 0
        for each in crowd:
            try:
                ended += each.recv(1) == b""
            except BlockingIOError:
                pass
            except ConnectionError:
                ended += 1
        time.sleep(0.01)
    assert ended == 28
    for each in crowd:
        each.close()
    wait_until(lambda: _answers(server), 10, "an answer after the crowd")


def _answers(server):
    try:
        return ask(server)[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False


def test_scraping_fifty_times_a_second_disturbs_nobody(serve):
    server = start(serve)
    ended = threading.Event()
    pages = []

    def scrape_on():
        connection = http.client.HTTPConnection(HOST, server.metrics_port, timeout=20)
        while not ended.wait(0.02):
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            assert response.status == 200
            pages.append(Page(response.read().decode()))
        connection.close()

    scrapers = [Background(scrape_on) for _ in range(2)]
    with server.client() as client, server.peer("127.0.0.2") as peer:
        client.allocated().permitted(peer.address)
        count = 0
        while count < 500 or len(pages) < 60:
            client.send_to(peer.address, count.to_bytes(4, "big"))
            data, source = peer.receive()
            peer.send(data, source)
            assert client.receive_data() == (peer.address, count.to_bytes(4, "big"))
            if count % 50 == 0:
                client.refresh()
            count += 1
        ended.set()
        for scraper in scrapers:
            scraper.result()
        page = scrape(server)
        assert page("relayed_packets_total", direction="to_peers") == count
        assert page("relayed_packets_total", direction="to_clients") == count
    # Each adds up, though it was made in the middle of everything.
    for each in pages + [page]:
        each.assert_balanced()
