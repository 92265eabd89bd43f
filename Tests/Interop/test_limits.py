"""Limits of bandwidth and of monthly bytes: what passes, what it costs the others, and what is still known after a
death."""

import json
import struct
import threading
import time

import stunwire as stun
from harness import PASSWORD, Background, wait_until
from totals import Totals

PAYLOAD = 1000
USERS = {"alice": PASSWORD, "bob": "another long passphrase 43"}


class Receiver:
    """Reads a socket on a thread of its own, and keeps when each payload came and which one it was."""

    def __init__(self, sock, header=0):
        self.socket, self.header = sock, header
        self.times, self.numbers, self.bytes = [], [], 0
        self.ended = threading.Event()
        self.socket.settimeout(0.05)
        self.background = Background(self._run)

    def _run(self):
        while not self.ended.is_set():
            try:
                datagram = self.socket.recv(65535)
            except TimeoutError:
                continue
            self.times.append(time.monotonic())
            self.numbers.append(struct.unpack_from("!I", datagram, self.header)[0])
            self.bytes += len(datagram) - self.header

    def end(self):
        self.ended.set()
        self.background.result()
        return self


def paced(send, per_second, seconds):
    """Calls `send(number)` at an even pace; returns how often."""
    start = time.monotonic()
    count = int(per_second * seconds)
    for number in range(count):
        wait = start + number / per_second - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        send(number)
    return count


def payload(number):
    return struct.pack("!I", number) + bytes(PAYLOAD - 4)


def usage(server, *arguments):
    return json.loads(server.cli("user", "usage", *arguments, "--format", "json").stdout)


def add_user(server, name, *flags):
    server.cli("user", "add", name, "--password-stdin", *flags, input=PASSWORD + "\n")


# Bandwidth


def test_RE_13_ten_times_the_cap_passes_the_cap_and_costs_another_user_nothing(serve):
    """Case RE-13."""
    cap, seconds = 2_000_000, 6
    server = serve({"workers": 1}, users={"bob": USERS["bob"]})
    add_user(server, "alice", "--max-bps", str(cap))
    with server.client("alice", PASSWORD) as greedy, server.client("bob") as modest, server.peer() as sink, \
            server.peer() as other:
        greedy.allocated().bound(0x4000, sink.address)
        modest.allocated().bound(0x4000, other.address)
        at_sink, at_other = Receiver(sink.socket), Receiver(other.socket)
        floods = Background(lambda: paced(lambda n: greedy.send_channel(0x4000, payload(n)), cap * 10 / 8 / PAYLOAD,
                                          seconds))
        calm = Background(lambda: paced(lambda n: modest.send_channel(0x4000, payload(n)), 500, seconds))
        sent, calm_sent = floods.result(), calm.result()
        wait_until(lambda: len(at_other.numbers) == calm_sent, 5, "all of the other user's datagrams")
        at_sink.end(), at_other.end()
        assert at_other.numbers == list(range(calm_sent)), "the other user lost or got out of order"
        # The burst is over within the first second.
        first, last = at_sink.times[0] + 1, at_sink.times[-1]
        passed = sum(first <= moment <= last for moment in at_sink.times) * PAYLOAD * 8 / (last - first)
        assert abs(passed - cap) <= cap * 0.05, f"{passed:.0f} bit/s passed of {cap}"
        greedy.refresh(0)
        modest.refresh(0)
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    assert totals.dropped["over_bandwidth"] == sent - len(at_sink.numbers)
    ended = {entry["user"]: entry for entry in server.log_entries() if entry["message"] == "allocation ended"}
    assert int(ended["alice"]["packets_over_bandwidth"]) == sent - len(at_sink.numbers)
    assert int(ended["bob"]["packets_over_bandwidth"]) == 0


def test_RE_13_the_cap_holds_toward_the_client_too_and_a_reload_changes_it(serve):
    """Case RE-13, with limits.bps_per_allocation."""
    server = serve({"limits": {"bps_per_allocation": 1_600_000}})
    with server.client() as client, server.peer() as peer:
        client.allocated().bound(0x4000, peer.address)

        def passing(cap):
            receiver = Receiver(client.socket, header=4)
            sent = paced(lambda n: peer.send(payload(n), client.relayed), 2_000, 4)
            time.sleep(0.2)
            receiver.end()
            first, last = receiver.times[0] + 1, receiver.times[-1]
            passed = sum(first <= moment <= last for moment in receiver.times) * PAYLOAD * 8 / (last - first)
            assert abs(passed - cap) <= cap * 0.05, f"{passed:.0f} bit/s passed of {cap}"
            return sent - len(receiver.numbers)

        dropped = passing(1_600_000)
        server.write_config({"limits": {"bps_per_allocation": 0, "bps_total": 4_000_000}})
        server.process.send_signal(1)
        wait_until(lambda: "configuration reloaded" in server.log(), 5, "the reload")
        dropped += passing(4_000_000)
        client.refresh(0)
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    assert totals.dropped["over_bandwidth"] == dropped


