"""Two ICE agents, ours and libnice's, each a program that is told lines and tells JSON."""

import json
import queue
import subprocess
import threading
import time
from pathlib import Path

import harness

HERE = Path(__file__).parent
# More than anything takes, on a machine that does other things too.
PATIENCE_SECONDS = 30
DATAGRAMS = 300
_compiling = threading.Lock()


def nicepeer():
    """The program with libnice, compiled where the tests' other products are."""
    with _compiling:
        return _compiled()


def _compiled():
    source = HERE / "nicepeer/nicepeer.c"
    target = HERE.parents[1] / ".build-tests/nicepeer"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "nice"], capture_output=True, text=True, check=True)
        target.parent.mkdir(exist_ok=True)
        done = subprocess.run(
            ["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", str(source), "-o", str(target),
             *flags.stdout.split()], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return target


class Agent:
    """One of the programs, with the words that both understand."""

    def __init__(self, program, role, *words, namespace=None):
        enter = ("ip", "netns", "exec", namespace) if namespace else ()
        self.process = subprocess.Popen([*enter, str(program), role, *words], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.events = []
        self._saying = threading.Lock()
        self._fresh = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._fresh.put(json.loads(line))
        self._fresh.put(None)

    def _take(self, deadline, what):
        try:
            event = self._fresh.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"no {what}; so far {self.events[-12:]}") from None
        assert event is not None, f"it ended without {what}: {self.process.stderr.read()}"
        self.events.append(event)
        return event

    def until(self, what, condition):
        """Reads on until the condition holds for what was told so far."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            self._take(deadline, what)

    def say(self, *words):
        with self._saying:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()

    def all(self, kind):
        return [event for event in self.events if event["event"] == kind]

    def last(self, kind):
        return next((event for event in reversed(self.events) if event["event"] == kind), None)

    def await_new(self, kind, since):
        """The first of its kind beyond those that there were."""
        self.until(kind, lambda: len(self.all(kind)) > since)
        return self.all(kind)[since]

    @property
    def role(self):
        return next(event["role"] for event in reversed(self.events) if "role" in event)

    @property
    def state(self):
        return (self.last("state") or {}).get("state")

    def close(self):
        """Ends it, and says so if it did not end well."""
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (subprocess.TimeoutExpired, OSError):
            self.process.kill()
            self.process.wait()
        errors = self.process.stderr.read()
        for mark in harness.CRASH_MARKS:
            assert mark not in errors, errors

    def describe(self, to, options=(), since=(0, 0), keep=lambda line: True):
        """Tells the other side all that there is, in one piece, once it was gathered."""
        credentials = self.await_new("credentials", since[0])
        self.await_new("gathered", since[1])
        to.say("remote", credentials["fragment"], credentials["password"], *options)
        for line in self.lines():
            if keep(line):
                to.say("candidate", line)
        to.say("end")

    def trickle(self, to, options=()):
        """Tells the other side one by one, as it comes."""
        credentials = self.await_new("credentials", 0)
        to.say("remote", credentials["fragment"], credentials["password"], *options)
        told = 0
        while True:
            lines = self.lines()
            for line in lines[told:]:
                to.say("candidate", line)
            told = len(lines)
            if self.all("gathered"):
                return to.say("end")
            self._take(time.monotonic() + PATIENCE_SECONDS, "candidate")

    def lines(self):
        """Candidates since the last description."""
        lines = []
        for event in self.events:
            if event["event"] == "candidate":
                lines.append(event["line"])
            if event["event"] == "credentials":
                lines = []
        return lines


class Ours(Agent):
    def __init__(self, role, *words, namespace=None):
        super().__init__(harness.BINARY.parent / "ice-peer", role, *words, namespace=namespace)

    def wait_connected(self):
        self.until("path", lambda: (self.last("pair") or {}).get("local") is not None)

    def wait_nominated(self):
        self.until("nominated path", lambda: (self.last("pair") or {}).get("nominated") is True)


class Libnice(Agent):
    def __init__(self, role, *words, namespace=None):
        super().__init__(nicepeer(), role, *words, namespace=namespace)

    def wait_connected(self):
        self.until("ready component", lambda: self.state == "ready")


class Pair:
    """Ours and libnice's, with words for each alone and for both."""

    def __init__(self, role, both=(), ours=(), libnice=(), libnice_role=None, namespaces=(None, None)):
        other = libnice_role or {"controlling": "controlled", "controlled": "controlling"}[role]
        self.libnice = Libnice(other, *both, *libnice, namespace=namespaces[1])
        try:
            self.ours = Ours(role, *both, *ours, namespace=namespaces[0])
        except BaseException:
            self.libnice.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.ours.close()
        finally:
            self.libnice.close()

    def connect(self, trickles=False, options=(), keep=lambda line: True):
        """`options` are those of libnice's description."""
        if trickles:
            carriers = [threading.Thread(target=self.ours.trickle, args=(self.libnice,)),
                        threading.Thread(target=self.libnice.trickle, args=(self.ours, options))]
            for carrier in carriers:
                carrier.start()
            for carrier in carriers:
                carrier.join(PATIENCE_SECONDS)
        else:
            # libnice gives up what it checks before it has candidates of its own for it.
            for agent in (self.ours, self.libnice):
                agent.await_new("gathered", 0)
            self.ours.describe(self.libnice, keep=keep)
            self.libnice.describe(self.ours, options, keep=keep)
        self.wait_connected()

    def wait_connected(self):
        self.ours.wait_connected()
        self.libnice.wait_connected()

    def exchange(self, count=DATAGRAMS):
        """Both ways at once. Returns how many were asked for twice."""
        counts = [len(agent.all("echoed")) for agent in (self.ours, self.libnice)]
        for agent in (self.ours, self.libnice):
            agent.say("send", count)
        repeated = 0
        for agent, since in zip((self.ours, self.libnice), counts):
            echoed = agent.await_new("echoed", since)
            assert (echoed["count"], echoed["broken"]) == (count, 0), echoed
            repeated += echoed["repeated"]
        return repeated

    def paths(self):
        """Where each sends: its own end's type and the other's address, as it knows them at last."""
        return self.ours.last("pair"), self.libnice.last("pair")

    def assert_same_pair(self):
        """Each sends to where the other sends from, as it is seen from outside."""
        def agree():
            ours, libnice = self.paths()
            return ours["remote"][1:] == libnice["local"][1:] and ours["local"][1:] == libnice["remote"][1:]

        self.settle(agree)

    def report(self):
        """What our agent has tried."""
        since = len(self.ours.all("report"))
        self.ours.say("report")
        return self.ours.await_new("report", since)["text"]

    def settle(self, condition):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, (self.paths(), self.report(), self.libnice.events[-8:])
            for agent in (self.ours, self.libnice):
                try:
                    agent._take(time.monotonic() + 0.05, "change")
                except AssertionError as failure:
                    if "it ended" in str(failure):
                        raise
