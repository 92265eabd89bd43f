"""What ICMP says of datagrams to peers reaches the client (RFC 8656 section 11.5), and never costs it its
allocation."""

import contextlib
import struct
import time

import pytest

import stunclient
import stunwire as stun
from dtlsclient import DTLSClient
from harness import PASSWORD, wait_until
from namespaces import Namespaces, ip, run

# Per allocation and second, whatever comes.
TOLD_PER_SECOND = 10
NARROW_MTU = 1280
FAR = ("10.78.0.2", "fd78::2")
NOWHERE = ("10.79.0.1", "fd79::1")
FAMILIES = pytest.mark.parametrize("six", [0, 1], ids=["ipv4", "ipv6"])


class World:
    """A server, the world behind its cable, and a far host behind a narrow link of the world's.

        server ── 1500 ── world ── 1280 ── far
                            └ nothing leads to NOWHERE, and the world says so
    """

    def __init__(self, namespaces):
        self.namespaces = namespaces
        self.world = namespaces.world
        self.far = namespaces.world[:-1] + "f"
        ip("netns", "add", self.far)
        namespaces._made.append(self.far)
        ip("link", "set", "lo", "up", namespace=self.far)
        ip("link", "add", "narrow", "type", "veth", "peer", "name", "narrow", "netns", self.far, namespace=self.world)
        for name, (four, six) in ((self.world, ("10.78.0.1", "fd78::1")), (self.far, FAR)):
            ip("addr", "add", four + "/24", "dev", "narrow", namespace=name)
            ip("addr", "add", six + "/64", "dev", "narrow", "nodad", namespace=name)
            ip("link", "set", "narrow", "mtu", str(NARROW_MTU), "up", namespace=name)
        ip("route", "add", "default", "via", "10.78.0.1", namespace=self.far)
        ip("-6", "route", "add", "default", "via", "fd78::1", namespace=self.far)
        ip("route", "add", "unreachable", "10.79.0.0/24", namespace=self.world)
        ip("-6", "route", "add", "unreachable", "fd79::/64", namespace=self.world)
        # ICMP errors are limited by Linux too; the limits under test are the server's.
        for setting in ("ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1", "ipv4.icmp_ratemask=0",
                        "ipv6.icmp.ratelimit=0"):
            run("ip", "netns", "exec", self.world, "sysctl", "-qw", f"net.{setting}")


@pytest.fixture(scope="module")
def world(namespaces_module):
    return World(namespaces_module)


@pytest.fixture(scope="module")
def server(serve_module, world):
    return serve_module(
        {"relay": {"allow_peers": ["10.0.0.0/8", "fd00::/8"]},
         "limits": {"unauthenticated_replies_per_second": 100_000, "allocations_per_user": 100}},
        hosts=Namespaces.SERVER, namespace=world.namespaces.server, relays_loopback=False,
        users={"alice": PASSWORD},
    )


@pytest.fixture
def client(server, world, six):
    family = [(stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6)] if six else []
    with server.client(namespace=world.world) as client:
        yield client.allocated(*family)
        # What is told late must not be taken for the answer.
        request = client.signed(stun.REFRESH, [(stun.LIFETIME, bytes(4))])
        client.send(request)
        wait_until(lambda: client.receive()[8:20] == request[8:20], 5, "the Refresh is answered")
    server.assert_alive()


def icmp_of(datagram):
    """(peer, type, code, error data) of a Data indication about an error; RFC 8656 section 18.13 draws 7 and 9 bits."""
    indication = stun.Message.parse(datagram)
    assert (indication.method, indication.cls) == (stun.DATA, stun.INDICATION), indication
    assert indication.get(stun.DATA_ATTRIBUTE) is None, indication
    value = indication.get(stun.ICMP)
    assert len(value) == 8 and value[:2] == b"\0\0", value.hex()
    bits, data = struct.unpack("!2xHI", value)
    return indication.address(stun.XOR_PEER_ADDRESS), bits >> 9, bits & 0x1FF, data


def first_told(client, peer):
    """Sends to the peer until an error is told: Linux limits what hosts and routers say, whatever is switched off."""
    told = []

    def answered():
        client.send_to(peer, b"will not arrive")
        with contextlib.suppress(stunclient.Silence):
            told.append(icmp_of(client.receive(0.5)))
        return told

    wait_until(answered, 10, "the client is told")
    return told[0]


def closed_port(server, world, six):
    with server.peer(Namespaces.WORLD[six], world.world) as gone:
        return gone.address


