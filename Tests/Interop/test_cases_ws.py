"""Cases WS-01 to WS-24: WebSocket and HTTP, as hostile as the catalogue has them. Names carry the case."""

import base64
import hmac
import json
import os
import re
import select
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness
from harness import PASSWORD, wait_until
from signaling import HOST, API, Peer, Raw, frame, pinned, start

GOOD = "https://good.tld"


@pytest.fixture(scope="module")
def shared(serve_module):
    server = start(serve_module, {"signaling": {"allowed_origins": [GOOD], "connections_per_address": 2000}})
    yield server
    server.assert_alive()


@pytest.fixture
def opened(shared):
    with Raw(shared) as raw:
        assert raw.upgrade()[0] == 101
        yield raw
    shared.assert_alive()


@pytest.fixture
def known(shared):
    """A connection that has said who it is."""
    credentials = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    with Raw(shared) as raw:
        assert raw.upgrade(f"Authorization: Basic {credentials}")[0] == 101
        assert json.loads(raw.receive()[1])["type"] == "welcome"
        yield raw
    shared.assert_alive()


def test_WS_01_every_case_of_the_autobahn_suite_but_compression(tmp_path):
    echo = subprocess.Popen([str(harness.BINARY.parent / "websocket-echo")], stdout=subprocess.PIPE, text=True)
    try:
        port = int(echo.stdout.readline())
        kosoku = Path(sys.executable).parent / "kosoku"
        run = subprocess.run(
            [str(kosoku), "-x", "12.*", "-x", "13.*", "-p", "4", "-o", str(tmp_path), f"ws://{HOST}:{port}"],
            capture_output=True, text=True, timeout=280,
        )
        assert run.returncode == 0 and "cases passed" in run.stdout, run.stdout[-3000:] + run.stderr[-1000:]
        assert echo.poll() is None
    finally:
        echo.kill()
        echo.wait()


@pytest.mark.parametrize("origin", [
    "https://evil.tld", "null", "https://good.tld.evil.tld", "http://good.tld", "HTTPS://GOOD.TLD", "https://good.tld/",
    "https://good.tld:8443", "",
])
def test_WS_02_a_foreign_origin_is_refused_before_101(shared, origin):
    with Raw(shared) as raw:
        status, _, body = raw.upgrade(f"Origin: {origin}")
        assert status == 403 and json.loads(body)["status"] == 403


def test_WS_02_an_allowed_origin_and_none_at_all_come_in(shared):
    for fields in ([f"Origin: {GOOD}"], []):
        with Raw(shared) as raw:
            assert raw.upgrade(*fields)[0] == 101
    # A cookie proves nothing: who has no Origin still has to show credentials.
    with Raw(shared) as raw:
        assert raw.upgrade("Cookie: session=alice")[0] == 101
        raw.frame(1, b'{"type":"register","peerId":"alice"}')
        assert json.loads(raw.receive()[1])["code"] == "unauthenticated"


