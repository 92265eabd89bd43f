"""RFC 6062, TCP relaying: how connections end, what holds them back, and what is counted."""

import contextlib
import socket
import struct
import time

import pytest

import stunwire as stun
from harness import Background, wait_until
from tcprelay import (
    HalfClosingTLS, PATIENCE_SECONDS, TCPPeer, TRANSPORTS, control, data, dial, ends, exchange, joined, read_exactly,
    read_to_end, relaying, stream_of,
)
from test_tls import tls_context
from totals import Totals

MEGABYTE = 1 << 20


@pytest.fixture
def serve_tcp(serve):
    return relaying(serve)


@pytest.fixture
def server(serve_tcp):
    return serve_tcp()


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


def test_a_limit_of_bandwidth_starves_neither_way(serve_tcp):
    server = serve_tcp({"limits": {"bps_per_allocation": 8_000_000}})
    with joined(server) as (_, carrier, peer):
        flood, small = stream_of(3 * MEGABYTE, "flood"), stream_of(MEGABYTE // 4, "small")
        carrier.socket.setblocking(True)
        writer = Background(lambda: peer.sendall(flood))
        reader = Background(lambda: read_exactly(carrier.socket, len(flood)))
        carrier.socket.sendall(small)
        assert read_exactly(peer, len(small)) == small
        assert reader.thread.is_alive(), "what goes the other way has not waited for the flood"
        writer.result()
        assert reader.result() == flood


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

        def connect():
            # A ConnectionAttempt for each that was let in lies before the answer, and more come when there is room.
            clients[1].begin_connecting(peer.address)
            while (message := stun.Message.parse(clients[1].receive())).method == stun.CONNECTION_ATTEMPT:
                pass
            return message

        assert connect().error == 447
        clients[0].close()
        wait_until(lambda: connect().is_success, PATIENCE_SECONDS, "there is room again")
