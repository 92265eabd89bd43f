"""Permissions, channels and data, cases PC-01 to PC-23 of the security catalogue."""

import random
import struct
import time

import pytest

import stunclient
import stunwire as stun
from harness import Background
from namespaces import Namespaces


@pytest.fixture(params=["udp", "tcp"])
def client(server, request):
    """With an allocation, by UDP and by TCP."""
    with server.client() if request.param == "udp" else server.stream_client() as client:
        yield client.allocated()
        client.refresh(0)


@pytest.fixture
def datagrams(server):
    """The same by UDP alone, for what is about datagrams."""
    with server.client() as client:
        yield client.allocated()
        client.refresh(0)


@pytest.fixture
def peer(server):
    with server.peer("127.0.0.2") as peer:
        yield peer


@pytest.fixture
def stranger(server):
    with server.peer("127.0.0.3") as stranger:
        yield stranger


def test_PC_01_data_without_a_permission_is_dropped(client, peer):
    client.send_to(peer.address, b"no permission")
    client.send_channel(0x4000, b"no channel")
    client.permitted(peer.address)
    client.send_to(peer.address, b"permitted")
    assert peer.receive() == (b"permitted", client.relayed)
    assert not client.drain_until_fence()


def test_PC_02_a_datagram_from_an_unpermitted_peer_is_dropped(client, peer, stranger):
    client.permitted(peer.address)
    stranger.send(b"stranger", client.relayed)
    peer.send(b"permitted", client.relayed)
    assert client.receive_data() == (peer.address, b"permitted")
    stranger.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        stranger.socket.recv(100)


def test_PC_03_a_permission_does_not_look_at_ports(server, client, peer):
    client.permitted(("127.0.0.2", 1))
    with server.peer("127.0.0.2") as other:
        for sender in (peer, other):
            sender.send(b"any port", client.relayed)
            assert client.receive_data() == (sender.address, b"any port")
            client.send_to(sender.address, b"back")
            assert sender.receive() == (b"back", client.relayed)


def test_PC_05_a_create_permission_without_a_peer_is_400(client):
    assert client.create_permission().error == 400


def test_PC_05_a_denied_peer_refuses_the_whole_request(client, peer):
    assert client.create_permission(peer.address, ("169.254.169.254", 80)).error == 403
    client.send_to(peer.address, b"the good half was not installed")
    client.permitted(peer.address)
    client.send_to(peer.address, b"now")
    assert peer.receive()[0] == b"now"


def test_PC_06_a_peer_of_the_other_family_is_443(client, peer):
    assert client.create_permission(("2001:4860:4860::8888", 9)).error == 443
    assert client.channel_bind(0x4000, ("2001:4860:4860::8888", 9)).error == 443


def test_PC_07_permissions_past_the_cap_are_508(client):
    for number in range(128):
        assert client.create_permission((f"127.1.{number}.1", 9)).is_success, number
    assert client.create_permission(("127.2.0.1", 9)).error == 508
    assert client.channel_bind(0x4000, ("127.2.0.2", 9)).error == 508
    assert client.create_permission(("127.1.5.1", 9)).is_success, "an existing one can be refreshed"
    # A request that would pass the cap installs none of its peers.
    assert client.create_permission(("127.1.6.1", 9), ("127.2.0.3", 9)).error == 508


def test_PC_08_an_excess_of_new_peers_is_508_and_existing_ones_go_on(client, peer):
    client.permitted(peer.address)
    outcomes = []
    for number in range(200):
        outcomes.append(client.create_permission((f"127.3.{number}.1", 9)).error)
        if number % 20 == 0:
            client.send_to(peer.address, str(number).encode())
            assert peer.receive()[0] == str(number).encode()
    assert set(outcomes) == {None, 508} and outcomes.count(None) <= 127


@pytest.mark.parametrize("number, error", [
    (0x0000, 400), (0x3FFF, 400), (0x4000, None), (0x4FFF, None), (0x5000, 400), (0x7FFF, 400), (0xFFFF, 400),
])
def test_PC_09_channel_numbers_are_those_of_rfc_8656(client, peer, number, error):
    assert client.channel_bind(number, peer.address).error == error
    if error is None:
        client.send_channel(number, b"by channel")
        assert peer.receive()[0] == b"by channel"


def test_PC_09_rfc_5766_channel_numbers_are_accepted_when_configured(serve):
    server = serve({"relay": {"rfc5766_channels": True}})
    with server.client() as client, server.peer() as peer:
        client.allocated()
        assert client.channel_bind(0x3FFF, peer.address).error == 400
        assert client.channel_bind(0x8000, peer.address).error == 400
        client.bound(0x7FFF, peer.address)
        client.send_channel(0x7FFF, b"an old client's channel")
        assert peer.receive()[0] == b"an old client's channel"
        peer.send(b"and back", client.relayed)
        assert client.receive_data() == (0x7FFF, b"and back")


