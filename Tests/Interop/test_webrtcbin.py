"""The client library and GStreamer's webrtcbin, which has libnice below it: data channels over ICE and DTLS."""

import contextlib
import json
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

import harness
import pytest
import signaling
from icepeers import PATIENCE_SECONDS, Agent
from test_coordinator import environment

# Debian's, whose bindings no virtual environment has.
PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def server(serve_module):
    server = signaling.start(serve_module, {"relay": {"allow_loopback_peers": True},
                                            "limits": {"allocations_per_user": 100}})
    yield server
    server.assert_alive()


class Foreign(Agent):
    """A webrtcbin, with the signaling of any client."""

    def __init__(self, server, name, other, role, *words):
        self.other = other
        self.signaling = signaling.Peer(server)
        self.signaling.register(name)
        super().__init__(PYTHON, str(Path(__file__).parent / "webrtcbin.py"), role, *words)

    def order(self, **order):
        self.say(json.dumps(order))

    def describe(self):
        """Its offer or answer, and its candidates as they come."""
        self.until("description", lambda: self.all("description"))
        description = self.last("description")
        payload = {name: description[name] for name in ("type", "sdp")}
        self.signaling.send(type=payload["type"], to=self.other, **{payload["type"]: payload})
        self.told = 0

    def tell_candidates(self):
        for event in self.all("candidate")[self.told:]:
            candidate = {"candidate": event["line"], "sdpMid": "application0", "sdpMLineIndex": event["index"]}
            self.signaling.send(type="ice-candidate", to=self.other, candidate=candidate)
            self.told += 1

    def hear(self, kind):
        description = self.signaling.take(kind, PATIENCE_SECONDS)[kind]
        self.order(type=description["type"], sdp=description["sdp"])

    def hear_candidates(self):
        # None may follow, and then the connection to the server is closed by the test.
        with contextlib.suppress(Exception):
            while candidate := self.signaling.take("ice-candidate", PATIENCE_SECONDS)["candidate"]["candidate"]:
                self.order(candidate=candidate)

    def await_event(self, what, condition):
        """Goes on telling its candidates meanwhile."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            self.tell_candidates()
            self._take(deadline, what)

    def close(self):
        self.signaling.close()
        super().close()


class Ours:
    """A scene of `coordinator-pair`."""

    def __init__(self, server, scene):
        program = str(harness.BINARY.parent / "coordinator-pair")
        self.process = subprocess.Popen([program, scene], env=environment(server), stdout=subprocess.PIPE, text=True)

    def says(self, beginning):
        while line := self.process.stdout.readline():
            if line.startswith(beginning):
                return line
        raise AssertionError(f"it ended without {beginning}")

    def close(self):
        self.process.kill()
        self.process.communicate()


def relay(server):
    password = urllib.parse.quote(harness.PASSWORD)
    return f"turn://alice:{password}@127.0.0.1:{server.port}?transport=udp"


def test_webrtcbin_calls_and_both_sides_speak(server):
    ours = Ours(server, "listen")
    foreign = Foreign(server, "alice/gstreamer", "alice/listener", "offer", relay(server))
    try:
        ours.says("listening")
        foreign.describe()
        foreign.tell_candidates()
        foreign.hear("answer")
        trickling = threading.Thread(target=foreign.hear_candidates, daemon=True)
        trickling.start()
        foreign.await_event("open channel", lambda: foreign.all("open"))
        ours.says("connected")
        foreign.order(text="a text")
        foreign.order(bytes=60_000)
        foreign.await_event("echo", lambda: foreign.all("message") and foreign.all("bytes"))
        assert foreign.last("message")["text"] == "a text"
        expected = bytes(index % 251 for index in range(60_000))
        assert foreign.last("bytes") == {"event": "bytes", "count": 60_000, "sum": sum(expected) % 65521}
    finally:
        foreign.close()
        ours.close()


def test_webrtcbin_is_called_and_both_sides_speak(server):
    foreign = Foreign(server, "alice/listener", "alice/talker", "answer", relay(server))
    ours = Ours(server, "talk")
    try:
        foreign.hear("offer")
        foreign.describe()
        trickling = threading.Thread(target=foreign.hear_candidates, daemon=True)
        trickling.start()
        foreign.await_event("open channel", lambda: foreign.all("open"))
        assert foreign.last("open")["label"] == "turnpike"
        foreign.await_event("message", lambda: foreign.all("message"))
        assert foreign.last("message")["text"] == "ping"
        ours.says("answered")
    finally:
        foreign.close()
        ours.close()
