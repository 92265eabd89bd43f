"""A hundred thousand mutated inputs by TCP and as many by TLS, cut anywhere: the process lives, holds on to nothing,
accounts for all, and a good stream among them gets every answer."""

import contextlib
import hashlib
import hmac
import os
import random
import socket
import ssl
import struct

import pytest

import stunwire as stun
from harness import client_address, endpoint, free_port, wait_until
from namespaces import inside
from stunclient import Stream, StreamClient
from test_fuzz import GROWTH_KIB_MAX, RESERVATION_SECONDS, corpus_of
from totals import Totals

COUNT = int(os.environ.get("FUZZ_COUNT", "100000"))
SEED = int(os.environ.get("FUZZ_SEED", "20260102"))
INTERESTING = (0, 1, 2, 3, 4, 5, 8, 16, 19, 20, 21, 0x7F, 0x80, 0xFF, 0x100, 0x4000, 0x4FFF, 0x5000, 0x7FFF, 0x8000,
               0xFFF0, 0xFFFC, 0xFFFD, 0xFFFE, 0xFFFF)
ATTRIBUTES = (0x01, 0x06, 0x08, 0x09, 0x0C, 0x0D, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C, 0x1D,
              0x1E, 0x20, 0x22, 0x7FFF, 0x8000, 0x8002, 0x8004, 0x8022, 0x8028, 0x8030, 0xC0FF)


def messages_of(client, peer):
    """The corpus of the datagram fuzzer, without what only its sender in C needs: (message, its integrity's size)."""
    for record in corpus_of(client, 0, peer):
        at = 3 + record[2] + 2
        yield record[at:], (0, 24, 36)[record[1]]


