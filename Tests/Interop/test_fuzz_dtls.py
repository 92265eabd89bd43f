"""Mutated datagrams of DTLS, before, within and behind the handshake: the process lives, holds on to nothing, and
accounts for all of them."""

import contextlib
import os
import random

from OpenSSL import SSL

from dtlsclient import DTLSClient, DTLSWire, Handshake, Refused
from harness import client_address, wait_until
from namespaces import inside
from stunclient import Closed
from test_fuzz import GROWTH_KIB_MAX, RESERVATION_SECONDS
from test_fuzz_streams import Fuzzer, messages_of
from totals import Totals

# FUZZ_SCALE=10 makes it a million.
COUNT = int(100_000 * float(os.environ.get("FUZZ_SCALE", "1")))
SEED = int(os.environ.get("FUZZ_SEED", "20260103"))
DRAIN_BYTES = 1 << 16


def drain(sock):
    """What has come, without waiting."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
        while True:
            yield sock.recv(DRAIN_BYTES)


class Records(Fuzzer):
    """Changes what DTLS looks at: headers of records and of handshake messages, lengths, and whole records."""

    def changed(self, datagram):
        data = bytearray(datagram)
        for _ in range(self.random.randrange(1, 4)):
            kind = self.random.randrange(5)
            if kind == 0 and len(data) > 25:
                data[self.random.randrange(25)] = self.random.choice((0, 1, 20, 21, 22, 23, 24, 0xFE, 0xFD, 0xFF))
            elif kind == 1 and len(data) > 13:
                data[11:13] = self.random.choice((0, 1, len(data) - 13, 16_384, 0xFFFF)).to_bytes(2, "big")
            elif kind == 2:
                data += data[: self.random.randrange(len(data) + 1)]
            else:
                data = self.mutate(data, 0)
        return data[:60_000]


class Stranger:
    """Sends hellos, with and without its cookie, from an address of its own: some are left half-way."""

    def __init__(self, server, fuzzer):
        self.fuzzer = fuzzer
        self.wire = DTLSWire(server.address, (client_address(), 0), handshake=False)
        self.seen = []
        self.restart()

    def restart(self):
        self.handshake = Handshake()
        self.remember(self.handshake.advance())

    def remember(self, datagram):
        if datagram:
            self.seen = [*self.seen[-20:], datagram]

    def step(self):
        roll = self.fuzzer.random.random()
        datagram = self.fuzzer.random.choice(self.seen)
        self.wire.put(datagram if roll < 0.2 else self.fuzzer.changed(datagram))
        for answer in drain(self.wire.socket):
            try:
                self.handshake.put(answer)
                self.remember(self.handshake.advance())
            except (Refused, SSL.Error):
                self.restart()
        if roll > 0.98:
            self.restart()


class Guest:
    """An established session with an allocation: mutated messages in sound records, and mutated records."""

    def __init__(self, server, fuzzer, peer):
        self.server, self.fuzzer, self.peer = server, fuzzer, peer
        self.local = (client_address(), 0)
        self.made = 0
        self.connect()

    def connect(self):
        integrity = self.fuzzer.random.choice(("sha1", "sha256"))
        self.client = self.server.client(kind=DTLSClient, local=self.local, integrity=integrity)
        self.allocate()

    def allocate(self):
        self.made += 1
        self.client.allocated().bound(0x4000, self.peer.address)
        self.corpus = list(messages_of(self.client, self.peer.address))

    def step(self):
        roll = self.fuzzer.random.random()
        message, size = self.fuzzer.random.choice(self.corpus)
        try:
            if roll < 0.5:
                message = self.fuzzer.framed(message, size, self.client)[:16_000] or b"\0"
            datagram = self.client.sealed(bytes(message))
            if roll > 0.6:
                datagram = self.fuzzer.changed(datagram)
            with contextlib.suppress(OSError):
                self.client.put(datagram)
            for answer in drain(self.client.socket):
                self.client.opened(answer)
        except (Closed, SSL.Error):
            self.end()
        if self.fuzzer.random.random() < 0.001:
            self.end()

    def end(self):
        """By close_notify; or without a word, and on the same port again."""
        if self.fuzzer.random.random() < 0.5:
            with contextlib.suppress(SSL.Error, OSError):
                self.client.finish()
            self.client.close()
            self.connect()
        else:
            self.client.socket.setblocking(True)
            self.client.begin()
            self.client.shake_hands()
            self.client.nonce = None
            self.allocate()


def test_a_hundred_thousand_mutated_datagrams_of_dtls_leave_the_server_as_it_was(serve, cut_off):
    print(f"seed {SEED} (set FUZZ_SEED to change it), {COUNT} datagrams (set FUZZ_SCALE for more)")
    server = serve({"limits": {"allocations_per_user": 10_000, "unauthenticated_replies_per_second": 100_000,
                               "binding_replies_per_second": 1_000_000}}, namespace=cut_off)
    fuzzer = Records(SEED)
    with inside(cut_off):
        with server.client(kind=DTLSClient) as client:
            client.allocated()
            client.finish()
        wait_until(lambda: not server.relay_sockets(), 1, "the first allocation ended")
        before_any = server.descriptors()
        peers = [server.peer(f"127.0.2.{number + 1}") for number in range(4)]
        clients = [Guest(server, fuzzer, peer) for peer in peers] + [Stranger(server, fuzzer) for _ in range(4)]

        def run(count):
            for number in range(count):
                client = fuzzer.random.choice(clients)
                client.step()
                if isinstance(client, Guest) and number % 4 == 0:
                    with contextlib.suppress(OSError):
                        client.peer.send(fuzzer.random.randbytes(fuzzer.random.randrange(1400)), client.client.relayed)
                    for _ in drain(client.peer.socket):
                        pass
                if number % 1000 == 0:
                    server.assert_alive()

        run(COUNT // 10)
        baseline = server.resident_kib()
        run(COUNT)
        growth = server.resident_kib() - baseline
        made = sum(client.made for client in clients if isinstance(client, Guest))
        print(f"{made} sessions, {growth} KiB more")
        assert growth <= GROWTH_KIB_MAX, f"{growth} KiB after {COUNT} datagrams, seed {SEED}"
        for client in clients:
            (client.client if isinstance(client, Guest) else client.wire).close()
        for peer in peers:
            peer.close()
        # The last of them went without a word.
        server.cli("user", "disable", "alice")
        wait_until(lambda: server.descriptors() <= before_any, RESERVATION_SECONDS,
                   f"descriptors are back at {before_any}")
        assert not server.relay_sockets()
        server.cli("user", "enable", "alice")
        with server.client(kind=DTLSClient, local="127.0.3.1") as client, server.peer("127.0.3.2") as peer:
            wait_until(lambda: client.allocate().is_success, 3, "the user may allocate again")
            client.bound(0x4000, peer.address)
            client.send_channel(0x4000, b"as before")
            assert peer.receive()[0] == b"as before"
            client.finish()
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    print(totals.packets_in, totals.outcomes, {reason: count for reason, count in totals.dropped.items() if count})
    assert totals.packets_in >= COUNT, totals.packets_in
    assert totals.dropped["bad_record"] > COUNT // 20 and sum(1 for n in totals.dropped.values() if n) > 5
