"""Allocation lifecycle, cases AL-01 to AL-20 of the security catalogue, and RE-02."""

import contextlib
import struct
import time

import pytest

import stunclient
import stunwire as stun
from harness import PASSWORD, wait_until
from namespaces import Namespaces, inside

FEW_PORTS = {"min_port": 21000, "max_port": 21063}
BUSY = {"limits": {"allocations_per_user": 1000, "unauthenticated_replies_per_second": 100_000}}
EVEN_AND_NEXT = (stun.EVEN_PORT, b"\x80")
EVEN = (stun.EVEN_PORT, b"\x00")


@pytest.fixture(params=["udp", "tcp"])
def client(server, request):
    with server.client() if request.param == "udp" else server.stream_client() as client:
        yield client
        if client.relayed:
            client.refresh(0)


@pytest.fixture(scope="module")
def tight(serve_module):
    """A server with 64 relay ports."""
    return serve_module({"relay": FEW_PORTS, **BUSY})


def test_AL_01_a_second_allocate_is_437_and_a_retransmission_gets_the_same_answer(client):
    transaction = stun.transaction_id()
    client.challenge()
    request = client.signed(stun.ALLOCATE, [(stun.REQUESTED_TRANSPORT, stun.UDP)], transaction)
    first, again = client.exchange(request), client.exchange(request)
    assert first.is_success and again.is_success
    assert first.get(stun.XOR_RELAYED_ADDRESS) == again.get(stun.XOR_RELAYED_ADDRESS)
    assert first.lifetime == again.lifetime
    assert client.allocate().error == 437


def test_AL_02_the_requested_transport_has_to_be_udp(client):
    assert client.call(stun.ALLOCATE).error == 400
    for protocol in (6, 0xFF, 0):
        assert client.call(stun.ALLOCATE, [(stun.REQUESTED_TRANSPORT, bytes([protocol, 0, 0, 0]))]).error == 442


@pytest.mark.parametrize("asked, granted", [
    (0, 600), (1, 600), (599, 600), (601, 601), (3600, 3600), (3601, 3600), (0xFFFFFFFF, 3600), (None, 600),
])
def test_AL_03_lifetimes_are_held_between_ten_minutes_and_an_hour(client, asked, granted):
    assert client.allocate(lifetime=asked).lifetime == granted
    if asked != 0:
        assert client.refresh(asked).lifetime == granted


def test_AL_04_a_refresh_with_zero_ends_the_allocation(server, client):
    client.allocated()
    port = client.relayed[1]
    assert server.has_relay_port(port)
    answer = client.refresh(0)
    assert answer.is_success and answer.lifetime == 0
    wait_until(lambda: not server.has_relay_port(port), 0.1, "the relay port is closed")
    assert client.refresh(600).error == 437
    assert client.create_permission(("127.0.0.1", 9)).error == 437
    assert client.channel_bind(0x4000, ("127.0.0.1", 9)).error == 437


def test_AL_05_a_reservation_token_stands_alone_and_works_once(server):
    with contextlib.ExitStack() as stack:
        def fresh():
            return stack.enter_context(server.client())

        holder = fresh()
        granted = holder.allocate(EVEN_AND_NEXT)
        token = granted.get(stun.RESERVATION_TOKEN)
        assert granted.is_success and len(token) == 8 and holder.relayed[1] % 2 == 0
        for companion in (EVEN, (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV4),
                          (stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6)):
            assert fresh().allocate((stun.RESERVATION_TOKEN, token), companion).error == 400
        assert fresh().allocate((stun.RESERVATION_TOKEN, bytes(8))).error == 508
        sibling = fresh()
        assert sibling.allocate((stun.RESERVATION_TOKEN, token)).is_success
        assert sibling.relayed[1] == holder.relayed[1] + 1
        assert fresh().allocate((stun.RESERVATION_TOKEN, token)).error == 508
        sibling.refresh(0)
        holder.refresh(0)


def test_AL_05_a_reservation_lapses_after_thirty_seconds(serve):
    server = serve({"relay": {"min_port": 21100, "max_port": 21101}, **BUSY})
    with server.client() as holder, server.client() as late, server.client() as other:
        granted = holder.allocate(EVEN_AND_NEXT)
        made = time.monotonic()
        token = granted.get(stun.RESERVATION_TOKEN)
        assert granted.is_success and holder.relayed[1] == 21100
        # While it is held nobody else gets the port; then it is back in the pool, and the token is worth nothing.
        assert other.allocate().error == 508
        answer = wait_until(lambda: _success(other.allocate()), 45, "the reserved port is back in the pool")
        assert time.monotonic() - made >= 30
        assert answer.address(stun.XOR_RELAYED_ADDRESS)[1] == 21101
        other.refresh(0)
        assert late.allocate((stun.RESERVATION_TOKEN, token)).error == 508