class Fuzzer:
    """Makes inputs. The same seed makes the same choices, though not the same bytes: nonces are the server's."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def mutate(self, data, first):
        """One change of the bytes from `first` on."""
        pick = self.random.randrange
        if len(data) <= first:
            return data
        at = first + pick(len(data) - first)
        kind = pick(9)
        if kind == 0:
            data[at] ^= 1 << pick(8)
        elif kind == 1:
            data[at] = pick(256)
        elif kind == 2 and (at & ~1) + 2 <= len(data):
            struct.pack_into("!H", data, at & ~1, self.random.choice(INTERESTING))
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data += self.random.randbytes(pick(64))
        elif kind == 5:
            data[at:at] = data[first + pick(len(data) - first) :]
        elif kind == 6:
            del data[at : at + pick(16)]
        elif len(data) > 24 and first >= 20:
            # An attribute's type or length.
            offsets, offset = [], 20
            while offset + 4 <= len(data):
                offsets.append(offset)
                offset += 4 + (struct.unpack_from("!H", data, offset + 2)[0] + 3 & ~3)
            offset = self.random.choice(offsets)
            if kind == 7:
                struct.pack_into("!H", data, offset, self.random.choice(ATTRIBUTES))
            else:
                struct.pack_into("!H", data, offset + 2, self.random.choice(INTERESTING))
        return data

    def framed(self, message, size, client):
        """A mutation that is a whole frame, so that the one behind it is found; signed anew where it was signed."""
        data = bytearray(message)
        if data[0] & 0xC0 == 0x40:
            data = self.mutate(data, 4)[:60_000]
            struct.pack_into("!H", data, 2, len(data) - 4)
            return data + self.random.randbytes(-len(data) % 4)
        signed = size and self.random.random() < 0.6
        if signed:
            del data[-size:]
        for _ in range(self.random.randrange(1, 4)):
            data = self.mutate(data, 20)
        if self.random.random() < 0.05:
            struct.pack_into("!H", data, 0, self.random.randrange(0x4000))
        data = data[:60_000]
        data += bytes(-len(data) % 4)
        if signed:
            kind, digest = {24: (stun.MESSAGE_INTEGRITY, hashlib.sha1),
                            36: (stun.MESSAGE_INTEGRITY_SHA256, hashlib.sha256)}[size]
            struct.pack_into("!H", data, 2, len(data) - 20 + size)
            data += struct.pack("!HH", kind, size - 4) + hmac.new(client.key, data, digest).digest()
        struct.pack_into("!H", data, 2, len(data) - 20)
        return data

    def torn(self, message):
        data = bytearray(message)
        for _ in range(self.random.randrange(1, 4)):
            data = self.mutate(data, 0)
        return data[:60_000]

    def cuts(self, data):
        """The data in pieces, each for a write of its own."""
        kind = self.random.random()
        if kind < 0.5 or len(data) < 2:
            return [data]
        if kind < 0.53 and len(data) < 200:
            return [data[at : at + 1] for at in range(len(data))]
        places = sorted(self.random.randrange(len(data)) for _ in range(self.random.randrange(1, 4)))
        return [data[a:b] for a, b in zip([0, *places], [*places, len(data)]) if b > a]


class Door:
    """How a server is reached: by TCP, or by TLS at a port of its own."""

    def __init__(self, server, tls_port=None):
        self.server = server
        self.address = (server.address[0], tls_port or server.port)
        self.context = None
        if tls_port:
            self.context = ssl.create_default_context(cafile=server.data / "certificate.pem")

    def socket(self):
        if self.context is None:
            return None
        bare = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        return self.context.wrap_socket(bare, server_hostname=self.address[0])

    def stream(self, local):
        return Stream(self.address, local, self.socket())

    def client(self, local, **options):
        return StreamClient(self.address, "alice", self.server.users["alice"], local, sock=self.socket(), **options)


class Connection:
    """One of the fuzzer's connections, made anew whenever it ends: with an allocation, or without."""

    def __init__(self, door, fuzzer, peer):
        self.door, self.fuzzer, self.peer, self.made = door, fuzzer, peer, 0
        self.local = (client_address(), 0)
        self.corpus = []
        self.connect()

    def connect(self):
        self.made += 1
        if self.peer is None:
            self.stream = self.door.stream(self.local)
            if not self.corpus:
                with self.door.client(self.local) as client:
                    client.challenge()
                    self.client, self.corpus = client, list(messages_of(client, ("127.0.2.1", 9)))
        else:
            self.client = self.stream = self.door.client(
                self.local, integrity=self.fuzzer.random.choice(("sha1", "sha256")))
            self.client.allocated().bound(0x4000, self.peer.address)
            self.corpus = list(messages_of(self.client, self.peer.address))
        self.stream.socket.settimeout(5)

    def end(self):
        end = self.fuzzer.random.randrange(3)
        with contextlib.suppress(OSError):
            if end == 0:
                self.stream.finish()
            elif end == 1:
                self.stream.abort()
        self.stream.close()

    def step(self):
        """One input, and what has come read away."""
        message, size = self.fuzzer.random.choice(self.corpus)
        kind = self.fuzzer.random.random()
        if kind < 0.1:
            data = self.fuzzer.torn(message)
        elif kind < 0.15:
            data = message + bytes(-len(message) % 4)
        else:
            data = self.fuzzer.framed(message, size, self.client)
        try:
            for piece in self.fuzzer.cuts(data):
                self.stream.socket.sendall(piece)
            while received := self.drain(self.stream.socket):
                pass
            alive = received is None
        except (ConnectionError, ssl.SSLError):
            alive = False
        if not alive or self.fuzzer.random.random() < 0.003:
            self.end()
            self.connect()

    @staticmethod
    def drain(sock):
        """The length of what had come, 0 at the end, None when nothing has come."""
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(0)
            try:
                return len(sock.recv(1 << 16))
            except ssl.SSLWantReadError:
                return None
            except ssl.SSLError:
                return 0
            finally:
                sock.settimeout(5)
        try:
            # A socket with a timeout would wait; its descriptor does not.
            return len(os.read(sock.fileno(), 1 << 16))
        except BlockingIOError:
            return None


