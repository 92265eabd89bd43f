"""`network-box`: links and NATs of real networks, each a process that ends when its standard input does.

    NAMESPACE:DEVICE  <── delay, jitter, loss, rate, queue, MTU ──>  NAMESPACE:DEVICE
    NAMESPACE:INSIDE  <── mapping, filtering, allocation, … ──>  NAMESPACE:OUTSIDE
"""

import itertools
import json
import subprocess

import harness
from namespaces import ip, run

BINARY = harness.BINARY.parent / "network-box"
_seeds = itertools.count(1)


class Box:
    """A running `network-box`. Whoever made it is the only one who holds its standard input: it does not outlive the
    test, however that ends, and its devices go with it."""

    def __init__(self, *arguments):
        command = [str(BINARY), *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
        if self.process.stdout.readline() != "ready\n":
            raise AssertionError(f"{' '.join(command)}: {self.process.communicate(timeout=10)[1]}")

    def say(self, line):
        """Gives a command and returns the answer."""
        self.process.stdin.write(line + "\n")
        answer = self.process.stdout.readline().strip()
        assert answer and not answer.startswith("error"), f"{line}: {answer}"
        return answer

    def report(self):
        """Its counters."""
        return {name: int(value) for name, value in (word.split("=") for word in self.say("report").split())}

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class Link(Box):
    """A cable between two namespaces, as bad as is wished: "up" goes from the first to the second.

    Both devices are up when it is made. The qualities are those of the virtual lab's links: `delay_ms`, `jitter_ms`,
    `loss`, `reorder`, `reorder_ms`, `duplicate`, `rate_bps`, `queue_bytes`, `mtu`, for each direction.
    """

    def __init__(self, one, one_device, other, other_device, seed=None, **qualities):
        seed = next(_seeds) if seed is None else seed
        super().__init__("link", f"{one}:{one_device}", f"{other}:{other_device}", seed, *_words(qualities))
        for namespace, device in ((one, one_device), (other, other_device)):
            # More than the kernel's usual 500 packets: the box may have to wait for a processor.
            ip("link", "set", device, "txqueuelen", "10000", "up", namespace=namespace)

    def cut(self):
        """Loses what is under way, and all that comes until `repair`."""
        self.say("cut")

    def repair(self):
        self.say("repair")

    def set(self, direction="both", **qualities):
        """Changes it while it runs; `direction` is "up", "down" or "both"."""
        self.say(" ".join([direction, *_words(qualities)]))


class NAT(Box):
    """A NAT between two TUN devices of a router's namespace, of a profile of the virtual lab
    (Tests/Lab/NATProfile.swift) and changed by words such as `lifetime_s=20`.

    Both devices are up when it is made. What goes into the first comes out at the second with an address of
    `addresses`.
    """

    def __init__(self, profile, namespace, inside, outside, addresses, seed=None, **changes):
        seed = next(_seeds) if seed is None else seed
        super().__init__("nat", profile, f"{namespace}:{inside}", f"{namespace}:{outside}", seed,
                         "addresses=" + ",".join(addresses), *_words(changes))
        for device in (inside, outside):
            ip("link", "set", device, "txqueuelen", "10000", "up", namespace=namespace)

    def reboot(self):
        """Forgets all mappings."""
        self.say("reboot")


def verdicts(*kinds):
    """What discovery says of each profile, or of these kinds, in the virtual lab, by name."""
    lines = run(str(BINARY), "verdicts", *kinds).stdout.splitlines()
    return {verdict.pop("profile"): verdict for verdict in map(json.loads, lines)}


def pairs():
    """The pairs of NATs that the virtual lab tries: `offerer`, `answerer`, and whether they are `direct` there in every
    run without guessing ports."""
    return [json.loads(line) for line in run(str(BINARY), "pairs").stdout.splitlines()]


def _words(qualities):
    return [f"{name}={value}" for name, value in qualities.items()]
