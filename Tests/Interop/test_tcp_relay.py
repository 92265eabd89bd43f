"""RFC 6062, TCP relaying: real sockets on both sides, by TCP and by TLS, on one worker and on many."""

import contextlib
import socket
import struct
import time

import pytest

import stunwire as stun
from harness import free_port
from tcprelay import (
    HOSTS, PATIENCE_SECONDS, TCPPeer, TRANSPORTS, context, control, data, dial, ends, exchange, is_turned_away,
    joined, read_exactly, relaying, stream_of,
)
from test_tls import tls_context
from totals import Totals


@pytest.fixture
def serve_tcp(serve):
    return relaying(serve)


@pytest.fixture
def server(serve_tcp):
    return serve_tcp()


# Allocate


def test_PC_21_without_the_setting_nothing_of_rfc_6062_is_served(serve):
    server = serve()
    with control(server) as client, server.wire() as wire:
        assert client.allocate_tcp().error == 442
        client.allocated()
        for method in (stun.CONNECT, stun.CONNECTION_BIND, stun.CONNECTION_ATTEMPT):
            request = client.signed(method, [(stun.CONNECTION_ID, b"1234")])
            client.assert_silence_after(request)
            wire.assert_silence_after(request)
    server.stop()
    assert Totals(server).dropped["unknown_method"] == 6


def test_what_a_tcp_allocation_cannot_have_is_400(server):
    with control(server) as client:
        for extra in ((stun.EVEN_PORT, b"\x80"), (stun.EVEN_PORT, b"\x00"), (stun.DONT_FRAGMENT, b""),
                      (stun.RESERVATION_TOKEN, b"12345678")):
            assert client.allocate_tcp(extra).error == 400, extra
        client.allocated_tcp()
    with server.client() as datagrams:
        answer = datagrams.call(stun.ALLOCATE, [(stun.REQUESTED_TRANSPORT, stun.TCP)])
        assert answer.error == 400, "a client by UDP"


def test_a_tcp_allocation_has_no_channels_and_no_send(server):
    with control(server) as client, server.peer("127.0.0.2") as peer:
        client.allocated_tcp().permitted(peer.address)
        assert client.channel_bind(0x4000, peer.address).error == 403
        client.send_to(peer.address, b"a datagram")
        client.assert_silence_after(b"\x40\x00\x00\x04data")
        peer.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.socket.recv(100)


# Connect


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_connects_to_a_peer_from_its_relayed_address(server, host, transport):
    tls = context(server, transport)
    family = (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6 if ":" in host else stun.IPV4)
    with control(server, tls=tls) as client, data(server, tls=tls) as carrier, TCPPeer(host) as peer:
        client.allocated_tcp(family)
        number = client.connected(peer.address)
        accepted, source = peer.accept()
        with accepted:
            assert source == client.relayed
            carrier.bound(number)
            carrier.write(b"to the peer")
            assert read_exactly(accepted, 11) == b"to the peer"
            accepted.sendall(b"to the client")
            assert carrier.read(13) == b"to the client"


def test_both_families_of_one_allocation_connect(server):
    with control(server) as client:
        client.allocated_tcp((stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6))
        for host in HOSTS:
            with TCPPeer(host) as peer, data(server) as carrier:
                carrier.bound(client.connected(peer.address)).write(b"family")
                accepted, _ = peer.accept()
                with accepted:
                    assert read_exactly(accepted, 6) == b"family"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ten_megabytes_each_way_at_once_arrive_whole(server, transport):
    with joined(server, transport) as (_, carrier, peer):
        exchange(carrier.socket, peer, stream_of(10 << 20, "out"), stream_of(10 << 20, "in"))


def test_many_connections_of_one_allocation_go_on_at_once(server):
    with control(server) as client, contextlib.ExitStack() as stack:
        client.allocated_tcp()
        pairs = []
        for _ in range(20):
            peer = stack.enter_context(TCPPeer())
            carrier = stack.enter_context(data(server)).bound(client.connected(peer.address))
            pairs.append((carrier, stack.enter_context(peer.accept()[0])))
        for number, (carrier, peer) in enumerate(pairs):
            carrier.write(str(number).encode() * 1000)
            peer.sendall(str(number + 50).encode() * 1000)
        for number, (carrier, peer) in enumerate(pairs):
            text, back = str(number).encode() * 1000, str(number + 50).encode() * 1000
            assert read_exactly(peer, len(text)) == text
            assert carrier.read(len(back)) == back


