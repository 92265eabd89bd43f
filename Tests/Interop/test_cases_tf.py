"""TCP framing, cases TF-01 to TF-10 of the security catalogue, and AL-11."""

import contextlib
import ssl
import struct
import time

import pytest

import stunwire as stun
from harness import wait_until
from stunclient import Closed, small_stream_socket

BUSY = {"limits": {"allocations_per_user": 1000, "unauthenticated_replies_per_second": 100_000,
                   "binding_replies_per_second": 1_000_000}}
# The server looks for connections past their deadline once a second.
DEADLINE_SECONDS = 10
LATEST_SECONDS = DEADLINE_SECONDS + 2.5
TRANSPORT = (stun.REQUESTED_TRANSPORT, stun.UDP)
UNTAKEN_CHANNELS = (0x5000, 0x50FF, 0x5FFF, 0x6000, 0x7FFF, 0x8000, 0x9ABC, 0xC000, 0xFFFF)


@pytest.fixture(scope="module")
def _busy(serve_module):
    return serve_module(BUSY, hosts=("127.0.0.1", "::1"))


@pytest.fixture
def busy(_busy):
    """Answers as often as it is asked. It has to be alive, and to hold no relay socket, after every test."""
    yield _busy
    _busy.assert_alive()
    wait_until(lambda: not _busy.relay_sockets(), 1, "the relay sockets of every client are closed")


@pytest.fixture
def client(busy):
    with busy.stream_client() as client:
        yield client


@pytest.fixture
def peer(busy):
    with busy.peer("127.0.0.2") as peer:
        yield peer


def assert_nothing_waits(peer):
    peer.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.socket.recv(100)


def use(client, peer):
    """A whole session, every answer and every payload checked."""
    assert client.binding() == client.local
    client.allocated().permitted(peer.address)
    client.send_to(peer.address, b"by indication")
    assert peer.receive() == (b"by indication", client.relayed)
    peer.send(b"answer", client.relayed)
    assert client.receive_data() == (peer.address, b"answer")
    client.bound(0x4001, peer.address)
    for size in (0, 1, 2, 3, 4, 5, 1200):
        payload = bytes(range(256)) * 5
        client.send_channel(0x4001, payload[:size])
        assert peer.receive() == (payload[:size], client.relayed)
        peer.send(payload[:size], client.relayed)
        assert client.receive_data() == (0x4001, payload[:size])
    assert client.refresh(600).lifetime == 600
    assert client.refresh(0).lifetime == 0
    assert client.refresh(600).error == 437


# Splits


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 7, 19, None], ids=lambda piece: f"by-{piece or 'whole'}")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_TF_01_a_session_in_small_pieces_is_the_session_in_one(busy, peer, host, piece):
    with busy.stream_client(host=host) as client:
        client.piece_bytes = piece
        # An IPv6 client is relayed on IPv4 as well (RFC 8656 section 6).
        use(client, peer)


def test_TF_02_a_hundred_messages_in_one_write_split_at_every_offset(client, peer):
    """The first part goes out behind a Binding request, whose answer says that the server has read that part."""
    client.allocated().bound(0x4000, peer.address)
    script, expected, payloads = b"", b"", []
    for number in range(100):
        if number % 5 < 3:
            message = stun.build(stun.BINDING)
            expected += client.exchange(message).raw
        else:
            payload = bytes([number]) * (number % 9)
            payloads.append(payload)
            message = stun.channel_data(0x4000, payload) + bytes(-len(payload) % 4)
        script += message
    fence = stun.build(stun.BINDING)
    fence_answer = client.exchange(fence).raw
    for offset in range(len(script) + 1):
        client.write(fence + script[:offset])
        assert client.receive()[:20] == fence_answer[:20]
        client.write(script[offset:])
        got = b""
        while len(got) < len(expected):
            got += client.receive()
        assert got == expected, f"split at {offset}"
        for payload in payloads:
            assert peer.receive() == (payload, client.relayed), f"split at {offset}"
    assert not client.drain_until_fence()
    assert client.refresh(0).is_success
    print(f"{offset} offsets")


# Other protocols


def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="turn.example.org").do_handshake()
    return outgoing.read()


FOREIGN = {
    "http": b"GET / HTTP/1.1\r\nHost: turn.example.org\r\n\r\n",
    "http-post": b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "connect": b"CONNECT 127.0.0.1:25 HTTP/1.1\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "smtp": b"EHLO turn.example.org\r\n",
    "ftp": b"USER anonymous\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "tls": client_hello(),
    "tls-short": b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    "ones": b"\xFF" * 64,
    "zeros": bytes(64),
}


