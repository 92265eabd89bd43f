"""pion/turn: its client on our server, and the client library's relays on its server, by each transport."""

import json
import os
import subprocess

import pytest

import harness
from certificates import issued_pair
from harness import PASSWORD, free_port, wait_until
from pionpeer import built

HOST = "127.0.0.1"
TRANSPORTS = ["udp", "tcp", "tls", "dtls"]
DATAGRAMS = 2_000
SECRET = {"PATH": os.environ["PATH"], "TURN_PASSWORD": PASSWORD}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return issued_pair(tmp_path_factory.mktemp("certificate"), [HOST])


@pytest.fixture(scope="module")
def program():
    return str(built("turn"))


@pytest.fixture(scope="module")
def turnpike(serve_module, certificate):
    chain, key, _ = certificate
    secure = free_port()
    server = serve_module({
        "listen": {"tcp": [], "tls": [f"{HOST}:{secure}"], "dtls": [f"{HOST}:{secure}"]},
        "tls": {"certificate": str(chain), "private_key": str(key)},
    }, start=False)
    server.write_config({"listen": {"tcp": [f"{HOST}:{server.port}"]}})
    server.start()
    server.secure_port = secure
    yield server
    server.assert_alive()


@pytest.fixture(scope="module")
def pion(program, certificate):
    """The ports of pion's server, by transport."""
    chain, key, _ = certificate
    port, secure = free_port(), free_port()
    server = subprocess.Popen(
        [program, "server", HOST, str(port), str(secure), "alice", str(chain), str(key)], env=SECRET, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert server.stdout.readline() == "ready\n"
        yield {"udp": port, "tcp": port, "tls": secure, "dtls": secure}
    finally:
        server.stdin.close()
        try:
            server.wait(10)
        finally:
            server.kill()
            server.wait()


def play(program, turnpike, certificate, transport, count=DATAGRAMS, password=PASSWORD):
    port = turnpike.secure_port if transport in ("tls", "dtls") else turnpike.port
    done = subprocess.run(
        [program, "client", HOST, str(port), transport, "alice", str(count), str(certificate[2])],
        env=SECRET | {"TURN_PASSWORD": password}, capture_output=True, text=True, timeout=60)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_pions_client_loses_nothing(program, turnpike, certificate, transport):
    told = play(program, turnpike, certificate, transport)
    assert told["failure"] is None, told
    counts = {name: told[name] for name in ("sent", "arrived", "returned", "broken")}
    assert counts == {"sent": DATAGRAMS, "arrived": DATAGRAMS, "returned": DATAGRAMS, "broken": 0}
    # There is no NAT between them.
    assert told["mapped"] == told["local"] and told["lifetimeSeconds"] == 1800, told
    port = int(told["relayed"].rsplit(":", 1)[1])
    wait_until(lambda: not turnpike.has_relay_port(port), 10, "the allocation is given back")


def test_pions_client_is_refused_with_a_wrong_password(program, turnpike, certificate):
    told = play(program, turnpike, certificate, "udp", count=1, password="wrong")
    assert "401" in told["failure"] and told["relayed"] == "", told


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_is_lost_through_pions_server(pion, certificate, transport):
    relays = str(harness.BINARY.parent / "relay-client")
    done = subprocess.run(
        [relays, HOST, str(pion[transport]), transport, "alice", PASSWORD, str(DATAGRAMS), str(certificate[2])],
        capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == {
        "transport": transport, "sent": DATAGRAMS, "received": DATAGRAMS, "broken": 0, "failure": None,
    }