def test_a_second_connect_to_the_same_peer_is_446(server):
    with joined(server) as (client, _, peer):
        assert client.connect(peer.getsockname()).error == 446


def test_a_peer_that_refuses_is_447(server):
    with control(server) as client:
        client.allocated_tcp()
        assert client.connect(("127.0.0.2", free_port("127.0.0.2"))).error == 447
        assert client.refresh().is_success


def test_silence_of_a_peer_is_447_and_an_unclaimed_connection_is_closed_after_30_seconds(server):
    # A listener whose queue is full drops what comes on, as a peer behind a silent firewall does.
    with TCPPeer(backlog=0) as deaf, TCPPeer() as peer, contextlib.ExitStack() as stack, control(server) as client, \
            control(server) as other:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(deaf.address)
        client.allocated_tcp().permitted(("127.0.0.2", 1))
        other.allocated_tcp()
        began = time.monotonic()
        client.begin_connecting(deaf.address)
        number = other.connected(peer.address)
        accepted = stack.enter_context(peer.accept()[0])
        inbound = stack.enter_context(dial(client.relayed))
        assert client.attempt()[1] == inbound.getsockname()
        assert client.connect(deaf.address).error == 446, "it is under way"
        assert not ends(accepted, 25) and not ends(inbound, 0.1)
        assert stun.Message.parse(client.receive(15)).error == 447
        assert time.monotonic() - began >= 30
        assert ends(accepted, 5) and ends(inbound, 5)
        assert stack.enter_context(data(server)).bind(number).error == 400


@pytest.mark.parametrize("peer", [("127.0.0.1", 22), ("10.1.2.3", 80), ("169.254.169.254", 80), ("0.0.0.0", 80),
                                  ("224.0.0.1", 80), ("8.8.8.8", 53), ("8.8.8.8", 25)])
def test_PC_21_connect_obeys_the_policy_of_peers(serve_tcp, peer):
    server = serve_tcp(relays_loopback=False)
    with control(server) as client:
        client.allocated_tcp()
        assert client.connect(peer).error == 403
        assert client.connect(("2606:4700::1111", 80)).error == 443


def test_the_servers_own_listeners_are_no_peers(server):
    with control(server) as client:
        client.allocated_tcp()
        assert client.connect(("127.0.0.1", server.port)).error == 403
        assert client.connect(("127.0.0.1", server.tls_port)).error == 403
        assert client.connect(client.relayed).error == 403


# Peers that come


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_permitted_peer_is_announced_and_bound(server, host, transport):
    tls = context(server, transport)
    family = (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6 if ":" in host else stun.IPV4)
    with control(server, tls=tls) as client, data(server, tls=tls) as carrier:
        client.allocated_tcp(family).permitted(("::1" if ":" in host else "127.0.0.2", 1))
        with dial(client.relayed) as peer:
            number, source = client.attempt()
            assert source == peer.getsockname()[:2]
            # What the peer says before anyone listens is kept for whoever comes.
            peer.sendall(b"first words")
            carrier.bound(number)
            assert carrier.read(11) == b"first words"
            carrier.write(b"an answer")
            assert read_exactly(peer, 9) == b"an answer"


def test_a_peer_without_a_permission_is_closed_at_once(server):
    with control(server) as client:
        client.allocated_tcp()
        assert is_turned_away(client.relayed)
        assert not client.drain_until_fence(), "nobody hears of it"


def test_peers_beyond_what_may_wait_are_closed(server):
    with control(server) as client, contextlib.ExitStack() as stack:
        client.allocated_tcp().permitted(("127.0.0.2", 1))
        for _ in range(32):
            stack.enter_context(dial(client.relayed))
            client.attempt()
        assert is_turned_away(client.relayed)
        assert not client.drain_until_fence()


