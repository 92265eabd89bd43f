"""RFC 6062, TCP relaying: real sockets on both sides, by TCP and by TLS, on one worker and on many."""

import contextlib
import socket
import struct
import time

import pytest

import stunwire as stun
from harness import free_port, wait_until
from tcprelay import (
    HalfClosingTLS, PATIENCE_SECONDS, TCPPeer, control, data, dial, ends, exchange, read_exactly, read_to_end, stream_of,
)
from test_tls import tls_context
from totals import Totals

HOSTS = ("127.0.0.1", "::1")
MEGABYTE = 1 << 20
CONFIG = {"relay": {"tcp": True}, "limits": {"allocations_per_user": 200, "unauthenticated_replies_per_second": 1000}}
USERS = {"alice": "correct horse battery staple 42", "bob": "another long passphrase 43"}
TRANSPORTS = ("tcp", "tls")


@pytest.fixture
def serve_tcp(serve):
    def start(config=None, start=True, **options):
        port = free_port()
        listen = {"tls": [f"127.0.0.1:{port}"]}
        relay = {**CONFIG["relay"], **(config or {}).get("relay", {})}
        limits = {**CONFIG["limits"], **(config or {}).get("limits", {})}
        merged = {**(config or {}), "listen": listen, "relay": relay, "limits": limits}
        options.setdefault("hosts", HOSTS)
        server = serve(merged, start=False, users=USERS, **options)
        server.tls_port = port
        return server.start() if start else server

    return start


@pytest.fixture
def server(serve_tcp):
    return serve_tcp()


def context(server, transport):
    return tls_context(server) if transport == "tls" else None


@contextlib.contextmanager
def joined(server, transport="tcp", name="alice"):
    """(control connection, data connection, the peer's socket) of an established relayed connection."""
    tls = context(server, transport)
    with control(server, name, tls=tls) as client, TCPPeer() as peer, data(server, name, tls=tls) as carrier:
        client.allocated_tcp()
        number = client.connected(peer.address)
        accepted, _ = peer.accept()
        with accepted:
            yield client, carrier.bound(number), accepted


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
        exchange(carrier.socket, peer, stream_of(10 * MEGABYTE, "out"), stream_of(10 * MEGABYTE, "in"))


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
        with dial(client.relayed) as peer:
            assert ends(peer, PATIENCE_SECONDS)
        assert not client.drain_until_fence(), "nobody hears of it"


def test_peers_beyond_what_may_wait_are_closed(server):
    with control(server) as client, contextlib.ExitStack() as stack:
        client.allocated_tcp().permitted(("127.0.0.2", 1))
        peers = [stack.enter_context(dial(client.relayed)) for _ in range(40)]
        for _ in range(32):
            client.attempt()
        wait_until(lambda: sum(ends(peer, 0.05) for peer in peers) == 8, PATIENCE_SECONDS, "8 peers are closed")
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


# Ends


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_peer_that_has_said_all_can_still_be_spoken_to(server, transport):
    with joined(server, transport) as (_, carrier, peer):
        peer.sendall(b"that is all")
        peer.shutdown(socket.SHUT_WR)
        assert read_to_end(carrier.socket) == b"that is all"
        sent = stream_of(300_000, "afterwards")
        carrier.write(sent)
        assert read_exactly(peer, len(sent)) == sent
        carrier.close()
        assert read_to_end(peer) == b""


def test_a_client_that_has_said_all_can_still_be_spoken_to(server):
    with joined(server) as (_, carrier, peer):
        carrier.write(b"that is all")
        carrier.finish()
        assert read_to_end(peer) == b"that is all"
        sent = stream_of(300_000, "afterwards")
        peer.sendall(sent)
        assert carrier.read(len(sent)) == sent
        peer.close()
        assert read_to_end(carrier.socket) == b""


def test_a_tls_client_that_says_close_notify_can_still_be_spoken_to(server):
    tls = tls_context(server)
    with control(server, tls=tls) as client, TCPPeer() as peer, \
            data(server, tls=tls, wrap=HalfClosingTLS) as carrier:
        number = client.allocated_tcp().connected(peer.address)
        accepted, _ = peer.accept()
        with accepted:
            carrier.bound(number).write(b"that is all")
            carrier.socket.say_close()
            assert read_to_end(accepted) == b"that is all"
            sent = stream_of(300_000, "afterwards")
            accepted.sendall(sent)
            assert carrier.read(len(sent)) == sent
            accepted.close()
            assert read_to_end(carrier.socket) == b""


