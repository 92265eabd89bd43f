"""Which address the server answers from, relays from and tells: wildcards, several addresses, and 1:1 NAT."""

import socket

import pytest

from harness import PASSWORD
from namespaces import Namespaces, inside, ip

SECOND = ("10.77.0.9", "fd77::9")
OUTSIDE = "203.0.113.9"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_wildcard_listener_answers_from_the_address_it_was_asked_at(serve, namespaces, workers):
    """And relays from there. IPv4 and IPv6 share the port."""
    for address in SECOND:
        namespaces.add_address(namespaces.server, address + ("/64" if ":" in address else "/24"))
    server = serve({"workers": workers, "relay": {"allow_peers": ["10.0.0.0/8", "fd77::/16"]}},
                   hosts=("0.0.0.0", "::"), namespace=namespaces.server, relays_loopback=False)
    for host in (*Namespaces.SERVER, *SECOND):
        world = Namespaces.WORLD[":" in host]
        with server.client(host=host, namespace=namespaces.world) as client, \
                server.peer(world, namespaces.world) as peer:
            # The socket refuses a datagram from any other address than the one asked.
            assert client.binding()[0] == world
            family = [] if ":" not in host else [(0x0017, b"\x02\0\0\0")]
            client.allocated(*family).bound(0x4000, peer.address)
            assert client.relayed[0] == host
            client.send_channel(0x4000, b"out")
            assert peer.receive() == (b"out", client.relayed)
            peer.send(b"in", client.relayed)
            assert client.receive_data() == (0x4000, b"in")
            client.refresh(0)


def test_a_client_on_a_link_is_answered_on_that_link(serve, namespaces):
    """By its link-local address, which it may have on two links at once, and to whichever address it asked."""
    ip("link", "add", "second", "type", "veth", "peer", "name", "second", "netns", namespaces.world,
       namespace=namespaces.server)
    for name, own in ((namespaces.server, "fe80::5"), (namespaces.world, "fe80::7")):
        for link in ("cable", "second"):
            ip("link", "set", link, "up", namespace=name)
            ip("addr", "add", own + "/64", "dev", link, "nodad", namespace=name)
    server = serve({"workers": 2, "relay": {"allow_peers": ["10.0.0.0/8"]}, "limits": {"allocations_per_user": 20}},
                   hosts=("0.0.0.0", "::"), namespace=namespaces.server, relays_loopback=False)
    asked = [("fe80::5%cable", "fe80::7%cable"), ("fe80::5%second", "fe80::7%second"),
             (Namespaces.SERVER[1], "fe80::7%cable"), ("fe80::5%cable", Namespaces.WORLD[1])]
    # Names of links mean something in their namespace only.
    with inside(namespaces.world), server.peer(Namespaces.WORLD[0], namespaces.world) as peer:
        clients = []
        for number, (host, local) in enumerate(asked):
            # One port for the first two: nothing but the link tells them apart.
            port = 45_000 + number // 2
            place = socket.getaddrinfo(local, port, type=socket.SOCK_DGRAM)[0][4]
            client = server.client(host=host, local=place, namespace=namespaces.world)
            clients.append(client)
            assert client.binding() == (local.split("%")[0], port)
            client.allocated().bound(0x4000, peer.address)
        assert len({client.relayed for client in clients}) == len(asked)
        for number, client in enumerate(clients):
            client.send_channel(0x4000, b"out %d" % number)
            assert peer.receive() == (b"out %d" % number, client.relayed)
            peer.send(b"in %d" % number, client.relayed)
            assert client.receive_data() == (0x4000, b"in %d" % number)
        for client in clients:
            client.refresh(0)
            client.close()
    server.stop()
    assert "[fe80::7%" in server.log() and "fe80::7:" not in server.log()


@pytest.mark.parametrize("external", [OUTSIDE, [OUTSIDE], [f"{OUTSIDE}/{Namespaces.SERVER[0]}"]],
                         ids=["address", "list", "pair"])
def test_behind_one_to_one_nat_clients_are_told_the_outside_address(serve, namespaces, external):
    server = serve({"external_address": external, "relay": {"allow_peers": ["10.0.0.0/8"]}},
                   hosts=Namespaces.SERVER[:1], namespace=namespaces.server, relays_loopback=False)
    world = namespaces.world
    with server.client(namespace=world) as a, server.client(namespace=world) as b, \
            server.peer(Namespaces.WORLD[0], world) as peer:
        a.allocated()
        b.allocated()
        assert a.relayed[0] == b.relayed[0] == OUTSIDE
        # What the NAT would translate arrives at the inside address.
        a.permitted(peer.address)
        peer.send(b"from outside", (Namespaces.SERVER[0], a.relayed[1]))
        assert a.receive_data() == (peer.address, b"from outside")
        a.send_to(peer.address, b"to outside")
        assert peer.receive() == (b"to outside", (Namespaces.SERVER[0], a.relayed[1]))
        # Two clients of one relay meet at the outside addresses, which no NAT has to hairpin.
        a.bound(0x4000, b.relayed)
        b.permitted(a.relayed)
        a.send_channel(0x4000, b"inside out")
        assert b.receive_data() == (a.relayed, b"inside out")
        b.send_to(a.relayed, b"and back")
        assert a.receive_data() == (0x4000, b"and back")
        for client in (a, b):
            client.refresh(0)


def test_masked_logs_hold_no_address_of_a_client_or_peer(serve, namespaces):
    server = serve({"log": {"level": "trace", "addresses": "masked"}, "relay": {"allow_peers": ["10.0.0.0/8"]}},
                   hosts=Namespaces.SERVER, namespace=namespaces.server, relays_loopback=False)
    with server.client(namespace=namespaces.world) as four, \
            server.client(host=Namespaces.SERVER[1], namespace=namespaces.world) as six:
        for client in (four, six):
            client.allocated().permitted(("10.77.0.2", 9)).refresh(0)
    server.stop()
    text = server.log()
    assert "allocation" in text and PASSWORD not in text
    for address in Namespaces.WORLD:
        assert address not in text, address


def test_full_logs_name_client_user_and_traffic(serve):
    server = serve()
    with server.client() as client, server.peer() as peer:
        client.allocated().permitted(peer.address)
        client.send_to(peer.address, b"12345")
        peer.receive()
        client.refresh(0)
        where = f"{client.local[0]}:{client.local[1]}"
    server.stop()
    ended = [entry for entry in server.log_entries() if entry["message"] == "allocation ended"]
    assert len(ended) == 1
    assert where in str(ended[0]) and "alice" in str(ended[0])
    assert int(ended[0]["packets_to_peers"]) == 1 and int(ended[0]["bytes_to_peers"]) == 5