# ConnectionBind


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("size", [1, 1000, 200_000])
def test_bytes_behind_a_bind_are_neither_lost_nor_reordered(server, transport, size):
    tls = context(server, transport)
    sent = stream_of(size, "pipelined")
    with control(server, tls=tls) as client, TCPPeer() as peer, data(server, tls=tls) as carrier:
        client.allocated_tcp()
        number = client.connected(peer.address)
        accepted, _ = peer.accept()
        with accepted:
            # A frame of STUN behind it is data like all else.
            behind = stun.build(stun.BINDING) + sent
            carrier.bound(number, behind)
            carrier.write(b"the end")
            assert read_exactly(accepted, len(behind) + 7) == behind + b"the end"


def test_a_bind_cut_into_single_bytes_is_one(server):
    with control(server) as client, TCPPeer() as peer, data(server) as carrier:
        client.allocated_tcp()
        number = client.connected(peer.address)
        carrier.challenge()
        carrier.piece_bytes = 1
        carrier.bound(number, b"and more")
        accepted, _ = peer.accept()
        with accepted:
            assert read_exactly(accepted, 8) == b"and more"


@pytest.mark.parametrize("workers", [1, 4])
def test_a_bind_finds_its_peer_on_whichever_worker_it_comes_in(serve_tcp, workers):
    server = serve_tcp({"workers": workers})
    tls = tls_context(server)
    with contextlib.ExitStack() as stack:
        for number in range(24):
            secured = tls if number % 3 == 0 else None
            client = stack.enter_context(control(server, tls=secured)).allocated_tcp()
            peer = stack.enter_context(TCPPeer())
            connection = client.connected(peer.address)
            carrier = stack.enter_context(data(server, tls=secured))
            sent = stream_of(50_000, str(number))
            carrier.bound(connection, sent)
            accepted = stack.enter_context(peer.accept()[0])
            assert read_exactly(accepted, len(sent)) == sent
            accepted.sendall(sent[::-1])
            assert carrier.read(len(sent)) == sent[::-1]


def test_PC_21_a_bind_by_another_user_or_with_a_wrong_number_is_400_and_may_be_followed_by_a_right_one(server):
    with control(server) as client, TCPPeer() as peer, data(server, "bob") as thief, data(server) as carrier:
        client.allocated_tcp()
        number = client.connected(peer.address)
        accepted, _ = peer.accept()
        with accepted:
            assert thief.bind(number).error == 400
            for guess in range(8):
                wrong = struct.pack("!I", (struct.unpack("!I", number)[0] + 1 + guess) & 0xFFFFFFFF)
                assert carrier.bind(wrong).error == 400
            assert carrier.call(stun.CONNECTION_BIND).error == 400
            assert carrier.call(stun.CONNECTION_BIND, [(stun.CONNECTION_ID, b"12")]).error == 400
            assert carrier.binding(), "it is a client as any other"
            carrier.bound(number).write(b"mine")
            assert read_exactly(accepted, 4) == b"mine"
            with data(server) as second:
                assert second.bind(number).error == 400, "it is taken"


@pytest.mark.parametrize("workers", [1, 4])
def test_a_bind_may_use_the_nonce_of_its_control_connection_and_of_no_other(serve_tcp, workers):
    server = serve_tcp({"workers": workers})
    for _ in range(8):
        with control(server) as client, control(server) as other, TCPPeer() as peer, data(server) as carrier:
            number = client.allocated_tcp().connected(peer.address)
            other.challenge()
            assert carrier.bind(number, nonce_of=other).error == 438
            assert carrier.bind(number, nonce_of=client).is_success


def test_PC_21_a_bind_with_a_wrong_password_is_401(server):
    with control(server) as client, TCPPeer() as peer, data(server) as carrier:
        client.allocated_tcp()
        number = client.connected(peer.address)
        carrier.password = "guessed"
        assert carrier.bind(number).error == 401


def test_a_control_connection_cannot_become_a_data_connection(server):
    with control(server) as client, TCPPeer() as peer:
        client.allocated_tcp()
        number = client.connected(peer.address)
        assert client.call(stun.CONNECTION_BIND, [(stun.CONNECTION_ID, number)]).error == 400
        assert client.refresh().is_success
