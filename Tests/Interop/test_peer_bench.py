"""`turnpike-peer bench`: load on our server and on coturn, and what it refuses."""

import signal
import subprocess

import pytest

import harness
from harness import PASSWORD, free_port, wait_until
from peertool import BINARY, coturn, fingerprint, peer, report, servers

TRANSPORTS = ("udp", "tcp", "tls", "dtls")


@pytest.fixture(scope="module")
def loaded(serve_module):
    """A server that takes many from one address."""
    tls = free_port()
    limits = {"allocations_per_user": 2000, "unauthenticated_replies_per_second": 1000}
    server = serve_module({"listen": {name: [f"127.0.0.1:{tls}"] for name in ("tls", "dtls")}, "limits": limits})
    server.tls_port = server.dtls_port = tls
    return server


def environment(server):
    printed = server.cli("user", "passwd", "alice", "--password-stdin", "--format", "env", "--config",
                         str(server.config_path), input=PASSWORD + "\n").stdout
    return dict(line.split("=", 1) for line in printed.replace("'", "").splitlines())


def url(server, transport):
    return f"turn:127.0.0.1:{server.port}" if transport in ("udp", "tcp") else f"turns:127.0.0.1:{server.tls_port}"


def load(server, *arguments, transport="udp", **options):
    return report("bench", "--server", url(server, transport), "--transport", transport, *arguments,
                  environment=environment(server), **options)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_is_sent_through_our_server_comes_back(loaded, transport):
    found, status = load(loaded, "--rate", 200, "--duration", "1s", "--connections", 4, transport=transport)
    result = found["result"]
    assert status == 0 and found["connections"] == 4 and found["failures"] == {}, found
    # A stall of this machine may take some of what was due; what was sent came back.
    assert result["lost"] == 0 and result["received"] == result["sent"] >= 100, found
    times = result["roundTripMilliseconds"]
    assert 0 < times["min"] <= times["p50"] <= times["p90"] <= times["p99"] <= times["max"]
    wait_until(lambda: not loaded.relay_sockets(), 10, "the allocations are given back")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_is_sent_through_coturn_comes_back(coturn_server, transport):
    server, pinned = coturn_server
    found, status = report("bench", "--server", server.url(transport), "--rate", 200, "--duration", "1s",
                           "--connections", 2, environment=servers(TURNPIKE_CERT_FINGERPRINT=pinned))
    assert status == 0 and found["result"]["lost"] == 0 and found["result"]["received"] >= 100, found


@pytest.fixture(scope="module")
def coturn_server(tmp_path_factory):
    with coturn(tmp_path_factory.mktemp("coturn")) as server:
        yield server, fingerprint(server.certificate)


def test_a_search_finds_a_rate_and_ends_in_time(loaded):
    found, status = load(loaded, "--search", "--duration", "3s", "--connections", 2)
    assert status == 0 and found["mode"] == "search" and 1 <= len(found["steps"]) <= 4, found
    assert found["bestPacketsPerSecond"] is None or found["bestPacketsPerSecond"] >= 10


def test_loss_is_counted(loaded):
    """A server that relays a bandwidth of so much, and is offered twice that."""
    loaded.cli("user", "limit", "alice", "--max-bps", "400000")
    try:
        found, status = load(loaded, "--rate", 400, "--size", 1000, "--duration", "2s", "--connections", 2)
    finally:
        loaded.cli("user", "limit", "alice", "--max-bps", "default")
    result = found["result"]
    assert status == 0 and result["lost"] == result["sent"] - result["received"] > 0, found


def test_ctrl_c_ends_it_with_what_was_found(loaded):
    process = subprocess.Popen(
        [str(BINARY), "bench", "--server", url(loaded, "udp"), "--rate", "100", "--duration", "5m"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(loaded))
    try:
        wait_until(lambda: len(loaded.relay_sockets()) >= 10, 15, "ten allocations")
        process.send_signal(signal.SIGINT)
        output, messages = process.communicate(timeout=20)
    finally:
        process.kill()
    # It may have been caught before the first packet, or in the middle.
    assert "interrupted" in output + messages and process.returncode in (0, 1), output + messages
    wait_until(lambda: not loaded.relay_sockets(), 10, "no allocation is left")


def test_the_password_comes_by_standard_input_or_a_file(loaded, tmp_path):
    arguments = ("bench", "--server", url(loaded, "udp"), "--rate", 100, "--duration", "1s", "--connections", 2,
                 "--username", "alice")
    assert peer(*arguments, "--password-stdin", input=PASSWORD + "\n").returncode == 0
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    assert peer(*arguments, "--password-file", path).returncode == 0


def test_a_wrong_password_is_one_line_with_the_mend(loaded):
    done = peer("bench", "--server", url(loaded, "udp"), "--connections", 2, "--username", "alice",
                "--password-stdin", input="wrong\n")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "does not accept this username and password" in done.stderr


def test_an_unpinned_certificate_is_one_line_with_the_mend(loaded):
    done = peer("bench", "--server", url(loaded, "tls"), "--connections", 2,
                environment={"TURN_USERNAME": "alice", "TURN_PASSWORD": PASSWORD})
    assert done.returncode == 1 and "TURNPIKE_CERT_FINGERPRINT" in done.stderr, done.stderr


def test_a_server_that_is_not_there_is_said_to_be_so():
    done = peer("bench", "--server", f"turn:127.0.0.1:{free_port()}?transport=tcp", "--connections", 2,
                environment={"TURN_USERNAME": "alice", "TURN_PASSWORD": harness.PASSWORD})
    assert done.returncode == 1 and "nothing listens there" in done.stderr, done.stderr


@pytest.mark.parametrize("arguments", [
    ("--connections", 3), ("--rate", 0), ("--duration", "1h"), ("--size", 5), ("--rate", 1, "--search"),
    ("--password", "x")], ids=str)
def test_what_makes_no_sense_is_refused(arguments):
    done = peer("bench", "--server", "turn:127.0.0.1:9", *arguments,
                environment={"TURN_USERNAME": "alice", "TURN_PASSWORD": "x"})
    assert done.returncode == 64 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
