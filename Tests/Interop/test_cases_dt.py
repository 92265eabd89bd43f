"""Security cases DT: what DTLS costs before a client has proved its address, and after."""

import os
import random
import struct

import pytest

import stunwire as stun
from dtlsclient import (
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, Handshake, Refused, dtls_context, is_hello_verify_request,
)
from harness import client_address
from stunclient import Silence, Wire
from test_dtls import HOST, dtls_client, relays, serve_dtls
from totals import Totals

HELLOS = 10_000
STATELESS_GROWTH_KIB_MAX = 512
SILENT_CLIENTS = 5_000
HANDSHAKES_MAX = 256
# Handshakes under way on two workers, with OpenSSL's buffers: 64 KiB each, and what the heap keeps of those before
# them.
HALF_OPEN_GROWTH_KIB_MAX = 2 * HANDSHAKES_MAX * 96
# Record and handshake headers, version, random number, and an empty session id.
COOKIE_LENGTH_AT = 13 + 12 + 2 + 32 + 1


def first_hello():
    return Handshake().advance()


def with_cookie(wire, handshake=None):
    """A hello that carries the cookie of this wire's address."""
    handshake = handshake or Handshake()
    wire.send(handshake.advance())
    answer = wire.receive()
    assert is_hello_verify_request(answer), answer.hex()
    handshake.put(answer)
    return handshake.advance()


def wire_to(server, local=None, port=None):
    return Wire((HOST, port or server.dtls_port), (local or client_address(), 0))


@pytest.fixture
def dtls(serve_dtls):
    return serve_dtls({"limits": {"unauthenticated_replies_per_second": 100_000}})


