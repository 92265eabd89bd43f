"""Runs of datagrams as the kernel hands them on in one piece (UDP_SEGMENT, UDP_GRO): each one still counts for
itself."""

import os
import socket
import struct

import pytest

import stunwire as stun
from totals import Totals

UDP_SEGMENT = 103
RUN = 40


def send_run(sock, datagrams, size, to=None):
    """Gives the kernel all datagrams at once; every one but the last has `size` bytes."""
    assert all(len(datagram) == size for datagram in datagrams[:-1]) and len(datagrams[-1]) <= size
    control = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))]
    sock.sendmsg([b"".join(datagrams)], control, 0, to)


@pytest.fixture
def relayed(serve):
    """A server of the test's own, with a bound channel; its accounting has to close afterwards."""
    server = serve()
    with server.client() as client, server.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        yield server, client, peer
        client.refresh(0)
    server.stop()
    Totals(server).assert_balanced()


@pytest.mark.parametrize("last", [160, 7, 0])
def test_a_run_of_channel_data_arrives_as_single_datagrams_in_order(relayed, last):
    server, client, peer = relayed
    payloads = [struct.pack("!I", number) + os.urandom(156) for number in range(RUN)]
    payloads[-1] = payloads[-1][:last]
    send_run(client.socket, [stun.channel_data(0x4000, payload) for payload in payloads], 164, server.address)
    assert [peer.receive() for _ in payloads] == [(payload, client.relayed) for payload in payloads]


@pytest.mark.parametrize("last", [160, 7])
def test_a_run_of_peer_data_arrives_as_single_messages_in_order(relayed, last):
    _, client, peer = relayed
    payloads = [struct.pack("!I", number) + os.urandom(156) for number in range(RUN)]
    payloads[-1] = payloads[-1][:last]
    send_run(peer.socket, payloads, 160, client.relayed)
    assert [client.receive_data() for _ in payloads] == [(0x4000, payload) for payload in payloads]


def test_a_run_of_peer_data_without_a_channel_arrives_as_indications(relayed):
    server, client, _ = relayed
    with server.peer("127.0.0.4") as other:
        client.permitted(other.address)
        payloads = [struct.pack("!I", number) + os.urandom(97) for number in range(RUN)]
        send_run(other.socket, payloads, 101, client.relayed)
        assert [client.receive_data() for _ in payloads] == [(other.address, payload) for payload in payloads]


def test_bad_and_strange_datagrams_in_a_run_fall_out_and_the_rest_arrives(relayed):
    """One run: two channels of two peers, an unbound channel, a length that lies, a first byte of nothing, a
    Binding."""
    server, client, peer = relayed
    with server.peer("127.0.0.4") as other:
        client.bound(0x4001, other.address)
        size = 164
        binding = stun.build(stun.BINDING, attributes=[(stun.SOFTWARE, b"s" * (size - 24))])
        run, to_peer, to_other = [], [], []
        for number in range(RUN):
            payload = struct.pack("!I", number) + os.urandom(size - 8)
            channel, kind = stun.channel_data(0x4000, payload), number % 7
            if kind == 1:
                channel = stun.channel_data(0x4001, payload)
                to_other.append(payload)
            elif kind == 2:
                channel = stun.channel_data(0x4002, payload)
            elif kind == 3:
                channel = stun.channel_data(0x4000, payload, 5000)
            elif kind == 4:
                channel = b"\xf0" + channel[1:]
            elif kind == 5 and number == 5:
                channel = binding
            else:
                to_peer.append(payload)
            run.append(channel)
        send_run(client.socket, run, size, server.address)
        assert [peer.receive()[0] for _ in to_peer] == to_peer
        assert [other.receive()[0] for _ in to_other] == to_other
        seen = client.drain_until_fence()
        assert len(seen) == 1 and stun.Message.parse(seen[0]).transaction == binding[8:20]


def test_runs_of_many_sizes_both_ways_at_once_keep_their_bytes(relayed):
    server, client, peer = relayed
    for size in (1, 2, 3, 5, 64, 500, 1200, 1400):
        count = min(RUN, 60_000 // (size + 4))
        out = [os.urandom(size) for _ in range(count)]
        back = [os.urandom(size) for _ in range(count)]
        send_run(client.socket, [stun.channel_data(0x4000, payload) for payload in out], size + 4, server.address)
        send_run(peer.socket, back, size, client.relayed)
        assert [peer.receive()[0] for _ in out] == out
        assert [client.receive_data()[1] for _ in back] == back