def _success(answer):
    return answer if answer.is_success else None


def test_AL_06_address_family_attributes_that_contradict_are_refused(client):
    family = (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV4)
    assert client.allocate(family, (stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6)).error == 400
    # The server of these tests listens on 127.0.0.1 alone.
    assert client.allocate((stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6)).error == 440
    assert client.allocate((stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV4)).error == 400
    assert client.allocate(EVEN_AND_NEXT, (stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6)).error == 400


def test_AL_07_twenty_thousand_even_ports_leak_none(serve):
    server = serve({"relay": {"min_port": 21200, "max_port": 21299}, **BUSY})
    with server.client() as client:
        for _ in range(20_000):
            answer = client.allocate(EVEN)
            assert answer.is_success, answer
            assert client.relayed[1] % 2 == 0 and 21200 <= client.relayed[1] <= 21299
            assert client.refresh(0).is_success
    # The whole pool is there still.
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(100)]
        assert len({client.allocated().relayed[1] for client in clients}) == 100
        for client in clients:
            client.refresh(0)


def test_AL_09_relay_ports_are_in_the_range_and_not_in_order(server):
    ports = []
    with server.client() as client:
        for _ in range(500):
            client.allocated()
            ports.append(client.relayed[1])
            client.refresh(0)
    assert all(49152 <= port <= 65535 for port in ports)
    steps = [b - a for a, b in zip(ports, ports[1:])]
    assert sum(abs(step) <= 16 for step in steps) < 25, "ports come close to each other too often"
    assert 0.4 < sum(step > 0 for step in steps) / len(steps) < 0.6
    quarters = [sum(49152 + q * 4096 <= port < 53248 + q * 4096 for port in ports) for q in range(4)]
    assert all(80 < count < 170 for count in quarters), quarters


def test_AL_10_quotas_hold_under_two_hundred_concurrent_allocates(serve):
    server = serve(
        {"limits": {"allocations_per_user": 10, "allocations_total": 50, "unauthenticated_replies_per_second": 1000}},
        users={f"user{n}": PASSWORD for n in range(6)},
    )

    def rush(name, count, stack):
        """All requests are on their way before the first answer is read."""
        clients = [stack.enter_context(server.client(name)) for _ in range(count)]
        requests = []
        for client in clients:
            client.challenge()
            requests.append(client.signed(stun.ALLOCATE, [(stun.REQUESTED_TRANSPORT, stun.UDP)]))
        for client, request in zip(clients, requests):
            client.send(request)
        answers = [stun.Message.parse(client.receive()) for client in clients]
        return clients, [answer.error or "success" for answer in answers]

    for _ in range(2):
        with contextlib.ExitStack() as stack:
            clients, outcomes = rush("user0", 200, stack)
            assert outcomes.count("success") == 10 and outcomes.count(486) == 190, outcomes
            for name in ("user1", "user2", "user3", "user4"):
                more, outcomes = rush(name, 10, stack)
                assert outcomes == ["success"] * 10
                clients += more
            more, outcomes = rush("user5", 5, stack)
            assert outcomes == [508] * 5
            clients += more
            for client, _ in zip(clients, range(245)):
                assert client.refresh(0).error in (None, 437)
    # The second round found every counter back at zero.


def test_AL_13_a_refresh_for_a_family_it_does_not_have_is_443(client):
    client.allocated()
    assert client.refresh(600, (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6)).error == 443
    assert client.refresh(600, (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV4)).is_success


def test_AL_14_a_refresh_with_zero_and_a_family_ends_only_that_family(serve):
    server = serve(BUSY, hosts=("127.0.0.1", "::1"))
    with server.client() as client, server.peer("::1") as peer:
        answer = client.allocate((stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6))
        assert answer.is_success, answer
        relayed = [value for kind, value in answer.attributes if kind == stun.XOR_RELAYED_ADDRESS]
        four, six = sorted((stun.decode_address(v, answer.transaction) for v in relayed), key=lambda a: ":" in a[0])
        assert (four[0], six[0]) == ("127.0.0.1", "::1")
        client.permitted(("127.0.0.1", 9), peer.address)
        peer.send(b"by IPv6", six)
        assert client.receive_data() == (peer.address, b"by IPv6")
        assert client.refresh(0, (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV4)).is_success
        wait_until(lambda: not server.has_relay_port(four[1]), 1, "the IPv4 port is closed")
        peer.send(b"still", six)
        assert client.receive_data() == (peer.address, b"still")
        assert client.create_permission(("127.0.0.1", 9)).error == 443
        assert client.refresh(0).is_success