def test_DT_01_ten_thousand_hellos_without_a_cookie_keep_no_state(dtls):
    hello = first_hello()
    before = descriptors = None
    answered = sent_bytes = received_bytes = 0
    # A hundred at a time; after the first of them the gate and the slots of a batch are there.
    for number in range(1 + HELLOS // 100):
        wires = []
        for index in range(100):
            wires.append(wire_to(dtls, f"127.{200 + number // 250}.{number % 250}.{index + 1}"))
            wires[-1].send(hello)
            sent_bytes += len(hello)
        for wire in wires:
            answer = wire.receive()
            assert is_hello_verify_request(answer), answer.hex()
            answered += 1
            received_bytes += len(answer)
            wire.close()
        if number == 0:
            before, descriptors = dtls.resident_kib(), dtls.descriptors()
    growth = dtls.resident_kib() - before
    print(f"{answered} answers, {received_bytes / sent_bytes:.2f} bytes out for each in, {growth} KiB more")
    assert growth <= STATELESS_GROWTH_KIB_MAX, f"{growth} KiB"
    assert received_bytes < sent_bytes, "no amplification"
    assert dtls.descriptors() == descriptors
    dtls.stop()
    Totals(dtls).assert_balanced()


def test_DT_01_hellos_of_one_source_are_answered_from_its_budget(serve_dtls):
    server = serve_dtls()
    source, hello = client_address(), first_hello()
    with wire_to(server, source) as wire:
        for _ in range(200):
            wire.send(hello)
        answers = 0
        with pytest.raises(Silence):
            while True:
                wire.receive(0.5)
                answers += 1
    # The budget is of 10 a second; the sending may have crossed into another.
    assert 1 <= answers <= 20, answers
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    assert totals.dropped["reply_budget"] == 200 - answers


@pytest.mark.parametrize("port", [53, 123])
def test_DT_01_a_hello_from_a_port_that_no_client_has_is_not_answered(serve_dtls, port):
    server = serve_dtls()
    with Wire((HOST, server.dtls_port), (client_address(), port)) as wire:
        wire.send(first_hello())
        with pytest.raises(Silence):
            wire.receive(0.5)


def test_DT_02_a_cookie_is_good_for_its_address_alone_and_for_no_other_bit(dtls):
    with wire_to(dtls) as wire, wire_to(dtls) as other:
        hello = with_cookie(wire)
        other.send(hello)
        assert is_hello_verify_request(other.receive()), "another address"
        with Wire(wire.server, (wire.local[0], 0)) as port:
            port.send(hello)
            assert is_hello_verify_request(port.receive()), "another port"
        flipped = bytearray(hello)
        assert flipped[COOKIE_LENGTH_AT] == 32
        flipped[COOKIE_LENGTH_AT + 7] ^= 1
        wire.send(flipped)
        assert is_hello_verify_request(wire.receive()), "a flipped bit"
        # As it is, it opens a handshake.
        wire.send(hello)
        assert not is_hello_verify_request(wire.receive())


def test_DT_02_an_old_cookie_is_good_no_more(serve_dtls):
    """Of another run of the server: an hour is not waited for."""
    server = serve_dtls({"limits": {"unauthenticated_replies_per_second": 100_000}})
    with wire_to(server) as wire:
        hello = with_cookie(wire)
        server.stop()
        server.start()
        wire.send(hello)
        assert is_hello_verify_request(wire.receive())


@pytest.mark.parametrize("kind", [APPLICATION_DATA, ALERT, CHANGE_CIPHER_SPEC, 24, 63])
def test_DT_03_records_from_a_stranger_are_met_with_silence(dtls, kind):
    with wire_to(dtls) as wire:
        for epoch in (0, 1):
            body = os.urandom(40)
            wire.send(struct.pack("!BHHHIH", kind, 0xFEFD, epoch, 0, 1, len(body)) + body)
        with pytest.raises(Silence):
            wire.receive(0.5)
        # It is alive all the same.
        wire.send(first_hello())
        assert is_hello_verify_request(wire.receive())
    dtls.stop()
    totals = Totals(dtls)
    totals.assert_balanced()
    assert totals.dropped["bad_record"] == 2


def fragments_of(hello, size):
    """A hello's handshake message in pieces, each in a record of its own."""
    body = hello[25:]
    for number, at in enumerate(range(0, len(body), size)):
        piece = body[at : at + size]
        message = hello[13:19] + at.to_bytes(3, "big") + len(piece).to_bytes(3, "big") + piece
        yield hello[:5] + number.to_bytes(6, "big") + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize("order", ["in order", "backwards", "overlapping", "lengths that lie"])
def test_DT_04_a_hello_in_pieces_is_bounded_and_harmless(dtls, order):
    with wire_to(dtls) as wire:
        hello = with_cookie(wire)
        before = dtls.resident_kib()
        pieces = list(fragments_of(hello, 1))
        if order == "backwards":
            pieces.reverse()
        if order == "overlapping":
            pieces = [piece for size in (3, 7, 50) for piece in fragments_of(hello, size)]
        if order == "lengths that lie":
            pieces = [piece[:14] + b"\xff\xff\xff" + piece[17:] for piece in pieces]
        for _ in range(20):
            for piece in pieces:
                wire.send(piece)
        dtls.assert_alive()
        assert dtls.resident_kib() - before <= STATELESS_GROWTH_KIB_MAX
    with dtls_client(dtls) as client:
        assert client.allocated().refresh(0).is_success
    dtls.stop()
    Totals(dtls).assert_balanced()


def test_DT_04_messages_in_pieces_behind_the_cookie_are_bounded(dtls):
    """The second flight, as pieces of ever other messages that all claim to be long."""
    before = None
    wires = []
    for number in range(64):
        wire = wire_to(dtls)
        wires.append(wire)
        wire.send(with_cookie(wire))
        wire.receive()
        if number == 3:
            before = dtls.resident_kib()
        for sequence in range(1, 300):
            message = struct.pack("!B", 16) + (16_000).to_bytes(3, "big") + struct.pack("!H", sequence) + (
                sequence).to_bytes(3, "big") + (1).to_bytes(3, "big") + b"x"
            wire.send(struct.pack("!BHHHIH", 22, 0xFEFD, 0, 0, sequence, len(message)) + message)
            early = os.urandom(32)
            wire.send(struct.pack("!BHHHIH", 22, 0xFEFD, 1, 0, sequence, len(early)) + early)
    dtls.assert_alive()
    growth = dtls.resident_kib() - before
    print(f"{growth / 60:.0f} KiB for each of 60 handshakes that hold as much as they may")
    assert growth <= 60 * 400, f"{growth} KiB"
    with dtls_client(dtls) as client:
        assert client.allocated().refresh(0).is_success
    for wire in wires:
        wire.close()
    dtls.stop()
    Totals(dtls).assert_balanced()


def test_DT_05_replayed_old_and_leaping_records_are_dropped(dtls):
    with dtls_client(dtls) as client, dtls.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        record = client.sealed(stun.channel_data(0x4000, b"once"))
        for _ in range(5):
            client.put(record)
        assert peer.receive()[0] == b"once"
        old = bytearray(record)
        old[3:5] = b"\0\0"
        leap = bytearray(record)
        leap[5:11] = b"\0\xff\xff\xff\xff\xff"
        forged = bytearray(record)
        forged[-1] ^= 1
        for datagram in (old, leap, forged):
            client.put(datagram)
        # A forged leap has moved no window: what is next still comes.
        client.send_channel(0x4000, b"next")
        assert peer.receive()[0] == b"next"
    dtls.stop()
    totals = Totals(dtls)
    totals.assert_balanced()
    assert totals.dropped["bad_record"] == 4 + 3


def test_DT_05_records_within_the_window_may_come_out_of_order(dtls):
    with dtls_client(dtls) as client, dtls.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        sealed = [client.sealed(stun.channel_data(0x4000, bytes([number]))) for number in range(20)]
        order = list(range(20))
        random.Random(5).shuffle(order)
        for number in order:
            client.put(sealed[number])
        assert [peer.receive()[0][0] for _ in order] == order


def test_DT_06_a_client_of_dtls_1_0_is_refused(dtls):
    context = dtls_context(minimum=0xFEFF, maximum=0xFEFF, ciphers="ALL:@SECLEVEL=0")
    with pytest.raises(Refused, match="alert protocol version"):
        dtls_client(dtls, context=context)


def test_DT_07_clients_that_stop_behind_the_cookie_are_bounded_and_keep_nobody_out(dtls):
    before = None
    wires = []
    for number in range(SILENT_CLIENTS):
        wire = wire_to(dtls, f"127.{210 + number // 16_000}.{number // 64 % 250}.{number % 64 + 1}")
        wire.send(with_cookie(wire))
        wire.receive()
        wire.close()
        if number == 99:
            before = dtls.resident_kib()
        if number % 1000 == 999:
            with dtls_client(dtls) as client:
                client.allocated()
                assert relays(client, dtls)
    growth = dtls.resident_kib() - before
    print(f"{growth} KiB more")
    assert growth <= HALF_OPEN_GROWTH_KIB_MAX, f"{growth} KiB"
    dtls.stop()
    Totals(dtls).assert_balanced()


def test_DT_07_one_address_that_stops_behind_the_cookie_keeps_no_neighbour_out(dtls):
    source = client_address()
    wires = [wire_to(dtls, source) for _ in range(300)]
    for wire in wires:
        wire.send(with_cookie(wire))
        wire.receive()
    with dtls_client(dtls, local=(source, 0)) as neighbour:
        assert neighbour.allocated().refresh(0).is_success
    for wire in wires:
        wire.close()


def test_DT_07_a_handshake_has_ten_seconds(dtls):
    with wire_to(dtls) as wire:
        hello = with_cookie(wire)
        wire.send(hello)
        flights = 0
        with pytest.raises(Silence):
            while True:
                wire.receive(6)
                flights += 1
        assert 2 <= flights <= 24, "the flight comes again a few times, and then no more"
        # The port is a stranger's again: this hello's cookie still is good, so it begins anew.
        wire.send(hello)
        assert not is_hello_verify_request(wire.receive())


def test_DT_08_plaintext_where_dtls_is_spoken_is_ignored(dtls):
    with dtls_client(dtls, port=dtls.port) as client, dtls.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        client.put(stun.build(stun.BINDING))
        client.put(client.signed(stun.REFRESH, [(stun.LIFETIME, bytes(4))]))
        client.put(stun.channel_data(0x4000, b"in the clear"))
        # Nothing was answered, relayed or ended.
        client.send_channel(0x4000, b"sealed")
        assert peer.receive()[0] == b"sealed"
        assert client.refresh().is_success
    dtls.stop()
    totals = Totals(dtls)
    totals.assert_balanced()
    assert totals.dropped["unprotected"] == 2 and totals.dropped["no_allocation"] == 1


def test_DT_08_plaintext_on_the_port_of_dtls_is_ignored(dtls):
    with wire_to(dtls) as wire:
        wire.send(stun.build(stun.BINDING))
        wire.send(stun.channel_data(0x4000, b"x" * 40))
        wire.send(b"")
        with pytest.raises(Silence):
            wire.receive(0.5)
    dtls.stop()
    totals = Totals(dtls)
    totals.assert_balanced()
    assert totals.dropped["unprotected"] == 3


def test_DT_08_dtls_where_a_client_holds_an_allocation_in_the_clear_is_ignored(dtls):
    with dtls.client() as client:
        client.allocated()
        handshake = Handshake()
        client.send(with_cookie(client, handshake))
        with pytest.raises(Silence):
            client.receive(0.5)
        assert client.refresh().is_success
    dtls.stop()
    totals = Totals(dtls)
    totals.assert_balanced()
    assert totals.dropped["bad_record"] == 1
