"""`turnpike-peer` and pion/webrtc: each calls the other, on every kind of path, over a real server's signaling."""

import contextlib
import hashlib
import itertools
import os
import re
import signal
import socket
import subprocess

import pytest

import harness
from certificates import issued_pair
from harness import wait_until
from namespaces import inside, ip
from natlab import SERVER, NATLab
from peertool import BINARY, PATIENCE_SECONDS
from pionpeer import Pion, built

HOST = SERVER[0]
ROLES = ["pion", "ours"]
# By which pion reaches the relay, where it uses nothing else; in the one role by UDP, in the other by TLS.
SERVERS = {"pion": f"turn:{HOST}:3478?transport=udp", "ours": f"turns:{HOST}:5349?transport=tcp"}
# How a listener names a path, and what is at either end of it.
PATHS = {"host": ("direct", "host"), "reflexive": ("udp-hole-punch", "srflx"), "relay": ("turn-relay", "relay")}
_PATH = re.compile(r" by ([\w-]+), (\w+) to (\w+) ([\d.]+):(\d+)")


class World:
    """A server, and two networks behind NATs of their own."""

    def __init__(self, lab, environment):
        self.lab, self.environment = lab, environment
        self._numbers = itertools.count(1)

    def pion(self, *arguments, site=1):
        """A peer by an id that no other has had."""
        id = f"alice/pion{next(self._numbers)}"
        return Pion(id, self.lab.sites[site].client, [
            "-signaling", self.environment["SIGNALING_SERVER"], "-user", "alice", *arguments,
        ], self.environment)

    @contextlib.contextmanager
    def cut(self):
        """No way from one network to the other but by the server."""
        one, other = self.lab.sites
        routes = [(one.outside, other.router), (other.outside, one.router)]
        for outside, router in routes:
            ip("route", "add", "blackhole", outside, namespace=router)
        try:
            yield
        finally:
            for outside, router in routes:
                ip("route", "del", "blackhole", outside, namespace=router)


@pytest.fixture(scope="module")
def world(serve_module, tmp_path_factory):
    built("peer")
    chain, key, authority = issued_pair(tmp_path_factory.mktemp("certificate"), SERVER)
    with NATLab("port-restricted", "port-restricted") as lab:
        listen = {name: [f"{HOST}:5349"] for name in ("tls", "dtls")}
        server = serve_module({
            "listen": {"tcp": [f"{HOST}:3478"], "https": [f"{HOST}:8443"], **listen},
            "tls": {"certificate": str(chain), "private_key": str(key)}, "external_address": HOST,
        }, hosts=(HOST,), port=3478, namespace=lab.server, relays_loopback=False)
        wait_until(lambda: (server.data / "admin.sock").exists(), 20, "the gateway")
        yield World(lab, {
            "PATH": os.environ["PATH"], "SIGNALING_SERVER": f"wss://{HOST}:8443/signal", "TURN_USERNAME": "alice",
            "TURN_PASSWORD": harness.PASSWORD, "TURNPIKE_CA_FILE": str(authority), "SSL_CERT_FILE": str(authority),
        })
        server.assert_alive()


