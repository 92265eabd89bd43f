"""Both families everywhere: clients by IPv4 and IPv6, by UDP, TCP and TLS, with relays of either family and of both."""

import itertools
import socket
import struct

import pytest

import stunclient
import stunwire as stun
from harness import PASSWORD, client_address, free_port, merged
from test_tls import tls_context

HOSTS = ("127.0.0.1", "::1")
BUSY = {"unauthenticated_replies_per_second": 100_000, "allocations_per_user": 100}
FAMILIES = {"127.0.0.1": stun.IPV4, "::1": stun.IPV6}
WAYS = pytest.mark.parametrize("way", list(itertools.product(("udp", "tcp", "tls"), HOSTS)),
                               ids=lambda way: f"{way[0]}-{'ipv6' if ':' in way[1] else 'ipv4'}")


def listening(serve, config=None, hosts=HOSTS):
    port = free_port()
    tls = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in HOSTS]
    server = serve(merged({"listen": {"tls": tls}, "limits": BUSY}, config or {}), hosts=hosts, start=False)
    server.tls_port = port
    return server.start()


def connected(server, way):
    """A client by that transport, to that address of the server."""
    transport, host = way
    if transport == "udp":
        return server.client(host=host, local=("::1", 0) if ":" in host else None)
    if transport == "tcp":
        return server.stream_client(host=host)
    local = ("::1", 0) if ":" in host else (client_address(), 0)
    bare = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    secured = tls_context(server).wrap_socket(bare, server_hostname=host)
    return stunclient.StreamClient((host, server.tls_port), "alice", PASSWORD, local, sock=secured)


@pytest.fixture(scope="module")
def both(serve_module):
    return listening(serve_module)


@pytest.fixture(scope="module")
def only_four(serve_module):
    """It listens on both families and relays on IPv4 alone."""
    return listening(serve_module, {"relay": {"addresses": ["127.0.0.1"]}})


@pytest.fixture
def client(both, way):
    with connected(both, way) as client:
        yield client
    both.assert_alive()


def relayed(answer):
    assert answer.is_success, answer
    found = [stun.decode_address(value, answer.transaction) for kind, value in answer.attributes
             if kind == stun.XOR_RELAYED_ADDRESS]
    return sorted(found, key=lambda address: ":" in address[0])


@WAYS
@pytest.mark.parametrize("relay", HOSTS, ids=["relay-ipv4", "relay-ipv6"])
def test_a_client_of_either_family_relays_to_either(both, client, way, relay):
    answer = client.allocate((stun.REQUESTED_ADDRESS_FAMILY, FAMILIES[relay]))
    assert [address for address, _ in relayed(answer)] == [relay]
    # XOR-MAPPED-ADDRESS is the client's, in the client's family.
    assert answer.address(stun.XOR_MAPPED_ADDRESS) == client.local
    assert client.binding() == client.local
    with both.peer(relay) as peer:
        client.permitted(peer.address).bound(0x4000, peer.address)
        for send, source in ((lambda: client.send_to(peer.address, b"one"), 0x4000),
                             (lambda: client.send_channel(0x4000, b"one"), 0x4000)):
            send()
            assert peer.receive() == (b"one", client.relayed)
            peer.send(b"two", client.relayed)
            assert client.receive_data() == (source, b"two")
    with both.peer(relay) as other:
        client.permitted(other.address)
        other.send(b"as an indication", client.relayed)
        assert client.receive_data() == (other.address, b"as an indication")
    assert client.refresh(0).is_success


@WAYS
def test_AL_06_contradicting_families_are_refused(client, way):
    four, six = ((stun.REQUESTED_ADDRESS_FAMILY, family) for family in (stun.IPV4, stun.IPV6))
    more = (stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6)
    assert client.allocate(four, more).error == 400
    assert client.allocate(six, more).error == 400
    assert client.allocate((stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV4)).error == 400
    assert client.allocate((stun.EVEN_PORT, b"\x80"), more).error == 400
    assert client.allocate((stun.REQUESTED_ADDRESS_FAMILY, struct.pack("!B3x", 7))).error == 440


@WAYS
def test_AL_06_a_family_the_relay_lacks_is_440(only_four, way):
    with connected(only_four, way) as client:
        assert client.allocate((stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6)).error == 440
        answer = client.allocate((stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6))
        assert [address for address, _ in relayed(answer)] == ["127.0.0.1"]
        value = answer.get(stun.ADDRESS_ERROR_CODE)
        assert value[0] == 2 and (value[2] & 7) * 100 + value[3] == 440
        assert client.refresh(0).is_success


@WAYS
@pytest.mark.parametrize("relay", HOSTS, ids=["relay-ipv4", "relay-ipv6"])
def test_AL_13_and_PC_06_the_other_family_is_443(client, way, relay):
    client.allocated((stun.REQUESTED_ADDRESS_FAMILY, FAMILIES[relay]))
    other = next(host for host in HOSTS if host != relay)
    assert client.refresh(600, (stun.REQUESTED_ADDRESS_FAMILY, FAMILIES[other])).error == 443
    assert client.refresh(600, (stun.REQUESTED_ADDRESS_FAMILY, FAMILIES[relay])).is_success
    assert client.create_permission((other, 9)).error == 443
    assert client.channel_bind(0x4000, (other, 9)).error == 443
    # One of two is of the wrong family: neither is permitted.
    assert client.create_permission((relay, 9), (other, 9)).error == 443
    assert client.create_permission((relay, 9)).is_success
    assert client.refresh(0).is_success


@WAYS
def test_AL_14_a_dual_allocation_relays_by_both_and_ends_one_by_one(both, client, way):
    four, six = relayed(client.allocate((stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6)))
    assert (four[0], six[0]) == HOSTS
    with both.peer("127.0.0.1") as peer4, both.peer("::1") as peer6:
        client.permitted(peer4.address, peer6.address)
        for peer, address in ((peer4, four), (peer6, six)):
            client.send_to(peer.address, b"out")
            assert peer.receive() == (b"out", address)
            peer.send(b"in", address)
            assert client.receive_data() == (peer.address, b"in")
        assert client.refresh(0, (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV4)).is_success
        assert client.create_permission(peer4.address).error == 443
        client.send_to(peer4.address, b"gone")
        client.send_to(peer6.address, b"still")
        assert peer6.receive() == (b"still", six)
        assert client.refresh(600, (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV4)).error == 443
        assert client.refresh(0, (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6)).is_success
        assert client.refresh(600).error == 437


@WAYS
def test_AL_14_a_family_that_is_full_is_told_beside_the_success_of_the_other(serve, way):
    server = listening(serve, {"relay": {"min_port": 21800, "max_port": 21803}})
    with connected(server, way) as client, server.client() as first, server.client() as second:
        first.allocated((stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6), (stun.EVEN_PORT, b"\x80"))
        second.allocated((stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6), (stun.EVEN_PORT, b"\x80"))
        answer = client.allocate((stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6))
        assert [address for address, _ in relayed(answer)] == ["127.0.0.1"]
        value = answer.get(stun.ADDRESS_ERROR_CODE)
        assert value[0] == 2 and (value[2] & 7) * 100 + value[3] == 508
        assert client.refresh(600, (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6)).error == 443
        assert client.refresh(0).is_success
        # Alone, the full family is no success at all.
        assert client.allocate((stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6)).error == 508
