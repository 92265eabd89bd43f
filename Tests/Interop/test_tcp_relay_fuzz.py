"""Mutated Connect and ConnectionBind requests, signed and not: the server lives, keeps nothing, accounts for all."""

import contextlib
import os
import random
import struct

import pytest

import stunwire as stun
from harness import client_address, wait_until
from stunclient import Closed, Silence, Stream
from tcprelay import PATIENCE_SECONDS, TCPPeer, control, joined, read_exactly, relaying
from totals import Totals

SEED = int(os.environ.get("FUZZ_SEED", "20260606"))
COUNT = 4_000
# Attributes that the two methods know, and some that they do not.
ATTRIBUTES = (stun.XOR_PEER_ADDRESS, stun.CONNECTION_ID, stun.CHANNEL_NUMBER, stun.LIFETIME, stun.DATA_ATTRIBUTE,
              stun.EVEN_PORT, stun.REQUESTED_TRANSPORT, 0x7FFF, 0x8099)


@pytest.fixture
def server(serve):
    return relaying(serve)()


def attributes(pick, client, peer, number, transaction):
    """A list of attributes, right ones among wrong ones."""
    chosen = []
    for _ in range(pick.randrange(4)):
        kind = pick.choice(ATTRIBUTES)
        right = {stun.XOR_PEER_ADDRESS: client.peer_attribute(peer, transaction)[1], stun.CONNECTION_ID: number}
        value = right.get(kind, b"\x00\x00\x00\x00") if pick.random() < 0.6 else pick.randbytes(pick.randrange(24))
        chosen.append((kind, value))
    return chosen


def mutated(pick, message):
    """One to three changes; the length in the header mostly stays right, or the stream would be cut at once."""
    message = bytearray(message)
    for _ in range(pick.randrange(1, 4)):
        at = pick.randrange(20, len(message)) if len(message) > 20 else 20
        if at == len(message):
            message += bytes(4)
        kind = pick.randrange(4)
        if kind == 0:
            message[at] ^= 1 << pick.randrange(8)
        elif kind == 1:
            message[at] = pick.randrange(256)
        elif kind == 2:
            message[at & ~3 : at & ~3] = struct.pack("!HH", pick.choice(ATTRIBUTES), pick.choice((0, 1, 4, 8, 0xFFFF)))
        else:
            del message[max(at & ~3, 20) :]
    if pick.random() < 0.95:
        struct.pack_into("!H", message, 2, len(message) - 20)
    return bytes(message)


def test_FZ_mutated_connects_and_binds_do_no_harm(server):
    print(f"FUZZ_SEED={SEED}")
    pick = random.Random(SEED)
    at_rest = server.descriptors()
    with TCPPeer(backlog=512) as peer:
        client = None
        for round in range(COUNT):
            if client is None or round % 100 == 0:
                if client is not None:
                    client.close()
                client = control(server)
                client.allocated_tcp()
            method = pick.choice((stun.CONNECT, stun.CONNECTION_BIND))
            transaction = stun.transaction_id()
            number = pick.randbytes(4)
            chosen = attributes(pick, client, peer.address, number, transaction)
            try:
                if pick.random() < 0.5:
                    # Whole and signed, whatever it says.
                    client.write(client.signed(method, chosen, transaction))
                else:
                    client.write(mutated(pick, client.signed(method, chosen, transaction)))
                if pick.random() < 0.05:
                    with Stream(client.server, (client_address(), 0)) as stranger:
                        stranger.write(mutated(pick, stun.build(method, stun.REQUEST, chosen, transaction)))
                if round % 20 == 19:
                    while True:
                        client.receive(0.02)
            except (Closed, OSError):
                client.close()
                client = None
            except Silence:
                pass
        if client is not None:
            client.close()
        peer.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                peer.socket.accept()[0].close()
    server.assert_alive()
    wait_until(lambda: server.descriptors() <= at_rest, 3 * PATIENCE_SECONDS, "all descriptors are given back")
    with joined(server) as (_, carrier, accepted):
        carrier.write(b"as before")
        assert read_exactly(accepted, 9) == b"as before"
    server.stop()
    Totals(server).assert_balanced()