class Good:
    """A client that does nothing wrong: what it asks is answered, and what it sends comes out and back."""

    def __init__(self, door, peer):
        self.client, self.peer, self.rounds = door.client((client_address(), 0)), peer, 0
        self.client.allocated().bound(0x4000, peer.address)

    def check(self):
        self.rounds += 1
        payload = struct.pack("!I", self.rounds) * (1 + self.rounds % 300)
        self.client.send_channel(0x4000, payload)
        assert self.client.binding() == self.client.local
        assert self.peer.receive() == (payload, self.client.relayed)
        self.peer.send(payload, self.client.relayed)
        assert self.client.receive_data() == (0x4000, payload)


@pytest.mark.timeout(180 + COUNT // 250)
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_hundred_thousand_mutated_stream_inputs_leave_the_server_as_it_was(serve, cut_off, transport):
    print(f"seed {SEED} (set FUZZ_SEED to change it), {COUNT} inputs (FUZZ_COUNT)")
    config = {"limits": {"allocations_per_user": 1000, "unauthenticated_replies_per_second": 100_000,
                         "binding_replies_per_second": 1_000_000}}
    tls_port = None
    if transport == "tls":
        tls_port = free_port()
        config["listen"] = {"tls": [endpoint("127.0.0.1", tls_port)]}
    server = serve(config, hosts=("127.0.0.1", "::1"), namespace=cut_off)
    door = Door(server, tls_port)
    fuzzer = Fuzzer(SEED)
    with inside(cut_off):
        with server.stream_client(local=client_address()) as client:
            client.allocated().refresh(0)
        wait_until(lambda: not server.relay_sockets(), 1, "the first allocation ended")
        before_any = server.descriptors()
        peers = [server.peer(f"127.0.2.{number + 1}") for number in range(4)]
        for peer in peers:
            peer.socket.setblocking(False)
        connections = [Connection(door, fuzzer, peer) for peer in (*peers, None, None)]
        good_peer = server.peer("127.0.2.100")
        good = Good(door, good_peer)

        def run(count):
            for number in range(count):
                connection = fuzzer.random.choice(connections)
                connection.step()
                if connection.peer is not None and number % 4 == 0:
                    if connection.client.relayed:
                        with contextlib.suppress(OSError):
                            connection.peer.send(fuzzer.random.randbytes(fuzzer.random.randrange(1400)),
                                                 connection.client.relayed)
                    with contextlib.suppress(OSError):
                        Connection.drain(connection.peer.socket)
                if number % 100 == 0:
                    good.check()
                if number % 1000 == 0:
                    server.assert_alive()

        # A tenth first: buffers and tables find their size.
        run(COUNT // 10)
        baseline = server.resident_kib()
        run(COUNT)
        growth = server.resident_kib() - baseline
        made = sum(connection.made for connection in connections)
        print(f"{made} connections, {growth} KiB more")
        assert growth <= GROWTH_KIB_MAX, f"{growth} KiB after {COUNT} inputs, seed {SEED}"
        for connection in connections:
            connection.end()
        assert good.client.refresh(0).is_success
        good.client.close()
        for peer in (*peers, good_peer):
            peer.close()
        # A port that EVEN-PORT has reserved is held for its thirty seconds.
        wait_until(lambda: server.descriptors() <= before_any and not server.relay_sockets(), RESERVATION_SECONDS,
                   f"descriptors are back at {before_any} and no relay is left")
        # It serves as before.
        with server.stream_client(local=client_address()) as client, server.peer("127.0.3.2") as peer:
            client.allocated().bound(0x4000, peer.address)
            client.send_channel(0x4000, b"as before")
            assert peer.receive()[0] == b"as before"
            client.refresh(0)
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    print(totals.packets_in, totals.outcomes, {reason: count for reason, count in totals.dropped.items() if count})
    assert totals.packets_in >= COUNT // 2, totals.packets_in
    assert totals.dropped["desynchronised"] > COUNT // 100 and sum(1 for n in totals.dropped.values() if n) > 5
