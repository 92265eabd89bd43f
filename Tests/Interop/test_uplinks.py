"""A machine that changes its uplink while its connections carry data: the real server, real peers and a real kernel.

    UPLINKS=all python3 -m pytest test_uplinks.py -s

makes all nine changes of either side, where a usual run makes three of each; with MOBILITY=on the server lets
allocations go along (RFC 8016)."""

import contextlib
import os
import signal
import subprocess
import threading
import time

import harness
import pytest
from harness import PASSWORD, wait_until
from uplinklab import NAME, SERVER, UplinkLab

PAIR = harness.BINARY.parent / "coordinator-pair"
HTTPS = 8443
PATIENCE_SECONDS = 60
# Data may stand still for so long at a change.
STILL_MS = 3_000
# All nine changes from each kind of uplink to each, and some of them.
TOURS = {"all": ("v4", "v4", "v6", "v6", "dual", "dual", "v4", "dual", "v6", "v4"), "some": ("v4", "v6", "dual", "v4")}
TOUR = TOURS[os.environ.get("UPLINKS", "some")]
MOBILITY = os.environ.get("MOBILITY") == "on"


class Program:
    """A `coordinator-pair` and what it has said: (seconds, event)."""

    def __init__(self, scene, namespace, settings):
        self.process = subprocess.Popen(["ip", "netns", "exec", namespace, str(PAIR), scene], env=settings,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.events, self.other = [], []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            words = line.split(maxsplit=2)
            if words[:1] == ["at"]:
                self.events.append((int(words[1]) / 1e9, words[2].strip()))
            else:
                self.other.append(line)

    def said(self, *beginnings, after=0.0):
        return [(at, event) for at, event in list(self.events) if at > after and event.startswith(beginnings)]

    def wait_for(self, *beginnings, after=0.0):
        def is_over():
            assert self.process.poll() is None, (self.process.returncode, self.events[-9:], self.other[-50:])
            return self.said(*beginnings, after=after)

        try:
            wait_until(is_over, PATIENCE_SECONDS, beginnings)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.events[-20:]} {self.other[-20:]}") from error
        return self.said(*beginnings, after=after)[0]


@contextlib.contextmanager
def program(scene, namespace, settings):
    made = Program(scene, namespace, settings)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


@pytest.fixture
def lab():
    with UplinkLab() as lab:
        yield lab


@pytest.fixture
def settings(serve, lab):
    config = {"listen": {"https": [f"{SERVER[0]}:{HTTPS}", f"[{SERVER[1]}]:{HTTPS}"]},
              # The addresses are of ranges for documentation, to which a relay sends nothing unless it is told to.
              "relay": {"allow_peers": ["203.0.113.0/24", "2001:db8::/32"], "mobility": MOBILITY}}
    server = serve(config, namespace=lab.server, hosts=SERVER, port=3478, relays_loopback=False)
    wait_until(lambda: (server.data / "admin.sock").exists(), 20, "the gateway")
    printed = subprocess.run(["openssl", "x509", "-in", str(server.data / "certificate.pem"), "-noout", "-fingerprint",
                              "-sha256"], check=True, capture_output=True, text=True).stdout
    return {
        "PATH": os.environ["PATH"], "SIGNALING_SERVER": f"wss://{NAME}:{HTTPS}/signal",
        "STUN_SERVERS": f"stun:{NAME}:3478", "TURN_SERVER": f"turn:{NAME}:3478?transport=udp",
        "TURN_USERNAME": "alice", "TURN_PASSWORD": PASSWORD,
        "TURNPIKE_CERT_FINGERPRINT": "sha256:" + printed.strip().split("=")[1],
    }


@pytest.mark.parametrize("mover", ["talker", "listener"])
def test_a_connection_goes_along_to_every_uplink(lab, settings, mover):
    places = (lab.mover, lab.other) if mover == "talker" else (lab.other, lab.mover)
    lab.move(TOUR[0])
    with program("timed-listen", places[1], settings) as listener:
        listener.wait_for("listening")
        with program("timed-talk", places[0], settings) as talker:
            talker.wait_for("connected")
            if not talker.said("connected udp-hole-punch", "connected direct"):
                talker.wait_for("path udp-hole-punch", "path direct")
            time.sleep(1)
            for before, after in zip(TOUR, TOUR[1:]):
                began = time.monotonic()
                lab.move(after)
                back = talker.wait_for("path udp-hole-punch", "path direct", after=began)[0]
                # What is heard again after a pause was heard before it.
                time.sleep(0.5)
                stopped = time.monotonic()
                os.kill(listener.process.pid, signal.SIGSTOP)
                time.sleep(0.4)
                os.kill(listener.process.pid, signal.SIGCONT)
                talker.wait_for("silence", after=stopped)
                silences = [int(event.split()[1]) for at, event in talker.said("silence", after=began) if at < stopped]
                print(f"{before:4} -> {after:4}: silent for {max(silences, default=200)} ms at most, "
                      f"direct after {(back - began) * 1000:.0f} ms")
                assert max(silences, default=0) <= STILL_MS, talker.events[-20:]
            assert not talker.said("disconnected"), talker.events
            assert talker.process.poll() is None and listener.process.poll() is None
