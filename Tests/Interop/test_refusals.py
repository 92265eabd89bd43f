"""Whatever keeps a peer from its servers is named as what it is, with the mend, in time; what still works goes on."""

import base64
import hashlib
import hmac
import time

import pytest

import natlab
from harness import PASSWORD, free_port
from namespaces import run
from natlab import NATLab
from peertool import fingerprint, peer, report, servers
from refusing import Refusing, http, self_signed
from test_coordinator import environment as coordinator_environment
from test_original import play

# Given to the tool; what is said, is said within it. A busy machine gets as much again.
TIMEOUT_SECONDS = 6
SECRET = "a secret of some length"


def listen(settings, **options):
    """What `turnpike-peer listen` says that cannot be joined, with all lines in one."""
    began = time.monotonic()
    done = peer("listen", environment={"P2P_CONNECTION_TIMEOUT": str(TIMEOUT_SECONDS * 1000), **settings}, **options)
    assert time.monotonic() - began < 2 * TIMEOUT_SECONDS, done.stderr
    assert done.returncode in (1, 78) and done.stdout == "", done.stderr
    assert all(line.startswith("turnpike-peer: ") for line in done.stderr.splitlines()), done.stderr
    return done.stderr


def clock(tool, seconds):
    """The environment of a program whose clock is wrong."""
    return {"LD_PRELOAD": str(tool("libclockshift")), "CLOCK_SHIFT_SECONDS": str(seconds)}


def user(url, **more):
    return {"SIGNALING_SERVER": url, "TURN_USERNAME": "alice", "TURN_PASSWORD": PASSWORD, **more}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("own"))


@pytest.mark.parametrize("answer, words", [
    (http(404), ("HTTP status 404", "check the path")),
    (http(401, "WWW-Authenticate: Basic"), ("HTTP status 401", "proxy before the server wants credentials")),
    (http(403), ("HTTP status 403", "does not let this through")),
    (http(426), ("HTTP status 426", "pass upgrades on")),
    (http(302, "Location: https://elsewhere.test/"), ("HTTP status 302", "write the address that it leads to")),
    (http(200), ("HTTP status 200", "no signaling server")),
    (http(503), ("HTTP status 503", "server behind it does not answer")),
    (b"220 mail.example.org ESMTP\r\n", ("does not speak WebSocket", "check host, port and path", "no HTTP")),
    (b"", ("does not speak WebSocket", "without an answer")),
    (None, ("there is no answer yet", "check the address")),
], ids=["404", "401", "403", "426", "302", "200", "503", "another-protocol", "closes", "silent"])
def test_a_server_that_is_not_what_it_should_be_is_named(pair, answer, words):
    with Refusing(answer, *pair) as server:
        url = f"wss://127.0.0.1:{server.port}"
        limit = {"P2P_CONNECTION_TIMEOUT": "1500"} if answer is None else {}
        said = listen(user(url + "/signal", TURNPIKE_CERT_FINGERPRINT=fingerprint(pair[0]), **limit))
        assert url in said and said.count("wss://") == 1 and all(word in said for word in words), said


def test_a_server_without_tls_is_named():
    with Refusing(http(200)) as server:
        said = listen(user(f"wss://127.0.0.1:{server.port}/signal"))
        assert "no secure connection" in said and "check that the port is the server's for TLS" in said, said


def test_names_and_ports_that_are_nobodys_are_named():
    said = listen(user("wss://nowhere.invalid/signal"))
    assert "the name nowhere.invalid" in said and ("no such name" in said or "name service" in said), said
    said = listen(user(f"wss://127.0.0.1:{free_port()}/signal"))
    assert "nothing listens there; check the port and that the server runs" in said, said
    said = listen(user("https://127.0.0.1/signal"))
    assert "write wss://host:8443/signal" in said, said


@pytest.mark.parametrize("case, words", [
    ("self-signed", ("signed by nobody that is trusted", "TURNPIKE_CERT_FINGERPRINT")),
    ("another-pin", ("not the one expected", "fingerprint")),
    ("expired", ("has expired", "clock")),
    ("wrong-name", ("made out to", "turn.test")),
])
def test_a_certificate_that_will_not_do_is_named(tmp_path, pair, tool, case, words):
    certificate, key, more = *pair, {}
    if case == "another-pin":
        more = {"TURNPIKE_CERT_FINGERPRINT": "sha256:" + "ab" * 32}
    elif case == "expired":
        certificate, key = self_signed(tmp_path, **clock(tool, -365 * 86400))
        more = {"TURNPIKE_CA_FILE": str(certificate)}
    elif case == "wrong-name":
        certificate, key = self_signed(tmp_path, "127.0.0.2")
        more = {"TURNPIKE_CA_FILE": str(certificate)}
    with Refusing(http(200), certificate, key) as server:
        said = listen(user(f"wss://127.0.0.1:{server.port}/signal", **more))
        assert "certificate" in said and all(word in said for word in words), said