@pytest.mark.parametrize("protocol", FOREIGN)
def test_TF_03_another_protocol_gets_no_byte_and_is_closed_at_once(busy, protocol):
    with busy.stream() as stream:
        start = time.monotonic()
        stream.write(FOREIGN[protocol])
        assert stream.read_to_end() == b""
        assert time.monotonic() - start < 1
    with busy.stream() as stream:
        # Not before its time: byte by byte it ends as well.
        with contextlib.suppress(ConnectionError):
            for byte in FOREIGN[protocol]:
                stream.write(bytes([byte]))
        assert stream.read_to_end() == b""


# Lengths


def test_TF_04_the_longest_lengths_are_waited_for_and_never_answered(busy, peer):
    """Five connections at once, each with all but the last four bytes of what its length says."""
    with contextlib.ExitStack() as stack:
        streams = {}
        for length in (65_520, 65_524, 65_528, 65_532):
            stream = stack.enter_context(busy.stream())
            body = stun.attribute(stun.SOFTWARE, bytes(length - 4))
            stream.write((stun.header(stun.BINDING, stun.REQUEST, length, stun.transaction_id()) + body)[:-4])
            streams[length] = stream
        client = stack.enter_context(busy.stream_client())
        client.allocated().bound(0x4000, peer.address)
        client.write(stun.channel_data(0x4000, b"c" * 65_531, 65_535))
        streams["channel"] = client
        start = time.monotonic()
        ended = {}
        while len(ended) < len(streams) and time.monotonic() < start + LATEST_SECONDS:
            for name, stream in streams.items():
                # Fails should so much as a byte have come.
                if name not in ended and stream.has_ended():
                    ended[name] = time.monotonic() - start
            time.sleep(0.02)
        assert set(ended) == set(streams), f"not closed: {set(streams) - set(ended)}"
        assert all(DEADLINE_SECONDS - 1 <= seconds for seconds in ended.values()), ended
        assert_nothing_waits(peer)


@pytest.mark.parametrize("length", [65_520, 65_524, 65_528, 65_532])
def test_TF_04_what_comes_behind_the_longest_message_is_found(client, peer, length):
    client.allocated().bound(0x4000, peer.address)
    body = stun.attribute(stun.SOFTWARE, bytes(length - 4))
    client.write(stun.header(stun.BINDING, stun.INDICATION, length, stun.transaction_id()) + body)
    client.send_channel(0x4000, b"in step")
    assert peer.receive() == (b"in step", client.relayed)
    client.write(stun.channel_data(0x4000, b"c" * 65_535) + b"\0")
    client.send_channel(0x4000, b"still in step")
    assert peer.receive() == (b"still in step", client.relayed)
    assert not client.drain_until_fence()
    assert client.refresh(0).is_success