def test_WS_02_the_servers_own_pages_come_in_and_those_of_its_other_names_do_not(shared):
    for origin, status in ((f"https://{HOST}", 101), (f"http://{HOST}", 403), (f"https://{HOST}:1", 403),
                           (f"https://{HOST}.evil.tld", 403)):
        with Raw(shared) as raw:
            assert raw.upgrade(f"Origin: {origin}")[0] == status, origin
    with Raw(shared) as raw:
        # The page of another port of this host asks for this port: another origin.
        key = base64.b64encode(os.urandom(16)).decode()
        raw.send((f"GET /signal HTTP/1.1\r\nHost: {HOST}:8443\r\nOrigin: https://{HOST}\r\nUpgrade: websocket\r\n"
                  f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        assert raw.head()[0] == 403


def test_WS_02_without_tls_a_host_proves_nothing(serve):
    # Who makes a name of his own point at this server has its pages' scripts send that name as Origin and Host alike.
    server = start(serve, {"signaling": {"allow_plaintext": True}})
    for tls, origin, status in ((False, f"http://{HOST}", 403), (False, f"https://{HOST}", 403),
                                (True, f"https://{HOST}", 101)):
        with Raw(server, tls=tls) as raw:
            assert raw.upgrade(f"Origin: {origin}")[0] == status, (tls, origin)


def test_WS_03_an_unmasked_frame(opened):
    opened.frame(1, b'{"type":"ping"}', masked=False)
    assert opened.close_code() == 1002


@pytest.mark.parametrize("reserved", [1, 2, 4, 7])
def test_WS_04_a_reserved_bit(opened, reserved):
    opened.frame(1, b"{}", reserved=reserved)
    assert opened.close_code() == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_WS_04_an_unknown_opcode(opened, opcode):
    opened.frame(opcode, b"")
    assert opened.close_code() == 1002


@pytest.mark.parametrize("opcode", [8, 9, 10])
@pytest.mark.parametrize("options", [{"payload": b"x" * 126}, {"payload": b"x", "final": False}])
def test_WS_05_a_control_frame_that_is_long_or_in_parts(opened, opcode, options):
    opened.frame(opcode, **options)
    assert opened.close_code() == 1002


def test_WS_06_a_length_with_its_top_bit_set(opened):
    opened.frame(1, announced=1 << 63, length=64)
    assert opened.close_code() == 1002


def test_WS_06_a_length_of_half_the_address_space_costs_nothing(opened, shared):
    before = shared.resident_kib()
    opened.frame(1, announced=(1 << 63) - 1, length=64)
    assert opened.close_code() == 1009
    assert shared.resident_kib() - before < 4096


def test_WS_06_a_length_in_more_bits_than_it_needs(opened):
    opened.frame(1, b'{"type":"ping"}', length=64)
    assert json.loads(opened.receive()[1])["code"] == "unauthenticated"


def test_WS_07_a_frame_of_a_byte_too_much_is_refused_by_its_header(known):
    known.frame(1, announced=65_537, length=64)
    assert known.close_code() == 1009


def test_WS_07_fragments_that_sum_up_to_too_much(known):
    known.frame(1, b"x" * 40_000, final=False)
    known.frame(0, announced=25_537, length=16)
    assert known.close_code() == 1009


def test_WS_07_strangers_have_less(opened, shared):
    opened.frame(1, announced=16_385, length=16)
    assert opened.close_code() == 1009
    with Peer(shared) as alice:
        alice.socket.send(json.dumps({"type": "time", "t0": 1, "filler": "x" * 60_000}))
        assert alice.take("time")["t0"] == 1


def test_WS_08_ten_thousand_fragments(opened):
    data = frame(1, b"{", final=False) + b"".join(frame(0, b" ", final=False) for _ in range(10_000))
    try:
        opened.send(data)
    except (ConnectionError, ssl.SSLError):
        pass
    assert opened.close_code() == 1008


def test_WS_08_a_message_of_segments_of_one_byte(opened):
    for byte in frame(1, b'{"type":"ping","id":1}'):
        opened.send(bytes([byte]))
    assert json.loads(opened.receive()[1])["id"] == 1


def test_WS_09_empty_fragments_without_end(opened):
    opened.send(frame(1, b"", final=False) + b"".join(frame(0, b"", final=False) for _ in range(1_000)))
    assert opened.close_code() == 1008


@pytest.mark.parametrize("text", [b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\x80"])
def test_WS_10_text_that_is_not_utf_8(opened, text):
    opened.frame(1, b'{"a":"' + text + b'"}' if text != b"\xc3" else text)
    assert opened.close_code() == 1007


def test_WS_10_a_wrong_byte_is_found_before_the_message_ends(opened):
    opened.frame(1, b"\xce\xba\xe1\xbd", final=False)
    opened.frame(0, b"\xb9\xed\xa0", final=False)
    assert opened.close_code() == 1007


@pytest.mark.parametrize("payload, code", [
    (b"\x03", 1002), (b"\x00\x00", 1002), (b"\x03\xe7", 1002), (b"\x03\xec", 1002), (b"\x03\xed", 1002),
    (b"\x03\xee", 1002), (b"\x03\xf7", 1002), (b"\x0b\xb7", 1002), (b"\x13\x88", 1002), (b"\x03\xe8\xff", 1007),
    (b"\x03\xe8", 1000), (b"\x03\xe8bye", 1000), (b"\x0f\xa0", 4000),
])
def test_WS_11_close_codes(opened, payload, code):
    opened.frame(8, payload)
    assert opened.close_code() == code
    assert opened.ends()


def test_WS_12_a_thousand_pings_at_once(opened):
    opened.send(b"".join(frame(9, b"x") for _ in range(1_000)))
    pongs = 0
    while True:
        opcode, payload = opened.receive()
        if opcode == 8:
            assert payload[:2] == (1008).to_bytes(2, "big")
            break
        pongs += opcode == 10
    assert pongs <= 64


def test_WS_12_pings_of_a_client_that_does_not_read(shared):
    with Raw(shared) as raw:
        raw.upgrade()
        before = shared.resident_kib()
        try:
            for _ in range(100):
                raw.send(b"".join(frame(9, b"x" * 125) for _ in range(100)))
        except (ConnectionError, ssl.SSLError, TimeoutError):
            pass
        assert shared.resident_kib() - before < 8192
    shared.assert_alive()


def test_WS_13_compression_is_never_agreed_on(shared):
    offer = ("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
             "server_max_window_bits=15; client_max_window_bits")
    with Raw(shared) as raw:
        status, fields, _ = raw.upgrade(offer)
        assert status == 101 and "sec-websocket-extensions" not in fields
        raw.frame(1, b"\xaa" * 100, reserved=4)
        assert raw.close_code() == 1002


@pytest.mark.parametrize("fields", [
    ["X: " + "a" * 8_190], [f"X-{number}: a" for number in range(101)],
    [f"X-{number}: {'a' * 1000}" for number in range(17)],
    ["Sec-WebSocket-Protocol: " + "a," * 50_000],
], ids=["a line of 8 KiB", "101 fields", "17 KiB", "100 KB of protocols"])
def test_WS_14_a_head_that_is_too_large(shared, fields):
    with Raw(shared) as raw:
        try:
            status, _, _ = raw.request("GET /healthz HTTP/1.1", *fields)
        except (ConnectionError, ssl.SSLError, EOFError):
            pytest.fail("no answer before the end")
        assert status == 431
        assert raw.ends()


def test_WS_14_a_head_that_trickles(shared):
    with Raw(shared) as raw:
        began = time.monotonic()
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        raw.socket.settimeout(0.5)
        answer = b""
        while time.monotonic() - began < 14:
            try:
                raw.send(b"X: y\r\n"[:1])
                more = raw.socket.recv(4096)
                if not more:
                    break
                answer += more
            except TimeoutError:
                continue
            except (ConnectionError, ssl.SSLError):
                break
        assert b" 408 " in answer.split(b"\r\n")[0]
        assert time.monotonic() - began < 14


HEAD = f"Host: {HOST}\r\n"


@pytest.mark.parametrize("text, statuses", [
    (f"POST /healthz HTTP/1.1\r\n{HEAD}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", {400}),
    (f"POST /healthz HTTP/1.1\r\n{HEAD}Content-Length: 3, 3\r\n\r\nabc", {400}),
    (f"POST /healthz HTTP/1.1\r\n{HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    (f"POST /healthz HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {411}),
    (f"GET /healthz HTTP/1.1\n{HEAD}\r\n", {400}),
    (f"GET /healthz HTTP/1.1\r\nHost: {HOST}\n\r\n", {400}),
    (f"GET /healthz HTTP/1.1\r\n{HEAD}X: a\r\n  folded\r\n\r\n", {400}),
    (f"GET /healthz HTTP/1.1\r\n{HEAD}X: a\0b\r\n\r\n", {400}),
    (f"GET /healthz HTTP/1.1\r\n{HEAD}X : a\r\n\r\n", {400}),
    (f"GET http://{HOST}/healthz HTTP/1.1\r\n{HEAD}\r\n", {400}),
    ("GET /healthz\r\n\r\n", {400}),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    (f"GET /healthz HTTP/3.0\r\n{HEAD}\r\n", {505}),
    (f"POST /healthz HTTP/1.1\r\n{HEAD}Content-Length: -1\r\n\r\n", {400}),
    (f"POST /healthz HTTP/1.1\r\n{HEAD}Content-Length: +1\r\n\r\na", {400}),
    (f"POST /healthz HTTP/1.1\r\n{HEAD}Content-Length: {10 ** 30}\r\n\r\n", {400, 413}),
    (f"POST /healthz HTTP/1.1\r\n{HEAD}Content-Length: 65537\r\n\r\n", {413}),
    (f"GET /healthz HTTP/1.1\r\n{HEAD}Content-Length: 3\r\n\r\nabc", {400}),
    ("GET /healthz HTTP/1.1\r\n\r\n", {400}),
    (f"GET /healthz HTTP/1.1\r\n{HEAD}{HEAD}\r\n", {400}),
    (f"G\x01T /healthz HTTP/1.1\r\n{HEAD}\r\n", {400}),
    (f"GET /a b HTTP/1.1\r\n{HEAD}\r\n", {400}),
])
def test_WS_15_what_two_parsers_could_read_differently(shared, text, statuses):
    with Raw(shared) as raw:
        # Whatever stands behind it is never taken for a request of its own.
        raw.send(text.encode("latin-1") + f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n".encode())
        status, fields, _ = raw.head()
        assert status in statuses and fields["connection"] == "close"
        assert raw.buffer == b""
        assert raw.ends()
        assert raw.buffer == b""


def test_WS_15_requests_in_a_row_are_answered_in_order(shared):
    with Raw(shared) as raw:
        raw.send((f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n" + f"GET /nothing HTTP/1.1\r\n{HEAD}\r\n").encode() * 20)
        assert [raw.head()[0] for _ in range(40)] == [200, 404] * 20


def test_WS_16_handshakes_that_are_none(shared):
    with Raw(shared) as raw:
        status, fields, _ = raw.upgrade(version="12")
        assert status == 426 and fields["sec-websocket-version"] == "13"
    for key in ("", "c2hvcnQ=", "not base64 at all!!!!!!!", "A" * 24):
        with Raw(shared) as raw:
            assert raw.upgrade(key=key)[0] == 400
    with Raw(shared) as raw:
        assert raw.request("GET /signal HTTP/1.1")[0] == 400
    with Raw(shared) as raw:
        status, fields, _ = raw.upgrade(line="POST /signal HTTP/1.1")
        assert status == 405 and fields["allow"] == "GET"


def test_WS_17_frames_before_101_are_frames(shared):
    with Raw(shared) as raw:
        early = frame(1, b'{"type":"ping","id":7}')
        assert raw.upgrade(after=early)[0] == 101
        assert json.loads(raw.receive()[1])["id"] == 7


def test_WS_17_what_comes_behind_a_close_frame_is_ignored(opened):
    opened.send(frame(8, b"\x03\xe8") + frame(1, b'{"type":"ping"}') * 10)
    assert opened.receive()[0] == 8
    assert opened.ends()


def test_WS_18_silence_instead_of_hello(opened):
    began = time.monotonic()
    assert opened.close_code() == 4401
    assert 4 < time.monotonic() - began < 9


def test_WS_19_a_token_in_the_address_is_nothing(shared):
    secret = "tpk_" + "z" * 52
    with Raw(shared) as raw:
        assert raw.upgrade(line=f"GET /signal?token={secret} HTTP/1.1")[0] == 101
        raw.frame(1, b'{"type":"ping"}')
        assert json.loads(raw.receive()[1])["code"] == "unauthenticated"
    assert secret not in shared.log()


def test_WS_20_what_is_not_there_is_not_there_at_one_length(shared):
    paths = ["/nothing", "/..%2f..%2fetc/passwd", "/../../etc/passwd", "/" + "a" * 8_000, "/metrics", "/%00", "//",
             "/api/v1/nothing", "/healthz/more"]
    answers = set()
    for path in paths:
        with Raw(shared) as raw:
            status, fields, body = raw.request(f"GET {path} HTTP/1.1")
            assert status == 404
            answers.add((fields["content-length"], body))
    assert len(answers) == 1


@pytest.mark.parametrize("path, kind", [
    ("/", "text/html"), ("/admin", "text/html"), ("/assets/test.js", "text/javascript"),
    ("/assets/admin.js", "text/javascript"), ("/assets/plot.js", "text/javascript"), ("/assets/style.css", "text/css"),
    ("/assets/icon.svg", "image/svg+xml"),
])
def test_WS_20_pages_say_what_they_may_load(shared, path, kind):
    with Raw(shared) as raw:
        status, fields, body = raw.request(f"GET {path} HTTP/1.1")
        assert status == 200 and fields["content-type"].startswith(kind) and body
        assert fields["x-content-type-options"] == "nosniff" and fields["cache-control"] == "no-store"
        policy = fields["content-security-policy"].split("; ")
        assert {"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(policy)
        assert not any(word in fields["content-security-policy"] for word in ("unsafe", "*", "data:", "http:"))
        if kind == "text/html":
            assert {"script-src 'self'", "style-src 'self'", "img-src 'self'",
                    f"connect-src 'self' wss://{HOST}"} <= set(policy)
        raw.send(f"HEAD {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += raw.socket.recv(65536)
        assert head.startswith(b"HTTP/1.1 200 ") and head.endswith(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}\r\n".encode() in head
        # The next answer stands right behind that head.
        status, fields, _ = raw.request(f"POST {path} HTTP/1.1", "Content-Length: 0")
        assert (status, fields["allow"]) == (405, "GET, HEAD")


def test_WS_20_every_answer_says_what_browsers_must_not_do(shared):
    for path in ("/healthz", "/nothing", "/api/v1/rooms"):
        with Raw(shared) as raw:
            _, fields, _ = raw.request(f"GET {path} HTTP/1.1")
            assert fields["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in fields["content-security-policy"]
            assert fields["cache-control"] == "no-store" and fields["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_WS_21_old_versions_of_tls_are_refused(shared, version):
    import warnings

    context = pinned(shared)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection((HOST, shared.https_port)) as bare:
        context.wrap_socket(bare, server_hostname=HOST)


@pytest.mark.parametrize(
    "ciphers", ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "NULL", "DHE-RSA-AES128-SHA"],
)
def test_WS_21_ciphers_without_forward_secrecy_or_authentication_are_refused(shared, ciphers):
    context = pinned(shared)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.set_ciphers(ciphers + ":@SECLEVEL=0")
    except ssl.SSLError:
        return  # This client does not even know it.
    with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection((HOST, shared.https_port)) as bare:
        context.wrap_socket(bare, server_hostname=HOST)


def test_WS_21_sslscan_finds_nothing_old(shared):
    # It needs the terminal's colours turned off, and looks for renegotiation and compression besides.
    done = subprocess.run(["sslscan", "--no-colour", "--no-failed", f"{HOST}:{shared.https_port}"], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    report = done.stdout
    for name in ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"):
        assert re.search(rf"^{re.escape(name)}\s+disabled$", report, re.MULTILINE), report
    for name in ("TLSv1.2", "TLSv1.3"):
        assert re.search(rf"^{re.escape(name)}\s+enabled$", report, re.MULTILINE), report
    # Debian's sslscan cannot speak compression, and says so.
    assert "Compression enabled" not in report and "Session renegotiation not supported" in report, report
    assert "vulnerable to heartbleed" not in report.replace("not vulnerable to heartbleed", "")
    ciphers = re.findall(r"^(?:Preferred|Accepted)\s+(TLSv\S+)\s+\d+ bits\s+(\S+)", report, re.MULTILINE)
    assert ciphers
    for version, cipher in ciphers:
        is_sound = cipher.startswith("TLS_") if version == "TLSv1.3" else cipher.startswith("ECDHE-")
        assert is_sound and ("GCM" in cipher or "CHACHA20" in cipher.upper()), (version, cipher)


def test_a_client_that_hears_much_may_answer_every_ping_of_the_server(serve):
    """The server asks by pings how far a client has come, the more often the more it is sent: its pongs are not a
    flood."""
    server = start(serve, {"signaling": {"messages_per_second": 100_000, "burst": 100_000}})
    with Peer(server) as alice, Peer(server, "bob") as bob:
        alice.register("alice")
        bob.register("bob")
        blob = "x" * 20_000
        for number in range(400):
            alice.send(type="signal", to="bob", signal=[number, blob])
            assert bob.take("signal")["signal"][0] == number
        assert bob.ask("pong", type="ping")


@pytest.mark.parametrize("shape", ["whole", "half", "eager"])
def test_what_comes_with_the_end_of_the_handshake_is_not_missed(serve, tool, tmp_path, shape):
    """Two thousand connections, sixty-four at a time, whose request leaves in one segment with TLS's Finished: whole,
    cut in the middle, or with the first WebSocket frame behind it."""
    server = start(serve, {"signaling": {"connections_per_user": 3_000, "connections_per_address": 3_000,
                                         "messages_per_second": 10_000, "burst": 10_000}},
                   secrets={"load": "secret of the load"})
    users = tmp_path / "users"
    lines = []
    for number in range(100):
        username = f"{int(time.time()) + 3_600}:user{number}"
        mac = hmac.digest(b"secret of the load", username.encode(), "sha1")
        lines.append(f"{username} {base64.b64encode(mac).decode()}\n")
    users.write_text("".join(lines))
    done = subprocess.run(
        [tool("sigload"), HOST, str(server.https_port), server.data / "certificate.pem", users, "2000", shape],
        input="ping\n", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    opening, pings = map(json.loads, done.stdout.splitlines())
    assert (opening["ready"], opening["failed"]) == (2_000, 0), opening
    assert pings == {"asked": 2_000, "answered": 2_000, "closed": 0}
    server.assert_alive()


def test_WS_22_alpn(shared):
    with Raw(shared, protocols=["h2", "http/1.1"]) as raw:
        assert raw.socket.selected_alpn_protocol() == "http/1.1"
        assert raw.request()[0] == 200
    for refused in (["h2"], ["stun.turn"]):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Raw(shared, protocols=refused)


@pytest.mark.parametrize("name", [None, "nobody.example", ".".join(["a" * 62] * 4)[:253]])
def test_WS_23_any_name_and_none_get_the_certificate(shared, name):
    context = pinned(shared)
    context.check_hostname = False
    with socket.create_connection((HOST, shared.https_port)) as bare:
        with context.wrap_socket(bare, server_hostname=name) as secured:
            secured.sendall(f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n".encode())
            assert b"200 OK" in secured.recv(4096)


def test_WS_24_a_peer_that_vanishes_leaves_once(serve, namespaces):
    """A socket whose other end is gone without a word: frozen, so that its kernel answers and it does not."""
    server = start(serve, {"signaling": {"resume_window": "0s"}})
    program = (
        "import sys; sys.path.insert(0, %r); sys.argv=['x']; import signaling, types, pathlib, time\n"
        "server = types.SimpleNamespace(data=pathlib.Path(%r), https_port=%d)\n"
        "peer = signaling.Peer(server, 'bob', password=%r)\n"
        "peer.register('bob'); peer.join('bob', 'r'); print('in', flush=True); time.sleep(600)\n"
    ) % (str(Path(__file__).parent), str(server.data), server.https_port, "another long passphrase 43")
    with Peer(server) as alice:
        alice.register("alice")
        alice.join("alice", "r")
        gone = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        try:
            assert gone.stdout.readline() == "in\n"
            alice.take("peer-joined")
            gone.send_signal(19)
            began = time.monotonic()
            # Alice answers her own pings by reading.
            assert alice.take("peer-left", timeout=95)["peerId"] == "bob"
            assert 25 < time.monotonic() - began < 90
            assert alice.is_silent()
        finally:
            gone.kill()
            gone.wait()


def test_a_client_that_reads_nothing_is_closed_and_the_others_notice_nothing(serve):
    server = start(serve, {"signaling": {"messages_per_second": 100_000, "burst": 100_000}})
    slow, other = Peer(server, "bob"), Peer(server, "bob")
    slow.register("bob/slow")
    other.register("bob/other")
    with Peer(server) as alice:
        alice.register("alice")
        slow.socket.pause()
        before = server.resident_kib()
        blob = "x" * 30_000
        for number in range(600):
            alice.send(type="signal", to="bob/slow", signal=blob)
        alice.send(type="signal", to="bob/other", signal="still here")
        assert other.take("signal")["signal"] == "still here"
        assert server.resident_kib() - before < 65_536
        alice.ask("pong", type="ping")
        status = API(server, over_socket=True).get("/api/v1/admin/sessions")["signaling"]
        assert [entry["client"] for entry in status if entry["peers"] == ["bob/slow"]] in ([], [None])
    slow.cut()
    other.close()
    server.assert_alive()


def test_RE_11_a_member_that_never_reads_is_closed_and_its_room_hears_everything(serve):
    server = start(serve, {"signaling": {"messages_per_second": 100_000, "burst": 100_000}})
    slow, other = Peer(server, "bob"), Peer(server, "bob")
    with Peer(server) as alice:
        for peer, name in ((slow, "bob/slow"), (other, "bob/other"), (alice, "alice")):
            peer.register(name)
            peer.join(name, "talk")
        slow.socket.pause()
        before = server.resident_kib()
        blob = "x" * 30_000
        for number in range(600):
            alice.send(type="broadcast", roomId="talk", data=[number, blob])
            assert other.take("broadcast")["data"][0] == number
        # 18 MB were said. The kernel's buffers hold a few, and this server 256 KiB.
        assert server.resident_kib() - before < 16_384

        def is_closed():
            sessions = API(server, over_socket=True).get("/api/v1/admin/sessions")["signaling"]
            return [entry["client"] for entry in sessions if entry["peers"] == ["bob/slow"]] in ([], [None])

        wait_until(is_closed, 10, "the end of the connection of who does not read")
        assert alice.ask("pong", type="ping") and other.ask("pong", type="ping")
    slow.cut()
    other.close()
    server.assert_alive()


def test_ws_without_tls_only_where_it_is_allowed(serve):
    closed = start(serve)
    with Raw(closed, tls=False) as raw:
        raw.send(f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n".encode())
        assert raw.ends()
        assert b"HTTP" not in raw.buffer
    open_ = start(serve, {"signaling": {"allow_plaintext": True}})
    with Raw(open_, tls=False) as raw:
        assert raw.upgrade()[0] == 101
    with Raw(open_) as raw:
        assert raw.upgrade()[0] == 101


def test_a_connection_that_says_nothing_is_closed(shared):
    with socket.create_connection((HOST, shared.https_port)) as silent:
        silent.settimeout(14)
        assert silent.recv(1) == b""


def test_the_cap_of_connections_of_an_address_stands_before_authentication(serve):
    server = start(serve, {"signaling": {"connections_per_address": 5}})
    sockets = []
    try:
        for _ in range(60):
            sockets.append(socket.create_connection((HOST, server.https_port)))
        # Who is not admitted is closed, which is all that can be read on any of them.
        wait_until(lambda: len(select.select(sockets, [], [], 0)[0]) == 60 - 5 - 32, 8, "23 to be refused")
    finally:
        for bare in sockets:
            bare.close()

    def is_served():
        try:
            return API(server).call("GET", "/healthz")[0] == 200
        except OSError:
            return False

    wait_until(is_served, 5, "room again")
