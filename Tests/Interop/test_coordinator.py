"""The client library: two coordinators in one program, on a real server."""

import os
import subprocess

import harness
import pytest
import signaling

LIMIT_SECONDS = 40


@pytest.fixture(scope="module")
def server(serve_module):
    server = signaling.start(serve_module, {"relay": {"allow_loopback_peers": True}})
    yield server
    server.assert_alive()


def fingerprint(server):
    """As `openssl x509 -fingerprint -sha256` has it."""
    command = ["openssl", "x509", "-in", str(server.data / "certificate.pem"), "-noout", "-fingerprint", "-sha256"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split("=")[1]


def environment(server, **changes):
    return {
        "PATH": os.environ["PATH"],
        "SIGNALING_SERVER": f"wss://127.0.0.1:{server.https_port}/signal",
        "STUN_SERVERS": f"stun:127.0.0.1:{server.port}",
        "TURN_SERVER": f"turn:127.0.0.1:{server.port}?transport=udp",
        "TURN_USERNAME": "alice",
        "TURN_PASSWORD": harness.PASSWORD,
        "TURNPIKE_CERT_FINGERPRINT": f"sha256:{fingerprint(server)}",
        **changes,
    }


def play(server, *scenes, **changes):
    program = str(harness.BINARY.parent / "coordinator-pair")
    done = subprocess.run(
        [program, *scenes], env=environment(server, **changes), capture_output=True, text=True, timeout=LIMIT_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "scene", ["messages", "channels", "direct", "relay", "upgrade", "glare", "unknown-peer", "refused", "state"]
)
def test_two_coordinators(server, scene):
    assert f"ok {scene}" in play(server, scene)


def test_a_relay_by_tcp_serves_as_well(server):
    relay = f"turn:127.0.0.1:{server.port}?transport=tcp"
    assert "ok relay" in play(server, "relay", TURN_SERVER=relay, STUN_SERVERS="")


def test_a_peer_that_does_not_answer_is_named_in_time(server):
    with signaling.Peer(server) as silent:
        silent.register("alice/silent")
        assert "ok silent-peer" in play(server, "silent-peer")
