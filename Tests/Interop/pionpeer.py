"""The peer by pion/webrtc in `pion/peer`, and the other Go programs: built by Debian's Go from Debian's packages."""

import json
import os
import subprocess
import threading
import time

import harness

SOURCES = harness.REPOSITORY / "Tests/Interop/pion"
MADE = harness.REPOSITORY / ".build-tests/go"


def built(name):
    """Builds a program and returns its path. Go does at once what it has done before.

    With other flags than Debian's it would build its standard library too, which takes a minute.
    """
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(MADE), "GO111MODULE": "off", "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(MADE / "cache"),
    }
    MADE.mkdir(parents=True, exist_ok=True)
    program = MADE / name
    done = subprocess.run(["go", "build", "-o", str(program), "."], cwd=SOURCES / name, env=environment,
                          capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    return program


class Pion:
    """A `pion/peer` that is registered; what it tells is in `events`, in order."""

    def __init__(self, id, namespace, arguments, environment):
        self.id = id
        self.events, self.messages = [], []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, str(built("peer")), "-id", id, *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"], **environment})
        self._readers = [threading.Thread(target=self._read, daemon=True),
                         threading.Thread(target=lambda: self.messages.extend(self.process.stderr), daemon=True)]
        for reader in self._readers:
            reader.start()
        try:
            self.wait("registered")
        except BaseException:
            self.process.kill()
            raise

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.events.append(json.loads(line) | {"at": time.monotonic()})
                self._changed.notify_all()

    def do(self, what, **rest):
        self.process.stdin.write(json.dumps({"do": what, **rest}) + "\n")
        self.process.stdin.flush()

    def wait(self, event, timeout=20, after=0, **members):
        """The first such event behind so many."""
        def found():
            matching = (one for one in self.events[after:]
                        if one["event"] == event and all(one.get(name) == value for name, value in members.items()))
            return next(matching, None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self.process.poll() is not None, timeout)
            seen = found()
            assert seen, f"no {event} {members} in {timeout} s: {self.events[after:]}\n{''.join(self.messages)}"
            return seen

    def last(self, event):
        with self._changed:
            return next((one for one in reversed(self.events) if one["event"] == event), None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """It hangs up and ends by itself."""
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            for reader in self._readers:
                reader.join(5)
