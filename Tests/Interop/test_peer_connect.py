"""`turnpike-peer listen`, `connect` and `ping`: two machines as people would join them."""

import json
import socket
import time

import pytest

from harness import free_port, wait_until
from peertool import PATIENCE_SECONDS, of_a_server, peer, running


@pytest.fixture(scope="module")
def environment(serve_module):
    return of_a_server(serve_module)


def listening(directory, environment, *arguments):
    return running(directory, environment, "listen", *arguments, ready="registered as")


def test_what_goes_in_at_one_end_comes_out_at_the_other(tmp_path, environment):
    text = "".join(f"line {number} of a text that is long enough for many messages\n" for number in range(20_000))
    with listening(tmp_path, environment, "--id", "alice/one") as listener:
        done = peer("connect", "alice/one", "--explain", environment=environment, input=text)
        assert done.returncode == 0, done.stderr
        assert "NAT here: " in done.stderr and "connected by " in done.stderr
        wait_until(lambda: listener.output.stat().st_size >= len(text), 20, "all of it has come")
        assert listener.output.read_text() == text
        wait_until(lambda: "is gone" in listener.said(), 20, "the end is told")
        assert listener.said().count(" is connected by ") == 1


def events(text):
    """What `--json` has told, by its names, each with the newest."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(line["timeMilliseconds"] > 1_700_000_000_000 for line in lines)
    return {line["event"]: line for line in lines}


def test_what_happens_is_told_as_lines_of_json(tmp_path, environment):
    with running(tmp_path, environment, "listen", "--id", "alice/json", "--json", ready='"registered"') as listener:
        done = peer("connect", "alice/json", "--json", environment=environment, input="data\n")
        assert done.returncode == 0 and done.stdout == "", done.stderr
        told = events(done.stderr)
        assert told["registered"]["id"].startswith("alice/")
        assert told["connected"]["peer"] == "alice/json"
        assert told["connected"]["method"] in ("direct", "udp-hole-punch", "turn-relay")
        assert set(told["explanation"]["explanation"]) == {"advice", "cause", "reason"}
        wait_until(lambda: "disconnected" in events(listener.said()), 20, "the end is told")
        told = events(listener.said())
        assert told["registered"]["id"] == "alice/json" and told["registered"]["natType"]
        assert told["connected"]["peer"] == told["disconnected"]["peer"] != "alice/json"
        assert listener.output.read_text() == "data\n"
        done = peer("ping", "alice/json", "-c", 1, "--json", environment=environment)
        told = events(done.stdout)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert told["pong"]["number"] == 1 and told["pong"]["milliseconds"] > 0
        assert told["summary"]["count"] == 1 and told["summary"]["lost"] == 0
        assert told["summary"]["shortestMilliseconds"] == told["summary"]["longestMilliseconds"]
    done = peer("connect", "alice/nowhere", "--json", environment=environment, input="")
    told = events(done.stderr)
    assert done.returncode == 1 and told["failed"]["reason"] == "peerNotFound", done.stderr


def test_a_required_relay_is_explained(tmp_path, environment):
    with listening(tmp_path, environment, "--id", "alice/why"):
        done = peer("connect", "alice/why", "--require-relay", "--explain", environment=environment, input="x\n")
        assert done.returncode == 0, done.stderr
        assert "why: Relays alone are used, because you asked for it" in done.stderr, done.stderr


def test_a_ping_measures_the_path(tmp_path, environment):
    with listening(tmp_path, environment, "--id", "alice/two"):
        done = peer("ping", "alice/two", "-c", 2, "--require-direct", environment=environment)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 3 and lines[2].startswith("2 messages, 0 lost; shortest "), done.stdout
        assert all(", by direct, host to host " in line for line in lines[:2]), done.stdout


def test_a_direct_path_can_be_required(tmp_path, environment):
    with listening(tmp_path, environment, "--id", "alice/three") as listener:
        done = peer("connect", "alice/three", "--require-direct", "--explain", environment=environment, input="hello\n")
        assert done.returncode == 0 and "connected by direct" in done.stderr, done.stderr
        wait_until(lambda: listener.output.read_text() == "hello\n", 20, "it has come")


def test_a_relay_can_be_required(tmp_path, environment):
    with listening(tmp_path, environment, "--id", "alice/relayed"):
        done = peer("ping", "alice/relayed", "-c", 1, "--require-relay", environment=environment)
        assert done.returncode == 0 and ", by turn-relay, relay to " in done.stdout, done.stdout + done.stderr


def test_a_peer_that_nobody_knows_is_named_with_the_mend(environment):
    began = time.monotonic()
    done = peer("connect", "alice/nobody", environment=environment | {"P2P_CONNECTION_TIMEOUT": "5000"}, input="")
    assert done.returncode == 1 and "alice/nobody" in done.stderr and "registered" in done.stderr, done.stderr
    assert time.monotonic() - began < PATIENCE_SECONDS / 2


def test_an_id_of_another_user_is_refused(environment):
    done = peer("connect", "alice/one", "--id", "bob", environment=environment, input="")
    assert done.returncode == 1 and "bob is not registered" in done.stderr, done.stderr


def test_without_signaling_it_says_what_to_set():
    for command in (("listen",), ("connect", "bob"), ("ping", "bob")):
        done = peer(*command)
        assert done.returncode == 78 and "set SIGNALING_SERVER" in done.stderr, done.stderr


def get(port, path, *fields):
    """One request, with the header lines that are given, and the answer's status and JSON."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as connection:
        lines = (f"GET {path} HTTP/1.1", *(fields or (f"Host: 127.0.0.1:{port}",)), "", "")
        connection.sendall("\r\n".join(lines).encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, body = answer.split(b"\r\n\r\n", 1)
    return int(head.split()[1]), json.loads(body)


def test_the_originals_two_paths_are_served(tmp_path, environment):
    port = free_port()
    (tmp_path / "other").mkdir()
    with listening(tmp_path, environment, "--id", "alice/four", "--http", f"127.0.0.1:{port}"), \
            listening(tmp_path / "other", environment, "--id", "alice/five"):
        status, found = get(port, "/p2p/status")
        assert status == 200 and found["enabled"] is True
        assert found["nat"]["type"] == "Open" and found["stats"]["registeredPeers"] == 1, found
        assert found["health"]["services"]["signaling"]["status"] == "healthy", found
        assert set(found["strategy"]) == {"method", "description", "requiresTurn"}
        status, found = get(port, "/p2p/connect/alice%2Ffive")
        assert status == 200 and found["success"] is True and found["connection"]["peerId"] == "alice/five", found
        status, found = get(port, "/p2p/connect/alice%2Fnobody")
        assert status == 500 and found["success"] is False and "alice/nobody" in found["error"], found
        assert get(port, "/elsewhere")[0] == 404
        # A page of the web that a browser shows has another origin, or another name for this address.
        host = f"Host: 127.0.0.1:{port}"
        assert get(port, "/p2p/status", host, "Origin: https://example.org")[0] == 403
        assert get(port, "/p2p/status", "Host: example.org")[0] == 403
        assert get(port, "/p2p/status", host, "Sec-Fetch-Site: cross-site")[0] == 403


def test_the_paths_are_served_on_loopback_alone():
    done = peer("listen", "--http", "0.0.0.0:3000", environment={"SIGNALING_SERVER": "wss://127.0.0.1:9/signal"})
    assert done.returncode == 64 and "give a loopback address" in done.stderr, done.stderr