def test_PC_10_a_channel_and_a_peer_are_bound_to_each_other_only(client, peer, stranger):
    client.bound(0x4001, peer.address)
    assert client.channel_bind(0x4001, stranger.address).error == 400
    assert client.channel_bind(0x4002, peer.address).error == 400
    client.bound(0x4001, peer.address)
    # The same host's other port is another peer.
    client.bound(0x4003, (peer.address[0], peer.address[1] ^ 1))


def test_PC_12_an_unbound_channel_or_anothers_is_met_with_silence(server, client, peer):
    with server.client() as other:
        other.allocated().bound(0x4005, peer.address)
        client.permitted(peer.address)
        client.send_channel(0x4005, b"another allocation's channel")
        client.send_channel(0x4006, b"nobody's channel")
        assert not client.drain_until_fence()
        other.send_channel(0x4005, b"its own")
        assert peer.receive() == (b"its own", other.relayed)
        other.refresh(0)


def test_PC_13_a_channel_length_past_the_datagram_relays_nothing(datagrams, peer):
    datagrams.bound(0x4000, peer.address)
    for _ in range(1000):
        datagrams.send(bytes.fromhex("40008ab6") + b"abc")
    datagrams.send(bytes.fromhex("4000ffff") + b"x" * 1000)
    datagrams.send(bytes.fromhex("4000"))
    datagrams.send(bytes.fromhex("400000"))
    assert not datagrams.drain_until_fence()
    datagrams.send_channel(0x4000, b"whole")
    assert peer.receive()[0] == b"whole"


def test_PC_14_a_channel_relays_exactly_its_length(datagrams, peer):
    datagrams.bound(0x4000, peer.address)
    datagrams.send_channel(0x4000, b"")
    assert peer.receive()[0] == b""
    for length in (0, 1, 3, 5, 8):
        datagrams.send(stun.channel_data(0x4000, b"12345678", length))
        assert peer.receive()[0] == b"12345678"[:length]


def test_PC_16_peer_data_comes_by_channel_if_there_is_one(client, peer):
    client.permitted(peer.address)
    peer.send(b"before", client.relayed)
    assert client.receive_data() == (peer.address, b"before")
    client.bound(0x4123, peer.address)
    peer.send(b"after", client.relayed)
    assert client.receive_data() == (0x4123, b"after")
    # A datagram of another port of the same host has no channel.
    with stunclient.Peer((peer.address[0], 0)) as neighbour:
        neighbour.send(b"no channel", client.relayed)
        assert client.receive_data() == (neighbour.address, b"no channel")


def test_PC_17_send_indications_without_or_with_odd_data(client, peer):
    client.permitted(peer.address)
    transaction = stun.transaction_id()
    to = client.peer_attribute(peer.address, transaction)
    data = stun.DATA_ATTRIBUTE
    client.send(stun.build(stun.SEND, stun.INDICATION, [to], transaction))
    client.send(stun.build(stun.SEND, stun.INDICATION, [(data, b"no peer")], transaction))
    client.send(stun.build(stun.SEND, stun.INDICATION, [to, (data, b"")], transaction))
    assert peer.receive()[0] == b"", "data of no bytes is an empty datagram"
    client.send(stun.build(stun.SEND, stun.INDICATION, [to, (data, b"one"), (data, b"two")], transaction))
    client.send_to(peer.address, b"marker")
    payload = peer.receive()[0]
    if payload == b"one":
        payload = peer.receive()[0]
    assert payload == b"marker"
    # The largest the loopback carries: relayed or dropped, and the server stands.
    largest = b"L" * 65468
    client.send_to(peer.address, largest)
    client.send_to(peer.address, b"after the largest")
    received = peer.receive()[0]
    if received != b"after the largest":
        assert received == largest and peer.receive()[0] == b"after the largest"
    assert not client.drain_until_fence()


@pytest.mark.parametrize("size", [1400, 1472, 4000, 9000, 30000])
def test_PC_17_large_payloads_arrive_whole_or_not_at_all(client, peer, size):
    payload = random.Random(size).randbytes(size)
    client.bound(0x4000, peer.address)
    client.send_channel(0x4000, payload)
    client.send_channel(0x4000, b"marker")
    received = peer.receive()[0]
    if received != b"marker":
        assert received == payload and peer.receive()[0] == b"marker"
    if size <= 1472:
        assert received == payload, "a datagram of an Ethernet's size has to pass"
    peer.send(payload, client.relayed)
    peer.send(b"marker", client.relayed)
    _, received = client.receive_data()
    if received != b"marker":
        assert received == payload and client.receive_data() == (0x4000, b"marker")
    if size <= 1472:
        assert received == payload


