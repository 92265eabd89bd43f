"""What a server does besides relaying, and what of it clients must not feel: keys renewed, usage written, limits
changed."""

import os
import sqlite3
import struct
import time

import stunwire as stun
from harness import Background, PASSWORD, wait_until


def age(path, seconds):
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_the_key_of_nonces_is_renewed_and_costs_no_client_a_438(serve):
    server = serve()
    key = server.data / "nonce.key"
    first = key.read_bytes()
    assert len(first) == 32
    with server.client() as client, server.client() as fresh:
        client.allocated()
        old = client.nonce
        age(key, 86_400 + 60)
        wait_until(lambda: key.read_bytes()[32:] == first, 10, "a new key with the old one behind it")
        assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_size == 64
        assert not (server.data / "nonce.key.new").exists()
        wait_until(lambda: "was renewed" in server.log(), 2, "the workers have it")
        # The nonce under the old key is good as it is.
        answer = client.call(stun.REFRESH, renew=False)
        assert answer.is_success and client.nonce == old
        fresh.challenge()
        # After a second one, the first is gone, and costs that one 438.
        second = key.read_bytes()[:32]
        age(key, 86_400 + 60)
        wait_until(lambda: key.read_bytes()[32:] == second, 10, "the next key")
        wait_until(lambda: server.log().count("was renewed") == 2, 2, "the workers have it")
        assert fresh.call(stun.REFRESH, renew=False).error == 437, "under the one before: good"
        assert client.call(stun.REFRESH, renew=False).error == 438
        assert client.refresh(600).is_success
    third = key.read_bytes()
    server.stop()
    # After a start, too, and a restart keeps both.
    age(key, 2 * 86_400)
    server.start()
    wait_until(lambda: key.read_bytes()[32:] == third[:32], 10, "a key that is of two days ago is renewed")
    now = key.read_bytes()
    assert now[:32] not in third
    server.stop()
    server.start()
    assert key.read_bytes() == now


def test_a_key_that_cannot_be_renewed_stops_nothing_and_is_told_of_once(serve):
    server = serve()
    key = server.data / "nonce.key"
    first = key.read_bytes()
    # Where the new file would be made stands a directory.
    (server.data / "nonce.key.new").mkdir()
    age(key, 86_400 + 60)
    wait_until(lambda: "was not renewed" in server.log(), 10, "the trouble is told of")
    with server.client() as client:
        client.allocated()
        time.sleep(6)
        assert client.refresh(600).is_success
    assert server.log().count("was not renewed") == 1 and key.read_bytes() == first
    (server.data / "nonce.key.new").rmdir()
    wait_until(lambda: key.read_bytes()[32:] == first, 10, "it is renewed as soon as it can be")


def test_credentials_are_answered_while_usage_waits_for_the_disk(serve):
    """Another program holds the database's write lock for three seconds; usage waits, and nobody else."""
    users = {f"user{number}": PASSWORD for number in range(30)}
    server = serve({"workers": 1}, users=users)
    with server.client("user0") as client, server.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        stopping = []

        def relay():
            while not stopping:
                client.send_channel(0x4000, bytes(1000))
                peer.receive()
                time.sleep(0.01)

        relaying = Background(relay)
        database = sqlite3.connect(server.data / "turnpike.sqlite3", isolation_level=None)
        slowest = 0
        # Over more than one of the four-second turns in which usage is written.
        for turn in range(2):
            database.execute("BEGIN IMMEDIATE")
            until = time.monotonic() + 4.5
            for number in range(1 + 14 * turn, 15 + 14 * turn):
                # Of a user nobody has asked for yet, so that the store has to.
                with server.client(f"user{number}") as other:
                    start = time.monotonic()
                    assert other.allocate().is_success
                    slowest = max(slowest, time.monotonic() - start)
                time.sleep(max(0, (until - time.monotonic()) / (16 + 14 * turn - number)))
            database.execute("ROLLBACK")
        database.close()
        stopping.append(True)
        relaying.result()
        assert slowest < 1, f"an answer took {slowest:.2f} s"
        # What was relayed meanwhile is written all the same.
        wait_until(lambda: '"bytes"' in server.cli("user", "usage", "user0", "--format", "json").stdout, 12, "usage")
        client.refresh(0)


def test_a_changed_limit_holds_within_a_second_for_what_the_user_has(serve):
    server = serve()
    with server.client() as client, server.peer() as peer, server.client() as second, server.client() as third:
        client.allocated().bound(0x4000, peer.address)

        def passed():
            """How many of 200 datagrams of 1,000 bytes, sent at once, arrive."""
            for number in range(200):
                client.send_channel(0x4000, struct.pack("!I", number) + bytes(996))
            # The fence is on the same way, so it comes last: what the listener has read has been relayed or dropped.
            client.drain_until_fence()
            count = 0
            peer.socket.settimeout(0.2)
            try:
                while True:
                    peer.socket.recv(2000)
                    count += 1
            except TimeoutError:
                return count

        assert passed() == 200
        server.cli("user", "limit", "alice", "--max-bps", "8000", "--max-allocations", "1")
        time.sleep(1)
        assert 40 <= passed() <= 100
        assert second.allocate().error == 486
        server.cli("user", "limit", "alice", "--max-bps", "0", "--max-allocations", "2")
        time.sleep(1)
        assert passed() == 200
        assert second.allocate().is_success and third.allocate().error == 486
        shown = server.cli("user", "show", "alice").stdout
        assert "unlimited" in shown and " 2\n" in shown, shown
        # An end that has come nearer, and bytes of a month that are used up, count for what he has as well.
        server.cli("user", "limit", "alice", "--monthly-bytes", "1000")
        wait_until(lambda: client.refresh(600).error in (437, 486), 10, "the month is used up")
        server.cli("user", "limit", "alice", "--monthly-bytes", "unlimited")
        wait_until(lambda: third.allocate().is_success, 1, "the month is open again")
        third.refresh(0)
        second.refresh(0)