def test_config_print_shows_the_limits_and_where_they_come_from(serve):
    server = serve({"limits": {"bps_total": 5_000_000}}, start=False)
    printed = server.cli("config", "print", "--config", str(server.config_path)).stdout
    assert any("limits.bps_total" in line and "5000000" in line for line in printed.splitlines()), printed
    assert any("limits.bps_per_allocation" in line and "default" in line for line in printed.splitlines()), printed


# Monthly bytes


def relay(client, peer, count, first=0):
    """Sends datagrams each of which arrives."""
    for number in range(first, first + count):
        client.send_channel(0x4000, payload(number))
        assert struct.unpack_from("!I", peer.receive()[0])[0] == number


def test_usage_counts_each_byte_once_under_its_user_and_survives_restarts(serve):
    server = serve(users=USERS, secrets={"web": "a shared secret, long enough"})
    name, password = stun.time_limited("a shared secret, long enough", "carol", int(time.time()) + 3600)
    with server.client("alice") as alice, server.client("bob") as bob, server.client(name, password) as carol, \
            server.peer() as peer:
        for client in alice, bob, carol:
            client.allocated().bound(0x4000, peer.address)
        relay(alice, peer, 50)
        relay(carol, peer, 30)
        for number in range(20):
            peer.send(payload(number), bob.relayed)
            assert bob.receive_data()[0] == 0x4000
    server.stop()
    expected = {("alice", 50_000, 0, 50, 0), ("bob", 0, 20_000, 0, 20), ("carol", 30_000, 0, 30, 0)}

    def seen():
        return {(entry["user"], entry["bytesToPeers"], entry["bytesToClients"], entry["packetsToPeers"],
                 entry["packetsToClients"]) for entry in usage(server)}

    assert seen() == expected
    server.start()
    with server.client("alice") as alice, server.peer() as peer:
        alice.allocated().bound(0x4000, peer.address)
        relay(alice, peer, 5)
        # While the allocation lives, without its end.
        wait_until(lambda: usage(server, "alice")[0]["bytesToPeers"] == 55_000, 12, "the bytes of a live allocation")


def test_a_kill_loses_ten_seconds_of_usage_at_most(serve):
    server = serve()
    with server.client() as client, server.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        sent = []

        def send(number):
            sent.append(time.monotonic())
            client.send_channel(0x4000, payload(number))

        receiver = Receiver(peer.socket)
        paced(send, 200, 17)
        wait_until(lambda: len(receiver.numbers) == len(sent), 5, "all of it at the peer")
        died = time.monotonic()
        server.kill()
        receiver.end()
    old = sum(moment <= died - 10 for moment in sent)
    assert old > 1000
    kept = usage(server, "alice")[0]["packetsToPeers"]
    assert old <= kept <= len(sent), f"{kept} of {len(sent)} are known, {old} are older than ten seconds"
    server.start()
    assert usage(server, "alice")[0]["packetsToPeers"] == kept


def test_who_has_used_up_the_month_gets_486_and_loses_what_he_holds(serve):
    server = serve(users={"bob": USERS["bob"]})
    add_user(server, "alice", "--monthly-bytes", "100000")
    with server.client("alice", PASSWORD) as alice, server.client("bob") as bob, server.peer() as peer:
        alice.allocated().bound(0x4000, peer.address)
        bob.allocated().bound(0x4000, peer.address)
        relay(alice, peer, 90)
        wait_until(lambda: usage(server, "alice") and usage(server, "alice")[0]["bytes"] == 90_000, 12, "90 %")
        assert alice.refresh(600).is_success
        relay(alice, peer, 11, first=90)
        began = time.monotonic()
        wait_until(lambda: any(entry.get("user") == "alice" and entry.get("reason") == "quota"
                               for entry in server.log_entries()), 12, "the end of the allocation")
        assert time.monotonic() - began < 10
        assert alice.refresh(600).error == 437
        assert alice.allocate().error == 486
        relay(bob, peer, 5)
        assert bob.refresh(600).is_success
        # A restart forgives nothing.
        server.stop()
        server.start()
    with server.client("alice", PASSWORD) as alice:
        assert alice.allocate().error == 486
    warnings = [entry["message"] for entry in server.log_entries() if entry["level"] == "warning" and "month" in entry]
    assert len(warnings) == 2, warnings
    # A month that is over does not count: the rows are moved to an earlier one.
    move_usage_a_year_back(server)
    server.cli("user", "disable", "alice")
    server.cli("user", "enable", "alice")
    with server.client("alice", PASSWORD) as alice:
        wait_until(lambda: alice.allocate().is_success, 5, "the user is let in again")


def move_usage_a_year_back(server):
    import sqlite3

    with sqlite3.connect(server.data / "turnpike.sqlite3") as database:
        database.execute("UPDATE usage SET month = (substr(month, 1, 4) - 1) || substr(month, 5)")
    database.close()