@pytest.mark.parametrize("port", [0, 53])
def test_PC_18_a_channel_to_port_zero_or_a_denied_port_is_refused(client, port):
    assert client.channel_bind(0x4000, ("127.0.0.2", port)).error in ((400, 403) if port == 0 else (403,))


def test_PC_19_a_permission_of_one_allocation_is_no_use_to_another(server, client, peer):
    with server.client(local=(client.local[0], 0)) as other:
        other.allocated()
        client.permitted(peer.address)
        other.send_to(peer.address, b"on another's permission")
        peer.send(b"to the other", other.relayed)
        assert not other.drain_until_fence()
        client.send_to(peer.address, b"on its own")
        assert peer.receive() == (b"on its own", client.relayed)
        other.permitted(peer.address)
        peer.send(b"permitted now", other.relayed)
        assert other.receive_data() == (peer.address, b"permitted now")
        other.refresh(0)


def test_PC_20_a_closed_peer_port_never_ends_the_allocation(serve, namespaces):
    server = serve({"relay": {"allow_peers": ["10.0.0.0/8"]}}, hosts=Namespaces.SERVER[:1],
                   namespace=namespaces.server, relays_loopback=False)
    world = namespaces.world
    with server.client(namespace=world) as client, server.peer(Namespaces.WORLD[0], world) as peer:
        with server.peer(Namespaces.WORLD[0], world) as gone:
            closed = gone.address
        client.allocated().permitted(peer.address).bound(0x4000, closed)
        for _ in range(50):
            client.send_to(closed, b"to a closed port")
            client.send_channel(0x4000, b"to a closed port")
        for datagram in client.drain_until_fence():
            indication = stun.Message.parse(datagram)
            assert (indication.method, indication.cls) == (stun.DATA, stun.INDICATION)
            assert indication.get(stun.ICMP) is not None and indication.get(stun.DATA_ATTRIBUTE) is None
        # Then the allocation works as before, at once and both ways.
        for number in range(20):
            client.send_to(peer.address, b"%d" % number)
            assert peer.receive()[0] == b"%d" % number
            peer.send(b"%d" % number, client.relayed)
            while True:
                indication = stun.Message.parse(client.receive())
                if indication.get(stun.DATA_ATTRIBUTE) is not None:
                    break
            assert indication.get(stun.DATA_ATTRIBUTE) == b"%d" % number
        assert client.refresh(0).is_success


def test_PC_21_tcp_relaying_is_not_to_be_had_over_udp(server, client):
    with server.client() as fresh:
        assert fresh.call(stun.ALLOCATE, [(stun.REQUESTED_TRANSPORT, b"\x06\0\0\0")]).error == 442
    for method in (stun.CONNECT, stun.CONNECTION_BIND):
        client.send(client.signed(method))
        for datagram in client.drain_until_fence():
            assert stun.Message.parse(datagram).error in (400, 437)


def test_PC_22_tables_filled_and_emptied_a_hundred_times_give_their_memory_back(serve):
    server = serve({"limits": {"unauthenticated_replies_per_second": 100_000}})

    def fill_and_empty():
        with server.client() as client:
            client.allocated()
            for number in range(128):
                client.bound(0x4000 + number, (f"127.4.{number}.1", 9))
            assert client.refresh(0).is_success

    for _ in range(10):
        fill_and_empty()
    memory, descriptors = server.resident_kib(), server.descriptors()
    for _ in range(100):
        fill_and_empty()
    assert server.resident_kib() - memory < 1024
    assert server.descriptors() <= descriptors


def test_PC_23_a_steady_stream_with_malformed_packets_loses_nothing_and_keeps_order(datagrams, peer):
    """5,000 packets a second each way for two seconds, one in a hundred malformed."""
    datagrams.bound(0x4000, peer.address)
    count, rate = 10_000, 5_000
    malformed = [b"\x40\x00\xff\xff123", b"\x00\x01\x00\x03", b"\x50" * 40, stun.build(stun.BINDING)[:-1],
                 b"\x00\x16\x00\x00" + bytes(16)]

    def receive(function):
        return [struct.unpack("!I", function()[:4])[0] for _ in range(count)]

    at_peer = Background(lambda: receive(lambda: peer.receive()[0]))
    at_client = Background(lambda: receive(lambda: datagrams.receive_data()[1]))
    start = time.monotonic()
    for number in range(count):
        payload = struct.pack("!I", number) + b"p" * 156
        datagrams.send_channel(0x4000, payload)
        peer.send(payload, datagrams.relayed)
        if number % 100 == 0:
            datagrams.send(malformed[number // 100 % len(malformed)])
        ahead = start + number / rate - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
    assert at_peer.result() == list(range(count))
    assert at_client.result() == list(range(count))
