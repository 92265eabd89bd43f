"""Amplification, reflection and loops, cases AM-01 to AM-14 of the security catalogue."""

import socket
import struct
import time

import pytest

import stunclient
import stunwire as stun
from harness import client_address
from namespaces import Namespaces, inside, ip
from totals import Totals

ALLOCATE_ATTRIBUTES = [(stun.REQUESTED_TRANSPORT, stun.UDP)]
# IPv4 and UDP headers, which both directions carry on the wire.
HEADERS = 28


def test_AM_01_a_binding_answer_has_the_mapped_address_and_nothing_else(serve):
    server = serve(hosts=("127.0.0.1", "::1"))
    for host, size in (("127.0.0.1", 32), ("::1", 44)):
        with server.wire(host=host) as wire:
            answer = wire.request(stun.BINDING)
            assert answer.kinds() == [stun.XOR_MAPPED_ADDRESS]
            assert answer.address(stun.XOR_MAPPED_ADDRESS) == wire.local or host == "::1"
            assert len(answer.raw) == size


def test_AM_02_a_fingerprint_is_mirrored_only_when_present(server):
    with server.wire() as wire:
        answer = wire.request(stun.BINDING, fingerprint=True)
        assert answer.kinds() == [stun.XOR_MAPPED_ADDRESS, stun.FINGERPRINT]
        assert len(answer.raw) == 40
        body = answer.raw[20:-8]
        assert stun.add_fingerprint(stun.BINDING, stun.SUCCESS, body, answer.transaction) == answer.raw[20:]


def test_AM_03_a_challenge_is_small(serve):
    # Sixteen characters of realm, as the catalogue counts them.
    server = serve({"realm": "sixteen.chars.io"})
    with server.wire() as wire:
        bare, minimal = wire.request(stun.ALLOCATE), wire.request(stun.ALLOCATE, ALLOCATE_ATTRIBUTES)
        for answer in (bare, minimal):
            assert answer.error == 401 and len(answer.raw) <= 104, len(answer.raw)


class Rotation:
    """Sockets of one source address with changing ports."""

    def __init__(self, server, ports=20):
        address = client_address()
        self.wires = [server.wire(local=(address, 0)) for _ in range(ports)]

    def replies(self, make, rate, seconds):
        """Sends `rate` requests a second for `seconds`; returns the replies' bytes."""
        start, answers = time.monotonic(), []
        for number in range(int(rate * seconds)):
            self.wires[number % len(self.wires)].send(make())
            ahead = start + number / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        for wire in self.wires:
            answers += wire.drain_until_fence()
        return answers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for wire in self.wires:
            wire.close()


def test_AM_04_one_address_gets_at_most_ten_challenges_a_second(serve):
    server = serve()
    lines = len(server.log().splitlines())
    with Rotation(server) as rotation, server.client() as bystander:
        answers = rotation.replies(lambda: stun.build(stun.ALLOCATE, attributes=ALLOCATE_ATTRIBUTES), 1000, 10)
        # Ten a second, and one window's worth for where the windows fall.
        assert 80 <= len(answers) <= 120, f"{len(answers)} replies in 10 s"
        assert bystander.allocate().is_success, "others are served"
        bystander.refresh(0)
    written = len(server.log().splitlines()) - lines
    assert written <= 10, f"{written} log lines"


def eliciting_requests(client):
    """Requests that get each kind of unauthenticated error, each with a fresh transaction."""
    nonce = b"obMatJos2" + b"A" * 28
    forged = [(stun.USERNAME, b"alice"), (stun.REALM, b"turnpike"), (stun.NONCE, nonce)]
    return {
        401: lambda: stun.build(stun.ALLOCATE, attributes=ALLOCATE_ATTRIBUTES),
        438: lambda: stun.build(stun.ALLOCATE, attributes=ALLOCATE_ATTRIBUTES + forged, key=b"forged"),
        400: lambda: stun.build(stun.ALLOCATE, attributes=ALLOCATE_ATTRIBUTES + forged[:1], key=b"forged"),
        420: lambda: stun.build(stun.BINDING, attributes=[(0x7FFF, b"")]),
    }


