"""Servers, NATs and machines that stop, start and change while a connection carries data: the real server, real peers
and a real kernel.

    python3 -m pytest test_healing.py -s

prints for how long data stood still."""

import contextlib
import os
import signal
import time

import kernelnats
import pytest
from harness import wait_until
from namespaces import ip, run
from peerlab import PeerLab
from test_uplinks import program

DELAY_MS = 10
DIRECT = ("udp-hole-punch", "direct")
RELAYED = ("turn-relay",)
# Data is to flow again after so long, and the path to be direct.
FLOWS_S, DIRECT_S = 2, 3
SLEEP_S = 9
# What a busy machine adds to any of them.
GRACE_S = 0.5


class Healing:
    """A connection between two sites, with a message and an answer every 20 ms."""

    def __init__(self, lab, talker, listener):
        self.lab, self.talker, self.listener = lab, talker, listener

    @property
    def method(self):
        """Of the path at the moment."""
        words = [event.split()[1] for _, event in self.talker.said("path ", "connected ")]
        return words[-1] if words else "none"

    def settle(self, methods):
        wait_until(lambda: self.method in methods, 20, f"one of {methods}, not {self.method}")
        time.sleep(1)

    def after(self, strike):
        """For how many seconds nothing came since `strike` began, which says for how long nobody could help it."""
        began = time.monotonic()
        away = strike(self) or 0
        time.sleep(FLOWS_S + 1)
        # What is heard again after a pause was heard before it.
        stopped = time.monotonic()
        os.kill(self.listener.process.pid, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(self.listener.process.pid, signal.SIGCONT)
        self.talker.wait_for("silence", after=stopped)
        silences = [int(event.split()[1]) / 1000 for at, event in self.talker.said("silence", after=began)
                    if at - int(event.split()[1]) / 1000 < stopped]
        # Below 0.2 s the program says nothing.
        return max(0, max(silences, default=0.2) - away), began

    def assert_lives(self):
        assert not self.talker.said("disconnected"), self.talker.events
        assert self.talker.process.poll() is None and self.listener.process.poll() is None


def server_restarts(healing):
    """As a crash does it; and at once, as a service manager does."""
    server = healing.lab.server
    killed = time.monotonic()
    server.kill()
    server.start()
    return time.monotonic() - killed


def nat_restarts(healing):
    healing.lab.sites[0].reboot()


def nat_moves(healing):
    """The provider gives the home another public address."""
    site = healing.lab.sites[0]
    old, site.outside = site.outside, next(ADDRESSES)
    # With the first address of a network the others of it go as well.
    ip("addr", "del", old + "/24", "dev", "wan", namespace=site.router)
    ip("addr", "add", site.outside + "/24", "dev", "wan", namespace=site.router)
    run("ip", "netns", "exec", site.router, "nft", "flush", "ruleset")
    kernelnats.make(site.router, site.kind, site.outside)
    kernelnats.forget(site.router)


ADDRESSES = iter(f"203.0.113.{host}" for host in range(220, 240))


@pytest.fixture(scope="module", params=["relay", "direct"])
def healing(request, tmp_path_factory):
    kind = "symmetric" if request.param == "relay" else "port-restricted"
    methods = RELAYED if request.param == "relay" else DIRECT
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(PeerLab(tmp_path_factory.mktemp("healing"), kind, kind, delay_ms=DELAY_MS))
        environment = {"PATH": os.environ["PATH"], **lab.environment}
        one, other = (site.client for site in lab.sites)
        listener = stack.enter_context(program("timed-listen", other, environment))
        listener.wait_for("listening")
        talker = stack.enter_context(program("timed-talk", one, environment))
        talker.wait_for("connected")
        made = Healing(lab, talker, listener)
        made.settle(methods)
        made.kind = request.param
        yield made
        made.assert_lives()
        lab.server.assert_no_crash_in_log()


@pytest.mark.parametrize("strike", [nat_restarts, nat_moves, server_restarts], ids=lambda each: each.__name__)
def test_data_flows_again(healing, strike):
    methods = RELAYED if healing.kind == "relay" else DIRECT
    silent, began = healing.after(strike)
    healing.settle(methods)
    paths = [at - began for at, event in healing.talker.said("path", after=began)]
    print(f"{strike.__name__}, {healing.kind}: silent for {silent * 1000:.0f} ms, "
          f"last path after {max(paths, default=0) * 1000:.0f} ms")
    healing.assert_lives()
    assert silent <= FLOWS_S + GRACE_S
    if healing.kind == "direct":
        assert max(paths, default=0) <= DIRECT_S + GRACE_S, healing.talker.events[-9:]


def test_a_machine_that_slept_goes_on_at_once(healing):
    def sleep(_):
        os.kill(healing.listener.process.pid, signal.SIGSTOP)
        time.sleep(SLEEP_S)
        os.kill(healing.listener.process.pid, signal.SIGCONT)
        return SLEEP_S

    silent, _ = healing.after(sleep)
    print(f"asleep for {SLEEP_S} s, {healing.kind}: silent for {silent * 1000:.0f} ms longer")
    healing.assert_lives()
    assert silent <= FLOWS_S + GRACE_S