def test_a_reset_goes_through_both_ways(server):
    with joined(server) as (_, carrier, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(ConnectionResetError):
            read_to_end(carrier.socket)
    with joined(server) as (_, carrier, peer):
        carrier.abort()
        with pytest.raises(ConnectionResetError):
            read_to_end(peer)


@pytest.mark.parametrize("end", ["refresh", "disconnect", "revocation"])
def test_the_end_of_the_allocation_ends_its_connections_within_a_second(server, end):
    with joined(server) as (client, carrier, peer), TCPPeer() as second, contextlib.ExitStack() as stack:
        client.permitted(("127.0.0.2", 1))
        inbound = stack.enter_context(dial(client.relayed))
        client.attempt()
        client.connected(second.address)
        waiting = stack.enter_context(second.accept()[0])
        relayed = client.relayed
        if end == "refresh":
            assert client.refresh(0).is_success
        elif end == "disconnect":
            client.close()
        else:
            server.cli("user", "disable", "alice")
        began = time.monotonic()
        for sock in (carrier.socket, peer, inbound, waiting):
            assert ends(sock, 2), "a connection outlived its allocation"
        # A second is what is promised, and this machine may be busy.
        assert time.monotonic() - began < 2
        with pytest.raises(OSError):
            dial(relayed).close()


def test_a_reload_that_denies_a_peer_ends_its_connections(server):
    with joined(server) as (client, carrier, peer):
        server.write_config({"relay": {"deny_peers": ["127.0.0.2"]}})
        server.process.send_signal(1)
        assert ends(peer, PATIENCE_SECONDS) and ends(carrier.socket, PATIENCE_SECONDS)
        assert client.connect(("127.0.0.2", 80)).error == 403


def test_nothing_is_left_behind(serve_tcp):
    server = serve_tcp()
    before = server.descriptors()
    for transport in TRANSPORTS * 3:
        with joined(server, transport) as (_, carrier, peer):
            carrier.write(b"x")
            assert read_exactly(peer, 1) == b"x"
    wait_until(lambda: server.descriptors() == before, 15, "all descriptors are given back")


# Back-pressure and limits


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_reader_that_stops_stops_the_writer_and_costs_no_memory(server, transport):
    with joined(server, transport) as (_, carrier, peer):
        piece = stream_of(MEGABYTE, "held back")
        carrier.write(piece)
        assert read_exactly(peer, len(piece)) == piece
        resident = server.resident_kib()
        for writer, reader in ((peer, carrier.socket), (carrier.socket, peer)):
            writer.settimeout(1)
            sent = 0
            # Past what kernels hold for four sockets, a writer that gets through has filled the server.
            with pytest.raises((TimeoutError, OSError)):
                while sent < 256 * MEGABYTE:
                    sent += writer.send(piece)
            assert sent < 128 * MEGABYTE
            assert server.resident_kib() - resident < 2048
            if writer is peer:
                reader.settimeout(PATIENCE_SECONDS)
                received = 0
                while received < sent:
                    received += len(reader.recv(1 << 16))
                assert received == sent


def test_RE_13_a_limit_of_bandwidth_holds_a_stream_back_and_loses_nothing(serve_tcp):
    server = serve_tcp({"limits": {"bps_per_allocation": 8_000_000}})
    with joined(server) as (_, carrier, peer):
        began = time.monotonic()
        exchange(carrier.socket, peer, stream_of(MEGABYTE, "out"), stream_of(MEGABYTE, "in"))
        # Two megabytes at one megabyte a second, of which a quarter of a second may come at once.
        assert time.monotonic() - began > 1.5


def test_what_is_relayed_is_counted_for_its_user_and_apart_from_packets(serve_tcp):
    server = serve_tcp()
    with joined(server) as (client, carrier, peer):
        carrier.write(bytes(3000))
        peer.sendall(bytes(500))
        assert read_exactly(peer, 3000) and carrier.read(500)
        client.refresh(0)
    wait_until(lambda: "3500" in server.cli("user", "usage", "alice", "--format", "json").stdout.replace(" ", ""),
               15, "the usage of alice is 3500 bytes")
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    assert totals.outcomes["packets_relayed"] == 0
    assert (totals.stream_bytes_to_peers, totals.stream_bytes_to_clients) == (3000, 500)


def test_without_descriptors_peers_are_refused_and_the_server_lives(serve_tcp):
    server = serve_tcp({"workers": 1}, descriptors=80)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(control(server)).allocated_tcp() for _ in range(2)]
        peers = []
        for client in clients:
            client.permitted(("127.0.0.2", 1))
            for _ in range(32):
                # A refusal may come while the connection is made.
                with contextlib.suppress(ConnectionResetError):
                    peers.append(stack.enter_context(dial(client.relayed)))
        wait_until(lambda: len(peers) < 64 or any(ends(peer, 0.02) for peer in peers), PATIENCE_SECONDS,
                   "some are refused")
        peer = stack.enter_context(TCPPeer())
        # A ConnectionAttempt for each that was let in lies before the answer.
        clients[1].begin_connecting(peer.address)
        while (message := stun.Message.parse(clients[1].receive())).method == stun.CONNECTION_ATTEMPT:
            pass
        assert message.error == 447
        clients[0].close()
        wait_until(lambda: clients[1].connect(peer.address).is_success, PATIENCE_SECONDS, "there is room again")
