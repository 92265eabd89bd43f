"""The client library's relays on our server and on Debian's coturn, by each transport."""

import json
import os
import socket
import subprocess

import pytest

import harness
from certificates import issued_pair
from harness import PASSWORD, free_port, wait_until

HOST = "127.0.0.1"
TRANSPORTS = ["udp", "tcp", "tls", "dtls"]
DATAGRAMS = 2_000
# Those of Debian, of whom none has signed anything here.
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def exchange(port, transport, authority, password=PASSWORD, count=DATAGRAMS, options=()):
    """Datagrams between two relays and back: what `relay-client` says of them."""
    program = str(harness.BINARY.parent / "relay-client")
    command = [program, HOST, str(port), transport, "alice", password, str(count), str(authority), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=45)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return issued_pair(tmp_path_factory.mktemp("certificate"), [HOST])


@pytest.fixture
def turnpike(serve, certificate):
    chain, key, _ = certificate
    secure = free_port()
    server = serve({
        "listen": {"tcp": [], "tls": [f"{HOST}:{secure}"], "dtls": [f"{HOST}:{secure}"]},
        "relay": {"mobility": True},
        "tls": {"certificate": str(chain), "private_key": str(key)},
    }, start=False)
    server.write_config({"listen": {"tcp": [f"{HOST}:{server.port}"]}})
    server.start()
    return {"udp": server.port, "tcp": server.port, "tls": secure, "dtls": secure}


@pytest.fixture
def coturn(tmp_path, certificate):
    chain, key, _ = certificate
    port, secure = free_port(), free_port()
    # As another user it could not read the test's own folder.
    process = subprocess.Popen(
        ["turnserver", "-n", "--listening-ip", HOST, "--relay-ip", HOST, "--listening-port", str(port),
         "--tls-listening-port", str(secure), "--lt-cred-mech", "--user", f"alice:{PASSWORD}", "--realm", "coturn",
         "--cert", str(chain), "--pkey", str(key), "--allow-loopback-peers", "--no-cli", "--no-rfc5780",
         "--log-file", "stdout", "--pidfile", str(tmp_path / "coturn.pid"), "--userdb", str(tmp_path / "users.db"),
         "--proc-user", "root", "--proc-group", "root"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path, env={"PATH": os.environ["PATH"]},
    )
    try:
        wait_until(lambda: answers(process, port), 10, "coturn's answer")
        yield {"udp": port, "tcp": port, "tls": secure, "dtls": secure}
    finally:
        process.kill()
        process.wait()


def answers(process, port):
    assert process.poll() is None, f"coturn ended with {process.returncode}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.2)
        probe.sendto(bytes.fromhex("000100002112a442") + os.urandom(12), (HOST, port))
        try:
            return probe.recv(1_500)
        except OSError:
            return None


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_is_lost_through_our_server(turnpike, certificate, transport):
    result = exchange(turnpike[transport], transport, certificate[2])
    assert result == {"transport": transport, "sent": DATAGRAMS, "received": DATAGRAMS, "broken": 0, "failure": None}


@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_a_relay_goes_along_to_another_socket(turnpike, certificate, transport):
    """RFC 8016, as when the machine's addresses change."""
    result = exchange(turnpike[transport], transport, certificate[2], count=200, options=["move"])
    assert result == {"transport": transport, "sent": 200, "received": 200, "broken": 0, "failure": None}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_is_lost_through_coturn(coturn, certificate, transport):
    result = exchange(coturn[transport], transport, certificate[2])
    assert result == {"transport": transport, "sent": DATAGRAMS, "received": DATAGRAMS, "broken": 0, "failure": None}


@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_a_wrong_password_is_named(coturn, certificate, transport):
    failure = exchange(coturn[transport], transport, certificate[2], password="wrong", count=1)["failure"]
    assert "does not accept this username and password" in failure
    assert "check TURN_USERNAME and TURN_PASSWORD" in failure


@pytest.mark.parametrize("transport", ["tls", "dtls"])
def test_a_certificate_of_nobody_known_is_named(turnpike, transport):
    failure = exchange(turnpike[transport], transport, AUTHORITIES, count=1)["failure"]
    assert "signed by nobody that is trusted here" in failure
    assert "TURNPIKE_CA_FILE" in failure


def test_a_server_that_does_not_listen_is_named(certificate):
    failure = exchange(free_port(), "tcp", certificate[2], count=1)["failure"]
    assert "nothing listens there" in failure