@pytest.mark.parametrize("length", [1, 2, 3, 5, 18, 0xFFFD, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("moment", ["first", "later", "allocated"])
def test_TF_05_a_length_that_is_no_multiple_of_four_closes(busy, client, length, moment):
    if moment == "later":
        client.binding()
    elif moment == "allocated":
        client.allocated()
    start = time.monotonic()
    client.write(stun.header(stun.BINDING, stun.REQUEST, length, stun.transaction_id()) + bytes(length & 31))
    assert client.read_to_end() == b""
    assert time.monotonic() - start < 1
    if client.relayed:
        wait_until(lambda: client.relayed[1] not in busy.relay_sockets(), 1, "the allocation ended with its connection")


# ChannelData


@pytest.mark.parametrize("padding", [b"\0\0\0", b"\xFF\xFF\xFF", b"\x40\0\0"], ids=["zeros", "ones", "like-a-frame"])
def test_TF_06_short_channel_data_takes_its_padding_along(client, peer, padding):
    client.allocated().bound(0x4000, peer.address)
    for size in (1, 2, 3, 5, 6, 7):
        frame = stun.channel_data(0x4000, b"abcdefg"[:size]) + padding[: -size % 4]
        client.write(frame * 3)
        for _ in range(3):
            assert peer.receive() == (b"abcdefg"[:size], client.relayed)
        assert not client.drain_until_fence()
    assert client.refresh(0).is_success


@pytest.mark.parametrize("size", [1, 2, 3])
def test_TF_06_missing_padding_delays_the_frame(client, peer, size):
    client.allocated().bound(0x4000, peer.address)
    # In one write with an answered request, so that the answer says the rest has been read.
    client.write(stun.build(stun.BINDING) + stun.channel_data(0x4000, b"abc"[:size]))
    client.receive()
    assert_nothing_waits(peer)
    client.write(bytes(-size % 4))
    assert peer.receive() == (b"abc"[:size], client.relayed)
    assert client.binding() == client.local
    assert client.refresh(0).is_success


def test_TF_06_padding_that_never_comes_closes_at_the_deadline(busy, client, peer):
    client.allocated().bound(0x4000, peer.address)
    start = time.monotonic()
    client.write(stun.channel_data(0x4000, b"abc"))
    assert client.read_to_end(LATEST_SECONDS) == b""
    assert time.monotonic() - start >= DEADLINE_SECONDS - 1
    assert_nothing_waits(peer)
    wait_until(lambda: client.relayed[1] not in busy.relay_sockets(), 1, "the allocation ended with its connection")


@pytest.mark.parametrize("number", UNTAKEN_CHANNELS, ids=hex)
def test_TF_07_a_channel_out_of_range_is_discarded_or_closes(client, peer, number):
    client.allocated().bound(0x4000, peer.address)
    client.write(stun.channel_data(number, b"nobody's") + stun.build(stun.BINDING))
    with contextlib.suppress(Closed):
        answer = stun.Message.parse(client.receive())
        assert answer.is_success and answer.method == stun.BINDING
        client.send_channel(0x4000, b"in step")
        assert peer.receive() == (b"in step", client.relayed)
        assert not client.drain_until_fence()
        client.refresh(0)
    assert_nothing_waits(peer)


# Ends


def session_steps(client, peer):
    """The requests of a session, made one by one as the answers to those before allow."""
    yield stun.build(stun.ALLOCATE, stun.REQUEST, [TRANSPORT])
    client.learn(client.answer)
    yield client.signed(stun.ALLOCATE, [TRANSPORT])
    client.relayed = client.answer.address(stun.XOR_RELAYED_ADDRESS)
    assert client.relayed, client.answer
    transaction = stun.transaction_id()
    yield client.signed(stun.CREATE_PERMISSION, [client.peer_attribute(peer.address, transaction)], transaction)
    channel = (stun.CHANNEL_NUMBER, b"\x40\0\0\0")
    transaction = stun.transaction_id()
    yield client.signed(stun.CHANNEL_BIND, [channel, client.peer_attribute(peer.address, transaction)], transaction)
    yield client.signed(stun.REFRESH)


def run_prefix(client, peer, length):
    """Sends the first `length` bytes of a session; returns how many bytes there were to send."""
    steps, sent = session_steps(client, peer), 0
    for step in steps:
        part = step[: length - sent]
        client.write(part)
        sent += len(part)
        if len(part) < len(step):
            break
        client.answer = stun.Message.parse(client.receive())
    if sent < length:
        frame = stun.channel_data(0x4000, b"the last frame..")
        client.write(frame[: length - sent])
        sent += min(len(frame), length - sent)
    return sent


@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_TF_08_an_end_after_every_prefix_frees_the_allocation(busy, peer, end):
    with busy.stream_client() as client:
        client.allocated()
    wait_until(lambda: not busy.relay_sockets(), 1, "the first allocation ended")
    before, length = busy.descriptors(), 0
    while True:
        client = busy.stream_client()
        complete = run_prefix(client, peer, length) < length
        client.abort() if end == "RST" else client.close()
        if client.relayed:
            wait_until(lambda: not busy.relay_sockets(), 1, f"the allocation ended after {length} bytes and {end}")
        if complete:
            break
        length += 1
    assert length > 500, f"a session of {length} bytes is not one"
    wait_until(lambda: busy.descriptors() <= before, 1, f"descriptors are back at {before}")


def test_AL_11_a_quota_comes_back_with_the_relay_socket_and_not_before(serve):
    server = serve({"limits": {"allocations_per_user": 1}})
    most = 0
    for turn in range(1000):
        client = server.stream_client()

        def allocates():
            nonlocal most
            answer = client.allocate()
            sockets = len(server.relay_sockets())
            most = max(most, sockets)
            if answer.is_success:
                # The one before has gone, as far as the quota knows: so its socket has to be gone too.
                assert sockets <= 1, f"{sockets} relay sockets under a quota of 1, turn {turn}"
            else:
                assert answer.error == 486, answer
            return answer.is_success

        wait_until(allocates, 1, f"the quota of turn {turn - 1} is free again")
        client.abort()
    assert most <= 1
    wait_until(lambda: not server.relay_sockets(), 1, "the last relay socket is closed")


# Order


@pytest.mark.parametrize("known", [True, False], ids=["cached-user", "new-user"])
def test_TF_09_pipelined_requests_are_answered_in_order(serve, known):
    server = serve(users={f"user{n}": f"a password of number {n}" for n in range(20)})
    for number in range(20):
        with server.stream_client(f"user{number}") as client, server.peer("127.0.0.2") as peer:
            if known:
                client.allocated().refresh(0)
            else:
                client.challenge()
            transactions = [stun.transaction_id() for _ in range(7)]
            permitted = [client.peer_attribute(peer.address, transactions[1])]
            script = [
                client.signed(stun.ALLOCATE, [TRANSPORT], transactions[0]),
                client.signed(stun.CREATE_PERMISSION, permitted, transactions[1]),
                stun.build(stun.BINDING, transaction=transactions[2]),
                client.signed(stun.REFRESH, [(stun.LIFETIME, bytes(4))], transactions[3]),
                client.signed(stun.CREATE_PERMISSION, permitted, transactions[4]),
                client.signed(stun.ALLOCATE, [TRANSPORT], transactions[5]),
                stun.build(stun.BINDING, transaction=transactions[6]),
            ]
            client.write(b"".join(script))
            answers = [stun.Message.parse(client.receive()) for _ in script]
            assert [answer.transaction for answer in answers] == transactions
            assert [answer.error for answer in answers] == [None, None, None, None, 437, None, None], answers
            assert not client.drain_until_fence()


def test_TF_09_a_stranger_is_refused_in_order(busy):
    with busy.stream_client("nobody", password="of no account") as client:
        client.challenge()
        transactions = [stun.transaction_id() for _ in range(5)]
        client.write(b"".join(client.signed(stun.ALLOCATE, [TRANSPORT], transaction) for transaction in transactions))
        answers = [stun.Message.parse(client.receive()) for _ in transactions]
        assert [(answer.transaction, answer.error) for answer in answers] == [(t, 401) for t in transactions]


# Half-closes


@pytest.mark.parametrize("known", [True, False], ids=["cached-user", "new-user"])
def test_TF_10_a_half_close_is_answered_first(serve, known):
    server = serve(BUSY)
    if known:
        with server.client() as client:
            client.allocated().refresh(0)
    with server.stream_client() as client:
        client.challenge()
        script = [client.signed(stun.ALLOCATE, [TRANSPORT])] + [stun.build(stun.BINDING) for _ in range(50)]
        client.write(b"".join(script))
        client.finish()
        for message in script:
            answer = stun.Message.parse(client.receive())
            assert answer.is_success and answer.transaction == message[8:20]
        assert client.read_to_end() == b""
    wait_until(lambda: not server.relay_sockets(), 1, "the allocation ended with its connection")


def blocked(server, peer):
    """A client that has more waiting for it than the kernel takes: the server's own queue holds some."""
    client = server.stream_client(sock=small_stream_socket())
    client.allocated().bound(0x4000, peer.address)
    for number in range(12_000):
        peer.send(struct.pack("!I", number) + bytes(1096), client.relayed)
        if number % 20 == 0:
            time.sleep(0.001)
    return client


def test_TF_10_what_waits_for_a_client_that_has_half_closed_is_flushed(busy, peer):
    with blocked(busy, peer) as client:
        client.finish()
        wait_until(lambda: not busy.relay_sockets(), 1, "the allocation ended with the client's FIN")
        numbers = []
        with pytest.raises(Closed, match="ended the connection of .*, 0 bytes unread"):
            while True:
                number, payload = client.receive_data()
                assert number == 0x4000 and len(payload) == 1100
                numbers.append(struct.unpack_from("!I", payload)[0])
        # Some were dropped when there was no room; whole ones, and in order.
        assert numbers[:50] == list(range(50)) and numbers == sorted(set(numbers))
        # The server's own queue as well as the kernel's.
        assert len(numbers) * 1104 > 262_144


def test_TF_10_a_half_closed_client_that_does_not_read_is_closed_by_the_deadline(busy, peer):
    before = busy.descriptors()
    with blocked(busy, peer) as client:
        start = time.monotonic()
        client.finish()
        wait_until(lambda: not busy.relay_sockets(), 1, "the allocation ended with the client's FIN")
        assert busy.descriptors() > before
        wait_until(lambda: busy.descriptors() <= before, LATEST_SECONDS, "the connection is closed")
        assert time.monotonic() - start >= DEADLINE_SECONDS - 1
