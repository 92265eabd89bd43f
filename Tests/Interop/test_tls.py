"""TURN by TLS: what is spoken, whose certificate, and its renewal under live connections."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import warnings
from pathlib import Path

import pytest

import stunclient
import stunwire as stun
from harness import PASSWORD, client_address, free_port, merged, wait_until

HOST = "127.0.0.1"


def tls_context(server, **options):
    """Trusts the server's own certificate and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(options.get("trust", server.data / "certificate.pem"))
    if "protocols" in options:
        context.set_alpn_protocols(options["protocols"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if "maximum" in options:
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = options["maximum"]
    if "ciphers" in options:
        context.set_ciphers(options["ciphers"])
    return context


def tls_client(server, name="alice", context=None, **options):
    """A client by TLS, from an address of its own. `context` saves making one for each of many clients."""
    bare = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    secured = (context or tls_context(server, **options)).wrap_socket(bare, server_hostname=HOST)
    return stunclient.StreamClient(
        (HOST, server.tls_port), name, PASSWORD, (client_address(), 0), sock=secured
    )


@pytest.fixture
def serve_tls(serve):
    def start(config=None, **options):
        port = free_port()
        config = merged(config or {}, {"listen": {"tls": [f"{HOST}:{port}"]}})
        server = serve(config, start=False, **options)
        server.tls_port = port
        server.start()
        return server

    return start


def fingerprint(client):
    return client.socket.getpeercert(binary_form=True)


def relays(client, server):
    with server.peer("127.0.0.2") as peer:
        client.permitted(peer.address)
        client.send_to(peer.address, b"sealed")
        data, source = peer.receive()
        return data == b"sealed" and source == client.relayed


def new_pair(directory, name, days=30):
    """An ECDSA pair for 127.0.0.1, made by the openssl command."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}-key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
         str(days), "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{HOST}", "-out", certificate,
         "-keyout", key],
        check=True, capture_output=True,
    )
    key.chmod(0o600)
    return certificate, key


def test_a_client_relays_by_tls_with_the_servers_own_certificate(serve_tls):
    server = serve_tls()
    with tls_client(server, protocols=["stun.turn"]) as client:
        assert client.socket.version() == "TLSv1.3"
        assert client.socket.selected_alpn_protocol() == "stun.turn"
        client.allocated()
        assert relays(client, server)
    assert (server.data / "private-key.pem").stat().st_mode & 0o777 == 0o600


def test_nat_discovery_is_a_protocol_of_its_own(serve_tls):
    """RFC 7443, for a client that wants no relay."""
    server = serve_tls()
    with tls_client(server, protocols=["stun.nat-discovery"]) as client:
        assert client.socket.selected_alpn_protocol() == "stun.nat-discovery"
        assert client.binding() == client.local


def test_tls_1_2_is_served_and_what_is_older_is_not(serve_tls):
    server = serve_tls()
    with tls_client(server, maximum=ssl.TLSVersion.TLSv1_2) as client:
        assert client.socket.version() == "TLSv1.2"
        client.allocated()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        tls_client(server, maximum=ssl.TLSVersion.TLSv1_1, ciphers="ALL:@SECLEVEL=0")


@pytest.mark.parametrize("piece", [1, 100, None])
def test_what_comes_right_behind_the_handshake_is_answered_in_order(serve_tls, piece):
    """In the segment that ends the handshake, and in those after it, while the connection changes threads."""
    server = serve_tls({"workers": 2, "limits": {"binding_replies_per_second": 100_000}})
    for _ in range(8):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = tls_context(server).wrap_bio(incoming, outgoing, server_hostname=HOST)
        with stunclient.Stream((HOST, server.tls_port), (client_address(), 0)) as stream:

            def receive():
                data = stream.socket.recv(65_536)
                assert data, "the server has ended the connection"
                incoming.write(data)

            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    session.do_handshake()
                    break
                stream.write(outgoing.read())
                receive()
            requests = [stun.build(stun.BINDING) for _ in range(100)]
            for request in requests[:50]:
                session.write(request)
            session.write(b"".join(requests[50:]))
            stream.piece_bytes = piece
            stream.write(outgoing.read())
            answers = b""
            while answers.count(stun.COOKIE.to_bytes(4, "big")) < len(requests) or len(answers) % len(requests):
                with contextlib.suppress(ssl.SSLWantReadError):
                    answers += session.read(65_536)
                    continue
                receive()
            size = len(answers) // len(requests)
            got = [answers[at + 8 : at + 20] for at in range(0, len(answers), size)]
            assert got == [request[8:20] for request in requests]


def test_handshakes_are_made_on_a_thread_that_gives_way_to_packets(serve_tls):
    server = serve_tls()
    tasks = {(task / "comm").read_text().strip(): int(task.name)
             for task in Path(f"/proc/{server.pid}/task").iterdir()}
    thread = tasks["handshakes"]
    wait_until(lambda: os.sched_getscheduler(thread) == os.SCHED_BATCH, 5, "the thread has given way")
    assert os.getpriority(os.PRIO_PROCESS, thread) == 10
    assert os.getpriority(os.PRIO_PROCESS, tasks["relay-0"]) == os.getpriority(os.PRIO_PROCESS, server.pid)
    before = Path(f"/proc/{server.pid}/task/{thread}/schedstat").read_text()
    with tls_client(server) as client:
        client.allocated()
    assert Path(f"/proc/{server.pid}/task/{thread}/schedstat").read_text() != before


def test_ciphers_without_authenticated_encryption_are_refused(serve_tls):
    server = serve_tls()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        tls_client(server, maximum=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-SHA:AES128-SHA")


def test_a_client_that_names_another_protocol_alone_is_refused(serve_tls):
    server = serve_tls()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        tls_client(server, protocols=["h2"])


def test_plain_stun_on_the_tls_port_gets_nothing_but_an_end(serve_tls):
    server = serve_tls()
    with stunclient.Stream((HOST, server.tls_port), (client_address(), 0)) as client:
        client.write(stun.build(stun.BINDING))
        # What comes, if anything, is a TLS alert: never an answer.
        assert stun.COOKIE.to_bytes(4, "big") not in client.read_to_end(12)
    server.assert_alive()


def test_a_renewed_certificate_is_for_new_connections_and_ends_no_old_one(serve_tls, tmp_path):
    server = serve_tls()
    clients = [tls_client(server) for _ in range(10)]
    old = fingerprint(clients[0])
    for client in clients:
        client.allocated()
    certificate, key = new_pair(tmp_path, "renewed")
    shutil.copy(key, server.data / "private-key.pem")
    shutil.copy(certificate, server.data / "certificate.pem")
    server.process.send_signal(signal.SIGUSR2)

    def is_new():
        with tls_client(server, trust=certificate) as fresh:
            return fingerprint(fresh) != old

    def try_new():
        try:
            return is_new()
        except ssl.SSLError:
            return False

    wait_until(try_new, 5, "new connections see the renewed certificate")
    for client in clients:
        assert relays(client, server)
        client.close()


def test_a_key_of_another_certificate_is_refused_and_the_old_pair_kept(serve_tls, tmp_path):
    server = serve_tls()
    with tls_client(server) as client:
        old = fingerprint(client)
    trust = shutil.copy(server.data / "certificate.pem", tmp_path / "old.pem")
    certificate, _ = new_pair(tmp_path, "mismatched")
    shutil.copy(certificate, server.data / "certificate.pem")
    server.process.send_signal(signal.SIGUSR2)
    wait_until(
        lambda: any("not reloaded" in entry["message"] for entry in server.log_entries()), 5,
        "the log says that the certificate was not reloaded",
    )
    with tls_client(server, trust=trust) as client:
        assert fingerprint(client) == old


@pytest.mark.parametrize("fault", ["mismatched", "missing", "readable by all"])
def test_a_pair_that_does_not_hold_stops_the_start(serve, tmp_path, fault):
    certificate, key = new_pair(tmp_path, "one")
    if fault == "mismatched":
        _, key = new_pair(tmp_path, "other")
    if fault == "missing":
        key.unlink()
    if fault == "readable by all":
        key.chmod(0o644)
    server = serve(
        {"listen": {"tls": [f"{HOST}:{free_port()}"]},
         "tls": {"certificate": str(certificate), "private_key": str(key)}},
        start=False,
    )
    result = subprocess.run(
        server.command("serve", "--config", str(server.config_path), "--data-dir", str(server.data)),
        capture_output=True, text=True, timeout=20, env=server.environment,
    )
    assert result.returncode == 1
    assert str(key) in result.stderr