def test_AM_05_every_kind_of_error_shares_the_budget(serve):
    server = serve()
    with server.client() as client:
        makers = eliciting_requests(client)
    for code, make in makers.items():
        with server.wire() as wire:
            assert wire.exchange(make()).error == code
    import itertools

    with Rotation(server) as rotation:
        turn = itertools.cycle(makers.values())
        answers = rotation.replies(lambda: next(turn)(), 1000, 3)
        assert 20 <= len(answers) <= 40, f"{len(answers)} replies in 3 s"


def test_AM_05_bindings_have_a_larger_budget_of_their_own(serve):
    server = serve({"limits": {"binding_replies_per_second": 50}})
    with Rotation(server, ports=4) as rotation:
        start, sent = time.monotonic(), 0
        while time.monotonic() - start < 2:
            rotation.wires[sent % 4].send(stun.build(stun.BINDING))
            sent += 1
            time.sleep(0.001)
        elapsed = time.monotonic() - start
        received = 0
        for wire in rotation.wires:
            wire.socket.settimeout(0.2)
            try:
                while True:
                    wire.socket.recv(2000)
                    received += 1
            except TimeoutError:
                pass
    assert sent > 500 and 60 <= received <= 50 * (elapsed + 2), f"{received} of {sent} answered in {elapsed:.1f} s"


def test_AM_06_no_error_carries_a_reason_phrase_or_software(server):
    with server.client() as client:
        answers = []
        for make in eliciting_requests(client).values():
            with server.wire() as wire:
                answers.append(wire.exchange(make()))
        client.allocated()
        answers += [client.allocate(), client.create_permission(), client.channel_bind(0x3FFF, ("127.0.0.1", 9)),
                    client.create_permission(("169.254.169.254", 80)), client.refresh(600, (0x7FFF, b"")),
                    client.refresh(600, (stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6))]
        client.refresh(0)
    assert {answer.error for answer in answers} >= {400, 401, 403, 420, 437, 438, 443}
    for answer in answers:
        assert answer.reason == b"" and stun.SOFTWARE not in answer.kinds(), answer


DISCOVERY = [
    (stun.CHANGE_REQUEST, struct.pack("!I", 6)), (stun.PADDING, bytes(1000)), (stun.RESPONSE_PORT, b"\x12\x34\0\0"),
]


@pytest.mark.parametrize("kind, value", DISCOVERY, ids=["CHANGE-REQUEST", "PADDING", "RESPONSE-PORT"])
def test_AM_07_nat_discovery_switched_off_is_420(serve, kind, value):
    server = serve({"nat_discovery": False})
    with server.wire() as wire:
        request = stun.build(stun.BINDING, attributes=[(kind, value)])
        answer = wire.exchange(request)
        assert answer.error == 420 and answer.get(stun.UNKNOWN_ATTRIBUTES) == struct.pack("!H", kind), answer
        assert len(answer.raw) <= len(request) + 8


def test_AM_07_without_a_second_address_it_cannot_be_asked_for_and_padding_is_no_longer_than_the_request(server):
    with server.wire() as wire:
        assert wire.request(stun.BINDING, [DISCOVERY[0]]).error == 420
        for size in (0, 10, 40, 400, 1472, 1500, 20_000):
            request = stun.build(stun.BINDING, attributes=[(stun.PADDING, b"x" * size)])
            answer = wire.exchange(request)
            assert answer.is_success and answer.get(stun.OTHER_ADDRESS) is None
            padding = answer.get(stun.PADDING)
            assert padding is None or len(answer.raw) <= len(request), (size, len(answer.raw))
            # It comes back as long as it went, as far as that makes two fragments of it.
            assert size < 40 or len(answer.raw) >= min(len(request), 1500) - 3
            assert not any(padding or b"")


def test_AM_08_a_response_address_never_redirects_the_answer(server):
    with server.wire() as wire, server.peer("127.0.0.9") as victim:
        value = struct.pack("!xBH4s", 1, victim.address[1], socket.inet_aton(victim.address[0]))
        answer = wire.exchange(stun.build(stun.BINDING, attributes=[(stun.RESPONSE_ADDRESS, value)]))
        assert answer.error == 420
        victim.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            victim.socket.recv(2000)


