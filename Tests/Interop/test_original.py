"""The original's document, line by line, on real servers: docs/coming-from-self-streme.md has the table."""

import socket
import subprocess

import pytest

import harness
import natlab
import signaling
from harness import free_port
from natlab import NATLab
from test_coordinator import LIMIT_SECONDS, environment
from test_peer_connect import get, listening


@pytest.fixture(scope="module")
def server(serve_module):
    server = signaling.start(serve_module, {"relay": {"allow_loopback_peers": True}})
    yield server
    server.assert_alive()


def play(scene, settings, namespace=None):
    enter = ("ip", "netns", "exec", namespace) if namespace else ()
    program = str(harness.BINARY.parent / "coordinator-pair")
    return subprocess.run([*enter, program, scene], env=settings, capture_output=True, text=True,
                          timeout=LIMIT_SECONDS)


@pytest.mark.parametrize("scene", ["life", "options", "percentages"])
def test_the_originals_coordinator(server, scene):
    done = play(scene, environment(server))
    assert done.returncode == 0 and f"ok {scene}" in done.stdout, done.stdout + done.stderr
    if scene == "life":
        # Of the one coordinator that was told to log.
        assert done.stderr.startswith("turnpike: "), done.stderr
        for line in ("initialized", "registered as alice/", "connected to alice/", "no connection to nobody/here",
                     "shut down"):
            assert f"turnpike: {line}" in done.stderr, done.stderr


def test_the_originals_two_paths_have_its_fields(server, tmp_path):
    port = free_port()
    settings = environment(server)
    (tmp_path / "other").mkdir()
    with listening(tmp_path, settings, "--id", "alice/status", "--http", f"127.0.0.1:{port}"), \
            listening(tmp_path / "other", settings, "--id", "alice/other"):
        status, found = get(port, "/p2p/status")
        assert status == 200 and set(found) == {"enabled", "nat", "stats", "health", "strategy"}
        assert found["enabled"] is True
        assert found["nat"]["type"] == "Open" and found["nat"]["publicIP"] == "127.0.0.1", found
        assert isinstance(found["nat"]["publicPort"], int)
        uptime = found["stats"].pop("uptime")
        assert isinstance(uptime, int) and 0 <= uptime < 600
        assert found["stats"] == {
            "registeredPeers": 1, "activePeers": 0, "totalConnections": 0, "successfulPunches": 0,
            "relayedConnections": 0, "failedAttempts": 0,
            "performance": {"successRate": "0.00", "failureRate": "0.00"}}
        assert found["health"] == {
            "healthy": True, "issues": [],
            "services": {
                "holePunching": {"status": "healthy", "natType": "Open"},
                "signaling": {"status": "healthy", "port": server.https_port, "peers": 1},
                "relay": found["health"]["services"]["relay"]}}
        assert found["health"]["services"]["relay"]["status"] == "healthy"
        assert found["strategy"] == {
            "method": "direct", "requiresTurn": False, "description": found["strategy"]["description"]}
        status, found = get(port, "/p2p/connect/alice%2Fother")
        assert status == 200 and set(found) == {"success", "connection"} and found["success"] is True
        assert found["connection"]["peerId"] == "alice/other"
        assert found["connection"]["method"] in ("direct", "turn-relay"), found
        status, found = get(port, "/p2p/connect/alice/other")
        assert status == 200 and found["success"] is True, "a slash may stand as it is"
        status, found = get(port, "/p2p/connect/nobody")
        assert status == 500 and set(found) == {"success", "error"} and found["success"] is False
        assert found["error"].startswith("Peer not found"), found
        _, found = get(port, "/p2p/status")
        assert found["stats"]["totalConnections"] == 2 and found["stats"]["activePeers"] == 1
        assert found["stats"]["performance"] == {"successRate": "50.00", "failureRate": "50.00"}


def test_a_symmetric_nat_without_a_relay_is_told_of_in_the_originals_words(serve):
    with NATLab("symmetric") as lab:
        host, https = natlab.SERVER[0], 8443
        listen = {"https": [f"{host}:{https}"], "alternate": [f"{natlab.SERVER[1]}:3479"]}
        config = {"listen": listen}
        server = serve(config, hosts=("0.0.0.0",), port=3478, namespace=lab.server, relays_loopback=False)
        harness.wait_until(lambda: (server.data / "admin.sock").exists(), 20, "the gateway")
        server.https_port = https
        settings = environment(server, SIGNALING_SERVER=f"wss://{host}:{https}/signal",
                               STUN_SERVERS=f"stun:{host}:{server.port}", TURN_SERVER="")
        done = play("issues", settings, lab.sites[0].client)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "nat Symmetric" in done.stdout and "strategy turn-relay true" in done.stdout, done.stdout
        assert "issue Symmetric NAT detected but no TURN servers configured" in done.stdout, done.stdout


def test_a_port_in_use_is_named(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve({"listen": {"https": [f"127.0.0.1:{port}"]}}, start=False)
        done = subprocess.run(server.command("serve", "--config", str(server.config_path), "--data-dir",
                                             str(server.data)), capture_output=True, text=True, timeout=30)
        said = done.stdout + done.stderr
        assert done.returncode != 0 and str(port) in said and "https" in said, said
