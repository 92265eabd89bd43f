"""A million mutated datagrams: the process lives, holds on to nothing, and accounts for every one of them."""

import json
import os
import struct
import subprocess

import stunwire as stun
from harness import wait_until
from totals import Totals

COUNT = 1_000_000
RATE = 40_000
SEED = int(os.environ.get("FUZZ_SEED", "20260101"))
# Buffers that reached their full size stay: a bounded sum, far below what leaking a millionth of it each would be.
GROWTH_KIB_MAX = 8 * 1024
RESERVATION_SECONDS = 45


def record(index, message, integrity=None, key=b""):
    kind = {None: 0, "sha1": 1, "sha256": 2}[integrity]
    return bytes([index, kind, len(key)]) + key + struct.pack("!H", len(message)) + message


def corpus_of(client, index, peer):
    """Every kind of message a client sends, signed and unsigned, with this client's own nonce and key."""
    def signed(method, *attributes):
        return record(index, client.signed(method, attributes), client.integrity, client.key)

    def plain(*arguments, **options):
        return record(index, stun.build(*arguments, **options))

    transport = (stun.REQUESTED_TRANSPORT, stun.UDP)
    other = stun.transaction_id()
    peer_attribute = (stun.XOR_PEER_ADDRESS, stun.encode_address(peer, other))
    yield from (
        plain(stun.BINDING), plain(stun.BINDING, fingerprint=True),
        plain(stun.BINDING, attributes=[(stun.SOFTWARE, b"client 1.0")]),
        plain(stun.ALLOCATE, attributes=[transport]), plain(stun.REFRESH), plain(stun.BINDING, stun.INDICATION),
        plain(stun.ALLOCATE, stun.SUCCESS), plain(stun.BINDING, stun.ERROR, [(stun.ERROR_CODE, b"\0\0\4\0")]),
    )
    even, dont_fragment = (stun.EVEN_PORT, b"\x80"), (stun.DONT_FRAGMENT, b"")
    family, additional = (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV4), (stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6)
    yield from (
        signed(stun.ALLOCATE, transport), signed(stun.ALLOCATE, transport, even, dont_fragment),
        signed(stun.ALLOCATE, transport, family, (stun.LIFETIME, b"\0\0\x0e\x10")),
        signed(stun.ALLOCATE, transport, additional),
        signed(stun.ALLOCATE, transport, (stun.RESERVATION_TOKEN, b"12345678")),
        signed(stun.REFRESH), signed(stun.REFRESH, (stun.LIFETIME, b"\0\0\x02\x58"), family),
        signed(stun.REFRESH, (stun.LIFETIME, bytes(4))),
    )
    channel = (stun.CHANNEL_NUMBER, b"\x40\0\0\0")
    for method, attributes in ((stun.CREATE_PERMISSION, []), (stun.CHANNEL_BIND, [channel])):
        transaction = stun.transaction_id()
        attributes = [*attributes, client.peer_attribute(peer, transaction)]
        yield record(index, client.signed(method, attributes, transaction), client.integrity, client.key)
    yield plain(stun.SEND, stun.INDICATION, [peer_attribute, (stun.DATA_ATTRIBUTE, b"payload")], transaction=other)
    yield plain(stun.SEND, stun.INDICATION, [peer_attribute, (stun.DATA_ATTRIBUTE, b"p" * 900), dont_fragment],
                transaction=other)
    yield record(index, stun.channel_data(0x4000, b"payload"))
    yield record(index, stun.channel_data(0x4000, b"q" * 1200))


def test_a_million_mutated_datagrams_leave_the_server_as_it_was(serve, tool, tmp_path, cut_off):
    print(f"seed {SEED} (set FUZZ_SEED to change it)")
    server = serve({"limits": {"allocations_per_user": 100, "unauthenticated_replies_per_second": 100_000,
                               "binding_replies_per_second": 1_000_000}},
                   hosts=("127.0.0.1", "::1"), namespace=cut_off)
    before_any = server.descriptors()
    clients, peers, corpus = [], [], []
    for number in range(8):
        client = server.client(local=(f"127.0.1.{number + 1}", 0), integrity="sha256" if number % 4 == 3 else "sha1",
                               hashed=number == 2)
        peer = server.peer(f"127.0.2.{number + 1}")
        client.allocated().permitted(peer.address).bound(0x4000, peer.address)
        client.socket.connect(server.address)
        peer.socket.connect(client.relayed)
        corpus += corpus_of(client, 2 * number, peer.address)
        corpus += [record(2 * number + 1, payload) for payload in (b"from the peer", b"r" * 1300)]
        clients.append(client)
        peers.append(peer)
    path = tmp_path / "corpus"
    path.write_bytes(b"".join(corpus))
    descriptors = [end.socket.fileno() for pair in zip(clients, peers) for end in pair]

    def flood(seed, count):
        command = [tool("flood"), "fuzz", path, str(seed), str(count), str(RATE), *map(str, descriptors)]
        done = subprocess.run(list(map(str, command)), pass_fds=descriptors, capture_output=True, text=True,
                              timeout=120)
        assert done.returncode == 0, f"seed {seed}: {done.stderr}"
        server.assert_alive()
        return json.loads(done.stdout)

    # A tenth first: buffers and tables find their size.
    result = flood(SEED, COUNT // 10)
    baseline = server.resident_kib()
    result = flood(SEED + 1, COUNT)
    print(result)
    growth = server.resident_kib() - baseline
    assert growth <= GROWTH_KIB_MAX, f"{growth} KiB after {COUNT} datagrams, seed {SEED}"
    for client, peer in zip(clients, peers):
        local = client.local
        client.close()
        peer.close()
        with server.client(local=local) as ending:
            ending.username, ending.password = client.username, client.password
            assert ending.refresh(0).error in (None, 437)
    wait_until(lambda: server.descriptors() <= before_any, RESERVATION_SECONDS,
               f"descriptors are back at {before_any}")
    # It serves as before.
    with server.client(local="127.0.3.1") as client, server.peer("127.0.3.2") as peer:
        client.allocated().bound(0x4000, peer.address)
        client.send_channel(0x4000, b"as before")
        assert peer.receive()[0] == b"as before"
        client.refresh(0)
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    assert totals.packets_in >= COUNT, totals.packets_in
    assert sum(totals.dropped.values()) > COUNT // 10 and len(totals.dropped) > 3, totals.dropped