def ipv4_udp(source, destination, payload):
    """An IPv4 packet with a UDP datagram in it (no UDP checksum, which IPv4 allows)."""
    udp = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + udp


def forty_kinds():
    """Every kind of datagram a server could feel moved to answer."""
    kinds = []
    for method in (stun.BINDING, stun.ALLOCATE, stun.REFRESH, stun.CREATE_PERMISSION, stun.CHANNEL_BIND, 0x0FF):
        for cls in range(4):
            kinds.append(stun.build(method, cls))
        kinds.append(stun.build(method, stun.REQUEST, [(0x7FFF, b"")]))
        kinds.append(stun.build(method, stun.REQUEST, [(stun.USERNAME, b"alice")], key=b"forged"))
    kinds += [b"\x40\x00\x00\x04data", b"\x00", b"", b"\x50" * 30]
    assert len(kinds) == 40
    return kinds


def test_AM_09_two_servers_do_not_answer_each_other_for_ever(serve):
    first, second = serve(start=False), serve(start=False)
    first.start()
    second.start()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for datagram in forty_kinds():
            for source, target in ((second, first), (first, second), (first, first)):
                raw.sendto(ipv4_udp(source.address, target.address, datagram), target.address)
    for server in (first, second):
        with server.wire() as wire:
            # Answers to injected packets are on their way no longer once each server has answered a late request.
            for _ in range(3):
                wire.binding()
        server.stop()
    # 80 packets were put before the first server and 40 before the second; each may have had one answer, which went
    # to the other server. The readiness checks and the fences are a few more.
    assert Totals(first).packets_in <= 80 + 40 + 40 + 50
    assert Totals(second).packets_in <= 40 + 40 + 50


def test_AM_10_relays_pointed_at_each_other_do_not_loop(serve):
    server = serve()
    with server.client() as a, server.client() as b:
        a.allocated()
        b.allocated()
        a.bound(0x4000, b.relayed)
        b.bound(0x4000, a.relayed)
        a.send_channel(0x4000, b"once")
        assert b.receive_data() == (0x4000, b"once")
        assert not a.drain_until_fence() and not b.drain_until_fence()
        # The server's own listener is no peer.
        assert a.channel_bind(0x4001, server.address).error == 403
        a.permitted(server.address)
        a.send_to(server.address, stun.build(stun.BINDING))
        a.send_to(server.address, stun.build(stun.ALLOCATE))
        a.send_to(b.relayed, b"marker")
        assert b.receive_data() == (0x4000, b"marker")
        assert not a.drain_until_fence()
        for client in (a, b):
            client.refresh(0)
    server.stop()
    totals = Totals(server)
    assert totals.packets_in < 100
    totals.assert_balanced()


SERVICE_PORTS = [7, 13, 17, 19, 37, 53, 69, 123, 137, 161, 389, 1900, 11211]


def test_AM_11_requests_from_service_ports_are_met_with_silence(serve):
    server = serve({"workers": 1})
    address = client_address()
    wires = [server.wire(local=(address, port)) for port in SERVICE_PORTS]
    try:
        for wire in wires:
            wire.send(stun.build(stun.ALLOCATE, attributes=ALLOCATE_ATTRIBUTES))
            wire.send(stun.build(stun.BINDING))
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(ipv4_udp((address, 0), server.address, stun.build(stun.BINDING)), server.address)
        # One worker answers in order: after this answer, none to the others is outstanding.
        with server.wire() as fence:
            fence.binding()
        for wire, port in zip(wires, SERVICE_PORTS):
            wire.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                pytest.fail(f"from port {port}: {wire.socket.recv(2000).hex()}")
    finally:
        for wire in wires:
            wire.close()