class Listener:
    """A `turnpike-peer listen` in the first network, with the page that has it call."""

    def __init__(self, world, directory, id="alice/ours", port=3000):
        self.id, self.port, self.namespace = id, port, world.lab.sites[0].client
        self.output, self.messages = directory / "output", directory / "messages"
        with open(self.output, "wb") as output, open(self.messages, "wb") as messages:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, str(BINARY), "listen", "--id", id, "--http",
                 f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL, stdout=output, stderr=messages,
                env=world.environment)
        try:
            self.wait_for("/p2p/status")
        except BaseException:
            self.process.kill()
            raise

    def wait_for(self, text):
        wait_until(lambda: text in self.said(), PATIENCE_SECONDS, f"{text} in what it says")

    def said(self):
        assert self.process.poll() is None, self.messages.read_text()
        return self.messages.read_text()

    def call(self, peer):
        with inside(self.namespace):
            connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS)
        with connection:
            path = "/p2p/connect/" + peer.replace("/", "%2F")
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 "), answer

    def path(self):
        """The last one it told: method, types of both ends, the peer's address."""
        found = _PATH.findall(self.said())
        return found[-1] if found else None

    def stop(self):
        """Ctrl-C, and a clean end."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE_SECONDS)
        text = self.messages.read_text()
        assert status == 0 and not any(mark in text for mark in harness.CRASH_MARKS), text

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def listener(world, tmp_path):
    with Listener(world, tmp_path) as listener:
        yield listener


@pytest.fixture(scope="module")
def resident(world, tmp_path_factory):
    """A listener that takes one after the other."""
    with Listener(world, tmp_path_factory.mktemp("resident"), "alice/resident", 3001) as listener:
        yield listener
        listener.stop()


def join(role, listener, pion):
    """Connects the two; either way there is the channel that a listener writes out."""
    if role == "pion":
        pion.do("call", to=listener.id, label="turnpike")
    else:
        listener.call(pion.id)
    pion.wait("open", label="turnpike", theirs=role == "ours")


def exchange(pion, **traffic):
    """Opens a channel that a listener sends everything back on, for each, and has them all speak at once."""
    for label, (channel, _) in traffic.items():
        pion.do("open", label=label, protocol="turnpike.echo", **channel)
    for label in traffic:
        pion.wait("open", label=label)
    after = len(pion.events)
    for label, (_, messages) in traffic.items():
        pion.do("exchange", label=label, **messages)
    return {label: pion.wait("exchanged", timeout=60, after=after, label=label) for label in traffic}


def assert_same_path(listener, pion, kind):
    """Both sides see the same pair. Whom a check reached before the candidate did calls it peer-reflexive."""
    method, end = PATHS[kind]

    def is_same():
        pair, path = pion.last("pair"), listener.path()
        if not pair or not path:
            return False
        local, remote = pair["local"], pair["remote"]
        return (
            path[0] == method and path[1] == local["type"] == end and {path[2], remote["type"]} <= {end, "prflx"}
            and path[3:] == (local["address"], str(local["port"]))
        )

    wait_until(is_same, 20, f"a path of kind {kind} on both sides")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", PATHS)
def test_every_kind_of_channel_carries_data_both_ways(world, listener, role, kind):
    options = ["-relay", "-servers", SERVERS[role]] if kind == "relay" else []
    with world.pion(*options, site=0 if kind == "host" else 1) as pion:
        join(role, listener, pion)
        told = exchange(
            pion,
            # Pion sends up to 65,536 bytes and has a buffer of one less for what comes.
            binary=({}, {"count": 40, "bytes": 65_535}),
            text=({"unordered": True}, {"count": 120, "bytes": 16_000, "text": True}),
            retransmits=({"unordered": True, "maxRetransmits": 3}, {"count": 60, "bytes": 1_000}),
            lifetime=({"maxPacketLifeTime": 500}, {"count": 60, "bytes": 1_000, "text": True}),
        )
        assert (told["binary"]["count"], told["binary"]["broken"], told["binary"]["outOfOrder"]) == (40, 0, 0), told
        assert (told["text"]["count"], told["text"]["broken"]) == (120, 0), told
        # Of what may be lost something comes, and whole.
        for label in ("retransmits", "lifetime"):
            assert told[label]["count"] > 0 and told[label]["broken"] == 0, told
        pion.do("send", label="turnpike", count=32, bytes=65_536)
        sent = pion.wait("sent")
        wait_until(lambda: listener.output.stat().st_size >= sent["bytes"], 20, "all of it has come")
        assert hashlib.sha256(listener.output.read_bytes()).hexdigest() == sent["sha256"]
        assert_same_path(listener, pion, kind)
        pion.do("close", label="text")
        pion.wait("closed", label="text")
        if role == "pion":
            pion.do("hang up")
            listener.wait_for(f"{pion.id} is gone: the peer closed the connection")
        else:
            listener.stop()
            pion.wait("closed", label="binary")
            pion.wait("closed", label="turnpike")


def test_connect_and_ping_reach_a_peer_of_pions(world):
    namespace = world.lab.sites[0].client
    command = ["ip", "netns", "exec", namespace, str(BINARY)]
    with world.pion() as pion:
        done = subprocess.run([*command, "ping", pion.id, "-c", "2"], env=world.environment, text=True,
                              capture_output=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0 and "2 messages, 0 lost; shortest " in done.stdout, done.stdout + done.stderr
        # The first goes by the relay, if that was there before the direct path.
        assert len(_PATH.findall(done.stdout)) == 2, done.stdout
        pion.wait("closed", label="ping", count=2)
        after = len(pion.events)
        data = os.urandom(3_000_000)
        program = subprocess.Popen(
            [*command, "connect", pion.id, "--explain"], env=world.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        writer = harness.Background(lambda: program.stdin.write(data))
        assert program.stdout.read(len(data)) == data
        writer.result()
        program.stdin.close()
        assert program.wait(PATIENCE_SECONDS) == 0 and not program.stdout.read()
        assert b"connected by " in program.stderr.read()
        closed = pion.wait("closed", after=after, label="turnpike")
        assert (closed["bytes"], closed["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_cut_path_gives_way_to_the_relay_and_pions_restart_brings_it_back(world, tmp_path):
    """In both roles at once, for it takes a while."""
    more = {"label": "bulk", "count": 160, "bytes": 60_000}
    with contextlib.ExitStack() as stack:
        pairs = []
        for number, role in enumerate(ROLES):
            directory = tmp_path / role
            directory.mkdir()
            listener = stack.enter_context(Listener(world, directory, f"alice/{role}/listener", 3100 + number))
            pion = stack.enter_context(world.pion())
            join(role, listener, pion)
            exchange(pion, bulk=({}, {"count": 1, "bytes": 1_000}))
            assert_same_path(listener, pion, "reflexive")
            pairs.append((listener, pion, len(pion.events)))

        def assert_all_comes_back(pion, after):
            told = pion.wait("exchanged", timeout=60, after=after)
            assert (told["count"], told["broken"], told["outOfOrder"]) == (160, 0, 0), told

        for _, pion, _ in pairs:
            pion.do("exchange", **more)
        for _, pion, after in pairs:
            pion.wait("underway", after=after)
        with world.cut():
            for listener, pion, after in pairs:
                assert_all_comes_back(pion, after)
                # An agent of pion's leaves the pair it has for a worse one by a restart alone, so ours began one.
                pion.wait("offered", after=after)
                assert_same_path(listener, pion, "relay")
        for listener, pion, _ in pairs:
            after = len(pion.events)
            pion.do("restart")
            pion.wait("answered", after=after)
            assert_same_path(listener, pion, "reflexive")
            pion.do("exchange", **more)
            assert_all_comes_back(pion, after)
            assert not any(event["event"] == "closed" for event in pion.events), pion.events


@pytest.mark.parametrize("role, setup, ours", [
    ("pion", "actpass", "active"), ("pion", "active", "passive"), ("pion", "passive", "active"),
    ("ours", "active", "actpass"), ("ours", "passive", "actpass"),
])
def test_either_side_begins_the_handshake(world, resident, role, setup, ours):
    with world.pion("-setup", setup, site=0) as pion:
        join(role, resident, pion)
        told = exchange(pion, small=({}, {"count": 10, "bytes": 1_000}))["small"]
        assert (told["count"], told["broken"]) == (10, 0)
        described, theirs = pion.last("described"), pion.last("answered" if role == "pion" else "offered")
        assert f"a=setup:{setup}\r\n" in described["sdp"] and f"a=setup:{ours}\r\n" in theirs["sdp"]


@pytest.mark.parametrize("role", ROLES)
def test_an_ice_lite_agent_is_checked_and_nominated_for(world, resident, role):
    with world.pion("-lite", site=0) as pion:
        join(role, resident, pion)
        told = exchange(pion, small=({}, {"count": 10, "bytes": 1_000}))["small"]
        assert (told["count"], told["broken"]) == (10, 0)
        assert "a=ice-lite" in pion.last("described")["sdp"]
        assert_same_path(resident, pion, "host")
