"""The name that the operator gives the server stands in every URL that it hands out."""

import json

import pytest

from harness import PASSWORD, free_port, wait_until
from signaling import API, HOST, Peer, start
from test_tls import new_pair

NAME = "turn.example.org"


@pytest.fixture(scope="module")
def named(serve_module):
    return start(serve_module, {"host_name": NAME})


def hosts_of(urls):
    return {url.split(":")[1] for url in urls}


def test_peers_are_told_the_name(named):
    with Peer(named) as alice:
        urls = [url for entry in alice.welcome["iceServers"] for url in entry["urls"]]
        assert len(urls) >= 3 and hosts_of(urls) == {NAME}, urls
        alice.send(type="ice-servers")
        renewed = [url for entry in alice.take("ice-servers")["iceServers"] for url in entry["urls"]]
        assert renewed == urls
    servers = API(named, "alice", PASSWORD).get("/api/v1/ice-servers")["iceServers"]
    assert hosts_of(url for entry in servers for url in entry["urls"]) == {NAME}


def test_the_command_line_prints_the_name(named):
    done = named.cli("credentials", "alice", "--format", "env", "--config", str(named.config_path), check=False)
    if done.returncode:
        named.cli("secret", "add", "web")
        done = named.cli("credentials", "alice", "--format", "env", "--config", str(named.config_path))
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert lines["SIGNALING_SERVER"].strip("'") == f"wss://{NAME}:{named.https_port}/signal"
    assert lines["STUN_SERVERS"] == f"stun:{NAME}:{named.port}"
    assert hosts_of(lines["TURN_SERVERS"].strip("'").split(",")) == {NAME}


def test_a_changed_name_is_taken_by_a_reload(serve):
    server = start(serve)
    api = API(server, "alice", PASSWORD)

    def hosts():
        return hosts_of(url for entry in api.get("/api/v1/ice-servers")["iceServers"] for url in entry["urls"])

    assert hosts() == {HOST}
    server.write_config({"host_name": NAME})
    server.cli("reload")
    wait_until(lambda: hosts() == {NAME}, 5, "the new name")


def test_a_certificate_that_has_not_the_name_is_warned_of(serve, tmp_path):
    certificate, key = new_pair(tmp_path, "other.example")
    port = free_port()
    server = serve({"host_name": NAME, "listen": {"tls": [f"{HOST}:{port}"]},
                    "tls": {"certificate": str(certificate), "private_key": str(key)}})
    warnings = [entry["message"] for entry in server.log_entries() if entry["level"] == "warning"]
    assert any(f"not made out to {NAME}" in warning for warning in warnings), warnings
    assert json.dumps(server.log_entries()).count("not made out to") == 1