@FAMILIES
def test_PC_20_a_closed_port_is_told_and_ends_nothing(server, world, client, six):
    closed = closed_port(server, world, six)
    with server.peer(Namespaces.WORLD[six], world.world) as peer:
        client.permitted(peer.address).bound(0x4000, closed)
        told = (closed, 1, 4, 0) if six else (closed, 3, 3, 0)
        client.send_to(closed, b"by indication")
        assert icmp_of(client.receive()) == told
        client.send_channel(0x4000, b"by channel")
        assert icmp_of(client.receive()) == told
        # Errors that wait at the socket fail no datagram to anyone else: all of them arrive, each one once.
        for number in range(200):
            client.send_to(closed, b"to the closed port")
            client.send_to(peer.address, b"%d" % number)
        for number in range(200):
            assert peer.receive()[0] == b"%d" % number
        client.drain_until_fence()
        peer.send(b"still there", client.relayed)
        wait_until(lambda: stun.Message.parse(client.receive()).get(stun.DATA_ATTRIBUTE) == b"still there", 5, "data")


@FAMILIES
def test_a_peer_that_no_way_leads_to_is_told(client, six):
    client.permitted((NOWHERE[six], 9999))
    peer, kind, code, data = first_told(client, (NOWHERE[six], 9999))
    assert (peer, kind, data) == ((NOWHERE[six], 9999), 1 if six else 3, 0)
    assert code in (0, 1, 3)


@FAMILIES
def test_what_is_too_long_for_the_path_is_told_with_its_mtu(server, world, client, six):
    with server.peer(FAR[six], world.far) as peer:
        client.permitted(peer.address)
        whole = bytes(1400)
        # Without DONT-FRAGMENT it is cut on the way. IPv6's routers do not cut: the kernel does, once it has been told.
        def arrives():
            client.send_to(peer.address, whole)
            try:
                return peer.receive(0.5)[0] == whole
            except AssertionError:
                return False

        wait_until(arrives, 10, "the long datagram arrives in fragments")
        client.drain_until_fence()
        # The allowance of this second may be spent on the datagrams before.
        time.sleep(1.1)
        told = (peer.address, 2, 0, NARROW_MTU) if six else (peer.address, 3, 4, NARROW_MTU)
        for _ in range(3):
            client.send_to(peer.address, whole, (stun.DONT_FRAGMENT, b""))
            assert icmp_of(client.receive()) == told
        # What fits arrives with DONT-FRAGMENT, and what does not arrives without, as before.
        client.send_to(peer.address, bytes(1100), (stun.DONT_FRAGMENT, b""))
        assert peer.receive()[0] == bytes(1100)
        wait_until(arrives, 10, "the long datagram arrives in fragments")


@FAMILIES
def test_what_is_longer_than_the_first_link_is_told_by_the_server_itself(server, world, client, six):
    with server.peer(Namespaces.WORLD[six], world.world) as peer:
        client.permitted(peer.address)
        client.send_to(peer.address, bytes(1600), (stun.DONT_FRAGMENT, b""))
        assert icmp_of(client.receive()) == ((peer.address, 2, 0, 1500) if six else (peer.address, 3, 4, 1500))
        client.send_to(peer.address, bytes(1600))
        assert peer.receive()[0] == bytes(1600)


@FAMILIES
def test_errors_told_are_few_however_many_come(server, world, client, six):
    closed = closed_port(server, world, six)
    client.permitted(closed)
    start = time.monotonic()
    for _ in range(500):
        client.send_to(closed, b"again")
    told = client.drain_until_fence()
    seconds = time.monotonic() - start
    assert all(icmp_of(datagram)[0] == closed for datagram in told)
    assert 1 <= len(told) <= TOLD_PER_SECOND * (int(seconds) + 2)


@FAMILIES
def test_an_error_about_a_peer_without_permission_is_told_to_nobody(server, world, client, six):
    """Only what left the relay comes back as an error, so it takes a permission that has gone since: another's
    relay."""
    closed = closed_port(server, world, six)
    with server.client(namespace=world.world) as other:
        other.allocated(*([(stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6)] if six else []))
        other.send_to(closed, b"no permission")
        client.permitted(closed)
        assert first_told(client, closed)[0] == closed
        assert not other.drain_until_fence()
        other.refresh(0)


@FAMILIES
@pytest.mark.parametrize("kind", [stunclient.StreamClient, DTLSClient], ids=["tcp", "dtls"])
def test_a_client_by_another_transport_is_told_too(server, world, six, kind):
    closed = closed_port(server, world, six)
    with server.client(namespace=world.world, kind=kind) as client:
        client.allocated(*([(stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6)] if six else [])).permitted(closed)
        assert first_told(client, closed) == ((closed, 1, 4, 0) if six else (closed, 3, 3, 0))
        assert client.refresh(0).is_success
