"""A `NATLab` with a server that has everything, and pairs of `turnpike-peer`s behind its NATs.

    server   STUN and TURN 203.0.113.10:3478 (UDP, TCP), :443 (TLS, and signaling beside it); 203.0.113.11:3479
       │
      wan ──┬── NAT ── turnpike-peer listen
            └── NAT ── turnpike-peer connect
"""

import contextlib
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import harness
from natlab import SERVER, NATLab
from peertool import BINARY

HOST = SERVER[0]
# What a path that no relay is part of is called.
DIRECT = ("direct", "udp-hole-punch", "tcp-hole-punch")
PATIENCE_SECONDS = 30


class PeerLab:
    """`PeerLab(directory, "symmetric", "no-udp", delay_ms=10)`: the sites are `lab.sites`, and `environment` is what a
    peer is told."""

    def __init__(self, directory, *kinds, config=None, **qualities):
        self.lab = NATLab(*kinds, **qualities)
        self.server = None
        try:
            self._serve(Path(directory), config or {})
        except BaseException:
            self.close()
            raise

    @property
    def sites(self):
        return self.lab.sites

    def _serve(self, directory, config):
        listen = {"tcp": [f"{HOST}:3478"], "shared": [f"{HOST}:443"], "alternate": [f"{SERVER[1]}:3479"]}
        # The addresses are of a range for documentation, to which a relay sends nothing unless it is told to; and the
        # relays of programs that were killed live for ten minutes.
        base = {"listen": listen, "relay": {"allow_peers": ["203.0.113.0/24"]},
                "limits": {"allocations_per_user": 2000}}
        self.server = harness.Server(directory / "server", harness.merged(base, config), namespace=self.lab.server,
                                     hosts=(HOST,), port=3478, relays_loopback=False)
        self.server.start()
        harness.wait_until(lambda: (self.server.data / "admin.sock").exists(), 20, "the gateway")
        printed = self.server.cli("user", "passwd", "alice", "--password-stdin", "--format", "env", "--config",
                                  str(self.server.config_path), input=harness.PASSWORD + "\n").stdout
        self.environment = dict(line.split("=", 1) for line in printed.replace("'", "").splitlines())

    def close(self):
        try:
            if self.server is not None:
                self.server.stop()
        finally:
            if self.server is not None:
                self.server.discard()
            self.lab.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Peer:
    """A running `turnpike-peer` and what it has said, with the time of each line."""

    def __init__(self, environment, namespace, *arguments):
        self.began = time.monotonic()
        self.lines, self.received = [], []
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, str(BINARY), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, bufsize=1, env={"PATH": os.environ["PATH"], **environment})
        self._threads = [threading.Thread(target=self._read, args=each, daemon=True)
                         for each in ((self.process.stderr, self.lines), (self.process.stdout, self.received))]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _read(stream, into):
        for line in stream:
            into.append((time.monotonic(), line.rstrip("\n")))

    @property
    def said(self):
        return "\n".join(line for _, line in self.lines)

    def wait_for(self, *words, what=None, after=0.0, seconds=PATIENCE_SECONDS):
        """When it has said, later than `after`, a line with one of these words, and the line; None if it has not."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self.process.poll() is not None
            for at, line in list(self.lines if what is None else what):
                if at > after and any(word in line for word in words):
                    return at, line
            if ended or time.monotonic() > deadline:
                return None
            time.sleep(0.005)

    def send(self, line):
        self.process.stdin.write(line + "\n")

    def close(self):
        """Ends it at once: what it held at the server stays there until it lapses."""
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                stream.close()
            except BrokenPipeError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


_TOLD = re.compile(r"(?:connected|reached|now) by ([a-z-]+)|no path at the moment")


def _path(peer):
    """The path it is on: what it said last of it."""
    told = [match[1] for _, line in list(peer.lines) if (match := _TOLD.search(line))]
    return told[-1] or "nothing" if told else "nothing"


def meet(lab, listener_site, talker_site, settle_seconds, name="listener"):
    """Two peers meet. Returns what came of it:

    - `path`: `direct`, `relay` or `nothing`, which holds for both ends and says that a message came over it;
    - `methods`: what the listener and the talker call theirs;
    - `connected_s`, `direct_s`: from the start of the talker to its first path, and to its direct one.

    A direct path is waited for as long as `settle_seconds` behind the first one.
    """
    environment = lab.environment
    with Peer(environment, listener_site.client, "listen", "--id", f"alice/{name}", "--forward", "none") as listener:
        if listener.wait_for("registered as") is None:
            return {"path": "nothing", "said": listener.said}
        with Peer(environment, talker_site.client, "connect", f"alice/{name}", "--explain") as talker:
            result = _watch(listener, talker, settle_seconds)
            if result["path"] == "nothing":
                result["said"] = f"{listener.said}\n--\n{talker.said}"
            return result


def _watch(listener, talker, settle_seconds):
    first = talker.wait_for("connected by ")
    if first is None:
        return {"path": "nothing"}
    result = {"connected_s": round(first[0] - talker.began, 3)}
    direct_words = [f"{told} by {word}" for told in ("connected", "now") for word in DIRECT]
    deadline = time.monotonic() + settle_seconds

    def is_direct(peer):
        return _path(peer) in DIRECT

    while time.monotonic() < deadline and not (is_direct(listener) and is_direct(talker)):
        if talker.process.poll() is not None:
            break
        time.sleep(0.01)
    both = (_path(listener), _path(talker))
    with contextlib.suppress(BrokenPipeError):
        talker.send("is anybody there")
    came = listener.wait_for("is anybody there", what=listener.received, seconds=5)
    if talker.process.poll() is not None or not came:
        return result | {"path": "nothing", "methods": both}
    if all(path in DIRECT for path in both):
        found = talker.wait_for(*direct_words, seconds=0)
        return result | {"path": "direct", "methods": both, "direct_s": round(found[0] - talker.began, 3)}
    return result | {"path": "relay" if "turn-relay" in both else "nothing", "methods": both}