@pytest.fixture(scope="module")
def server(serve_module):
    https, tls = free_port(), free_port()
    listening = {"https": [f"127.0.0.1:{https}"], "tls": [f"127.0.0.1:{tls}"]}
    server = serve_module({"listen": listening}, secrets={"web": SECRET})
    server.https_port = https
    printed = server.cli("user", "passwd", "alice", "--password-stdin", "--format", "env", "--config",
                         str(server.config_path), input=PASSWORD + "\n").stdout
    server.printed = dict(line.split("=", 1) for line in printed.replace("'", "").splitlines())
    return server


def test_where_signaling_alone_fails_its_reason_is_given(server):
    """The relays work, so that initialize() is content; what asks for signaling is told why there is none."""
    said = listen(server.printed | {"TURNPIKE_CERT_FINGERPRINT": ""})
    assert "is not registered" in said and "signed by nobody that is trusted" in said, said
    said = listen(server.printed | {"SIGNALING_SERVER": f"wss://127.0.0.1:{server.https_port}/elsewhere"})
    assert "HTTP status 404" in said and "check the path" in said, said


def test_wrong_and_missing_credentials_are_named(server):
    said = listen(server.printed | {"TURN_PASSWORD": "wrong"})
    assert "check the username and the password" in said, said
    said = listen(server.printed | {"TURN_PASSWORD": ""})
    assert "set TURN_USERNAME and TURN_PASSWORD" in said, said


def minted(seconds):
    """A time-limited credential, as a web service makes it."""
    username = f"{int(time.time()) + seconds}:alice"
    digest = hmac.new(SECRET.encode(), username.encode(), hashlib.sha1).digest()
    return {"TURN_USERNAME": username, "TURN_PASSWORD": base64.b64encode(digest).decode()}


@pytest.mark.parametrize("shift", [0, -3600, 3600], ids=["right", "an-hour-behind", "an-hour-ahead"])
def test_a_credential_is_judged_by_the_servers_clock_whatever_the_peers(server, tool, shift):
    shifted = clock(tool, shift)
    said = listen(server.printed | minted(-60) | shifted)
    assert "credentials have expired" in said and "the clock of who makes them" in said, said
    said = listen(server.printed | minted(600) | {"TURN_PASSWORD": "wrong"} | shifted)
    assert "check the username and the password" in said, said
    # Who has a good one does not notice.
    done = peer("connect", "alice/nobody", input="", environment=server.printed | minted(600) | shifted)
    assert done.returncode == 1 and "Peer not found" in done.stderr, done.stderr


def test_a_certificate_is_judged_by_the_peers_clock_and_that_is_said(server, tool):
    trust = {"TURNPIKE_CERT_FINGERPRINT": "", "TURNPIKE_CA_FILE": str(server.data / "certificate.pem")}
    said = listen(server.printed | trust | clock(tool, -365 * 86400))
    assert "not valid yet; set this machine's clock" in said, said


def test_ports_of_a_turn_server_that_nobody_listens_on_are_told_from_silence():
    settings = servers(f"turn:127.0.0.1:{free_port()}", f"turns:127.0.0.1:{free_port()}",
                       P2P_CONNECTION_TIMEOUT="3000")
    found, status = report("netcheck", environment=settings)
    assert status == 1
    assert {relay["transport"]: relay["problem"]["code"] for relay in found["turnServers"]} == dict.fromkeys(
        ("udp", "tcp", "tls", "dtls"), "connection-refused"), found
    assert all("nothing listens there" in relay["problem"]["message"] for relay in found["turnServers"])


def test_where_udp_is_blocked_it_is_said_and_tcp_goes_on(serve):
    with NATLab("port-restricted") as lab:
        host, https = natlab.SERVER[0], 8443
        config = {"listen": {"https": [f"{host}:{https}"], "tcp": [f"{host}:3478"]}, "external_address": host}
        server = serve(config, hosts=("0.0.0.0",), port=3478, namespace=lab.server, relays_loopback=False)
        site = lab.sites[0]
        rule = "add rule ip filter outward meta l4proto udp drop"
        run("ip", "netns", "exec", site.router, "nft", *rule.split())
        server.https_port = https
        settings = coordinator_environment(
            server, SIGNALING_SERVER=f"wss://{host}:{https}/signal", STUN_SERVERS=f"stun:{host}:3478",
            TURN_SERVER=f"turn:{host}:3478", P2P_CONNECTION_TIMEOUT="6000")
        done = play("issues", settings, site.client)
        assert done.returncode == 0 and "initialized" in done.stdout, done.stdout + done.stderr
        assert "nat Blocked" in done.stdout, done.stdout
        assert "healthy true" in done.stdout and "issue no UDP gets out and back" in done.stdout, done.stdout
        # And a server that a firewall hides altogether, also from TCP.
        rule = f"add rule ip filter outward ip daddr {host} drop"
        run("ip", "netns", "exec", site.router, "nft", *rule.split())
        said = listen(settings | {"P2P_CONNECTION_TIMEOUT": "2000"}, namespace=site.client)
        assert f"wss://{host}:{https}" in said and "firewall" in said, said