def test_AM_12_sources_that_are_no_host_are_met_with_silence(serve, namespaces):
    server = serve(hosts=Namespaces.SERVER[:1], namespace=namespaces.server, relays_loopback=False)

    def link_address(namespace):
        text = ip("link", "show", "cable", namespace=namespace).stdout
        return bytes.fromhex(text.split("link/ether ")[1].split()[0].replace(":", ""))

    with inside(namespaces.world):
        ether = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        ether.bind(("cable", 0))
    with ether, server.wire(namespace=namespaces.world) as fence:
        frame = link_address(namespaces.server) + link_address(namespaces.world) + b"\x08\x00"
        sent = []
        for source in ("0.0.0.0", "255.255.255.255", "10.77.0.255", "224.0.0.1", "239.1.2.3", "127.0.0.1",
                       "10.77.0.1", "240.0.0.1"):
            for method in (stun.BINDING, stun.ALLOCATE):
                request = stun.build(method)
                sent.append(request[8:20])
                ether.send(frame + ipv4_udp((source, 40000), server.address, request))
        fence.binding()
        fence.binding()
        ether.setblocking(False)
        while True:
            try:
                packet, origin = ether.recvfrom(2000)
            except BlockingIOError:
                break
            answered = [t for t in sent if t in packet]
            outgoing = origin[2] == socket.PACKET_OUTGOING
            # 240.0.0.1 is reserved, yet Linux routes it; an answer to it goes to the world's default route.
            assert outgoing or not answered or "240.0.0.1" == socket.inet_ntoa(packet[30:34]), packet.hex()


DENIED_PEER_PORTS = [19, 53, 123, 161, 389, 1900, 11211]


@pytest.mark.parametrize("port", [0, *DENIED_PEER_PORTS])
def test_AM_13_no_channel_leads_to_a_service_port(server, port):
    with server.client() as client:
        error = client.allocated().channel_bind(0x4000, ("127.0.0.5", port)).error
        assert error == 403 or port == 0 and error == 400
        client.refresh(0)


@pytest.mark.parametrize("port", DENIED_PEER_PORTS)
def test_AM_13_nothing_is_sent_to_a_service_port_of_a_permitted_peer(server, port):
    with server.client() as client, stunclient.Peer(("127.0.0.5", port)) as reflector, \
            server.peer("127.0.0.5") as peer:
        client.allocated().permitted(peer.address)
        client.send_to(reflector.address, b"reflect this")
        client.send_to(peer.address, b"marker")
        assert peer.receive()[0] == b"marker"
        reflector.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            reflector.socket.recv(2000)
        client.refresh(0)


@pytest.mark.parametrize("port", DENIED_PEER_PORTS)
def test_AM_13_nothing_is_taken_from_a_service_port_of_a_permitted_peer(server, port):
    """The policy holds in both directions."""
    with server.client() as client, stunclient.Peer(("127.0.0.5", port)) as reflector, \
            server.peer("127.0.0.5") as peer:
        client.allocated().permitted(peer.address)
        reflector.send(b"reflected", client.relayed)
        peer.send(b"marker", client.relayed)
        assert client.receive_data() == (peer.address, b"marker")
        client.refresh(0)


def test_AM_14_unvalidated_sources_get_at_most_three_times_their_bytes(server):
    sent = received = 0
    requests = [stun.build(method) for method in (stun.BINDING, stun.ALLOCATE, stun.REFRESH, stun.CREATE_PERMISSION,
                                                  stun.CHANNEL_BIND)]
    requests += [make() for make in eliciting_requests(None).values()]
    requests += [stun.build(stun.BINDING, fingerprint=True), stun.build(stun.ALLOCATE, fingerprint=True),
                 stun.build(stun.BINDING, attributes=[(0x7F00 + n, b"") for n in range(100)])]
    requests += [stun.build(stun.BINDING, attributes=[asked]) for asked in DISCOVERY]
    requests += [datagram for datagram in forty_kinds() if datagram]
    for request in requests:
        with server.wire() as wire:
            wire.send(request)
            answers = wire.drain_until_fence()
            assert len(answers) <= 1
            out = sum(len(answer) + HEADERS for answer in answers)
            assert out <= 3.0 * (len(request) + HEADERS), f"{request.hex()} got {out} bytes"
            sent, received = sent + len(request) + HEADERS, received + out
    assert received / sent <= 3.0