def test_AL_14_a_family_the_server_lacks_is_named_in_address_error_code(client):
    answer = client.allocate((stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6))
    assert answer.is_success
    value = answer.get(stun.ADDRESS_ERROR_CODE)
    assert value is not None and value[0] == 2 and (value[2] & 7) * 100 + value[3] == 440


def test_AL_15_an_unknown_5_tuple_gets_437_and_its_data_is_met_with_silence(server):
    with server.client() as client, server.peer() as peer:
        client.challenge()
        assert client.refresh(600).error == 437
        assert client.create_permission(peer.address).error == 437
        assert client.channel_bind(0x4000, peer.address).error == 437
        client.send_to(peer.address, b"nobody's")
        client.send_channel(0x4000, b"nobody's")
        assert not client.drain_until_fence()
        # It left no state: the same socket allocates as a new one, and only what it sends now arrives.
        client.allocated().bound(0x4000, peer.address)
        client.send_channel(0x4000, b"mine")
        assert peer.receive()[0] == b"mine"
        client.refresh(0)


@pytest.fixture(scope="module")
def apart(serve_module, namespaces_module):
    return serve_module(
        {"relay": {"allow_peers": ["10.0.0.0/8", "fd77::/16"]}, **BUSY}, hosts=Namespaces.SERVER,
        namespace=namespaces_module.server, relays_loopback=False,
    )


def test_AL_16_dont_fragment_sets_df_on_the_wire(apart, namespaces_module):
    import socket

    world = namespaces_module.world
    with inside(world):
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    with sniffer, apart.client(namespace=world) as client, apart.peer(Namespaces.WORLD[0], world) as peer:
        sniffer.settimeout(5)
        client.allocated((stun.DONT_FRAGMENT, b"")).permitted(peer.address)

        def fragment_flags(payload, *extra):
            client.send_to(peer.address, payload, *extra)
            assert peer.receive()[0] == payload
            while True:
                packet = sniffer.recv(65535)
                if packet.endswith(payload) and struct.unpack_from("!H", packet, 22)[0] == peer.address[1]:
                    return struct.unpack_from("!H", packet, 6)[0]

        assert fragment_flags(b"must not be fragmented", (stun.DONT_FRAGMENT, b"")) & 0x4000
        assert not fragment_flags(b"may be fragmented") & 0x4000
        client.refresh(0)


def test_AL_17_a_mobility_ticket_is_ignored_when_mobility_is_off(server):
    for ticket in (b"", b"\x80" * 4, bytes(255)):
        with server.client() as client:
            answer = client.allocate((stun.MOBILITY_TICKET, ticket))
            assert answer.is_success and stun.MOBILITY_TICKET not in answer.kinds()
            assert client.refresh(600, (stun.MOBILITY_TICKET, ticket)).is_success
            client.refresh(0)


@pytest.mark.parametrize("source", ["2002:a4d:1::5", "2001:0:5ef5::5"], ids=["6to4", "teredo"])
def test_AL_19_a_client_on_6to4_or_teredo_is_refused(apart, namespaces_module, source):
    namespaces_module.add_address(namespaces_module.world, source + "/128")
    with apart.client(host=Namespaces.SERVER[1], local=(source, 0), namespace=namespaces_module.world) as client:
        answer = client.allocate()
        assert answer.error == 403, answer


def test_AL_20_a_port_in_use_elsewhere_is_passed_over(serve):
    server = serve({"relay": {"min_port": 21300, "max_port": 21309}, **BUSY})
    with contextlib.ExitStack() as stack:
        for port in range(21300, 21309):
            stack.enter_context(stunclient.Peer(("127.0.0.1", port)))
        client, other = stack.enter_context(server.client()), stack.enter_context(server.client())
        assert client.allocated().relayed[1] == 21309
        assert other.allocate().error == 508
        client.refresh(0)
        assert other.allocate().is_success
        other.refresh(0)


def test_RE_02_a_full_port_range_is_508_and_recovers_at_once(tight):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(tight.client()).allocated() for _ in range(64)]
        assert len({client.relayed[1] for client in clients}) == 64
        late = stack.enter_context(tight.client())
        late.challenge()
        start = time.monotonic()
        assert late.allocate().error == 508
        assert time.monotonic() - start < 0.05
        assert clients[7].refresh(0).is_success
        assert late.allocate().is_success
        assert late.relayed == clients[7].relayed
        for client in clients:
            client.refresh(0)
        late.refresh(0)
