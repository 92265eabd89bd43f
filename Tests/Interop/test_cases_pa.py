"""Peer address policy, rows PA-01 to PA-42 of the security catalogue, over every path of the relay.

The server runs in a namespace whose default route leads to a second one, so whatever the relay sent would show there.
Requests to denied peers touch nobody: the policy answers them. For what it lets through, the second namespace is all
of the world there is.
"""

import contextlib
import ipaddress
import socket
import struct

import pytest

import harness
import stunwire as stun
from namespaces import Namespaces, inside, ip

NEVER, DENY, ALLOW = "never", "deny", "allow"
PROBE = b"turnpike-policy-probe"
PEER_PORT = 40123

# Row, ranges, rule. What no row names is public.
ROWS = [
    ("PA_01", NEVER, ["0.0.0.0/8"]),
    ("PA_02", DENY, ["10.0.0.0/8"]),
    ("PA_03", DENY, ["100.64.0.0/10"]),
    ("PA_04", NEVER, ["127.0.0.0/8"]),
    ("PA_05", NEVER, ["169.254.0.0/16"]),
    ("PA_06", DENY, ["172.16.0.0/12"]),
    ("PA_07", DENY, ["192.0.0.0/24"]),
    ("PA_08", DENY, ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"]),
    ("PA_09", DENY, ["192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24"]),
    ("PA_10", DENY, ["192.88.99.0/24"]),
    ("PA_11", DENY, ["192.168.0.0/16"]),
    ("PA_12", DENY, ["198.18.0.0/15"]),
    ("PA_13", NEVER, ["224.0.0.0/4"]),
    ("PA_14", NEVER, ["240.0.0.0/4"]),
    ("PA_15", NEVER, ["255.255.255.255/32"]),
    ("PA_16", NEVER, ["168.63.129.16/32", "fd00:ec2::254/128", "fd20:ce::254/128"]),
    ("PA_17", NEVER, ["::/128"]),
    ("PA_18", NEVER, ["::1/128"]),
    ("PA_19", NEVER, ["::ffff:0:0/96"]),
    ("PA_20", NEVER, ["::/96"]),
    ("PA_21", DENY, ["::ffff:0:0:0/96"]),
    ("PA_22", DENY, ["64:ff9b::/104", "64:ff9b::a00:0/104", "64:ff9b::7f00:0/104", "64:ff9b::a9fe:0/112",
                     "64:ff9b::c0a8:0/112", "64:ff9b::ac10:0/108", "64:ff9b::6440:0/106", "64:ff9b::e000:0/99"]),
    ("PA_23", DENY, ["64:ff9b:1::/48"]),
    ("PA_25", DENY, ["100::/64", "100:0:0:1::/64"]),
    ("PA_26", DENY, ["2001::/23"]),
    ("PA_27", NEVER, ["2001::/32"]),
    ("PA_28", DENY, ["2001:1::1/128", "2001:1::2/128", "2001:1::3/128"]),
    ("PA_29", DENY, ["2001:2::/48", "2001:3::/32", "2001:4:112::/48"]),
    ("PA_30", DENY, ["2001:10::/28", "2001:20::/28", "2001:30::/28"]),
    ("PA_31", DENY, ["2001:db8::/32", "3fff::/20"]),
    ("PA_32", NEVER, ["2002::/16"]),
    ("PA_33", DENY, ["2620:4f:8000::/48"]),
    ("PA_34", DENY, ["5f00::/16"]),
    ("PA_35", DENY, ["fc00::/7"]),
    ("PA_36", NEVER, ["fe80::/10"]),
    ("PA_37", NEVER, ["fec0::/10"]),
    ("PA_38", NEVER, ["ff00::/8"]),
]
# Addresses the catalogue names within a row.
EXAMPLES = {
    "PA_03": ["100.100.100.200"],
    "PA_04": ["127.0.0.1", "127.0.0.2", "127.255.255.254"],
    "PA_05": ["169.254.169.254", "169.254.170.2", "169.254.169.253"],
    "PA_06": ["172.17.0.1"],
    "PA_07": ["192.0.0.8", "192.0.0.9", "192.0.0.10", "192.0.0.170", "192.0.0.171", "192.0.0.192"],
    "PA_15": ["10.77.0.255"],
    "PA_19": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:8.8.8.8"],
    "PA_20": ["::127.0.0.1", "::10.0.0.1", "::8.8.8.8"],
    "PA_21": ["::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"],
    "PA_22": ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"],
    "PA_32": ["2002:7f00:1::", "2002:a00:1::", "2002:808:808::1"],
    "PA_36": ["fe80::1"],
}
ISATAP = ["2a00:1450::5efe:7f00:1", "2a00:1450::5efe:a00:1", "2a00:1450::200:5efe:a00:1", "2a00:1450::200:5efe:808:808",
          "2a00:1450::5efe:808:808"]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "192.0.1.1", "172.32.0.1", "100.128.0.0", "11.0.0.0",
          "223.255.255.255", "2003::1", "64:ff9b::808:808"]

NETWORKS = [(ipaddress.ip_network(text), row) for row, _, ranges in ROWS for text in ranges]


def row_of(address):
    """The slow, obvious oracle: the first row with a range that has the address, or None for a public one."""
    value = ipaddress.ip_address(address)
    for network, row in NETWORKS:
        if value.version == network.version and value in network:
            return row
    if value.version == 6 and value in ipaddress.ip_network("64:ff9b::/96"):
        return row_of(str(ipaddress.ip_address(int(value) & 0xFFFFFFFF)))
    if value.version == 6 and int(value) >> 32 & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE):
        return "PA_39"
    return None


def within(row):
    """First, middle and last address of each range, and the examples."""
    addresses = []
    for network, name in NETWORKS:
        if name == row:
            first, last = int(network[0]), int(network[-1])
            addresses += [str(type(network[0])(value)) for value in (first, (first + last) // 2, last)]
    return list(dict.fromkeys(addresses + EXAMPLES.get(row, [])))


def neighbours(row):
    """The addresses just outside each range, where those are public."""
    addresses = []
    for network, name in NETWORKS:
        if name != row:
            continue
        kind = type(network[0])
        for value in (int(network[0]) - 1, int(network[-1]) + 1):
            if 0 <= value < 1 << network.max_prefixlen:
                address = str(kind(value))
                if row_of(address) is None:
                    addresses.append(address)
    return addresses


@pytest.fixture(scope="module")
def fenced(serve_module, namespaces_module):
    return serve_module(
        {"limits": {"allocations_per_user": 1000, "permissions_per_allocation": 1000,
                    "unauthenticated_replies_per_second": 100_000}},
        hosts=Namespaces.SERVER, namespace=namespaces_module.server, relays_loopback=False,
    )


@pytest.fixture(scope="module")
def allocations(fenced, namespaces_module):
    """One allocation of each family, by version, from another host."""
    made = {}
    for version, family in ((4, stun.IPV4), (6, stun.IPV6)):
        made[version] = fenced.client(namespace=namespaces_module.world)
        made[version].allocated((stun.REQUESTED_ADDRESS_FAMILY, family))
    yield made
    for client in made.values():
        client.refresh(0)
        client.close()


class Watch:
    """Sees every datagram that leaves or loops in the server's namespace, but for those between clients and server."""

    def __init__(self, server):
        self.server = server
        with inside(server.namespace):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    def probes(self):
        """Datagrams with the probe's payload that are not addressed to the server's own listener."""
        self.socket.setblocking(False)
        found = []
        while True:
            try:
                packet = self.socket.recv(65535)
            except BlockingIOError:
                return found
            if PROBE not in packet:
                continue
            udp = 20 if packet[0] >> 4 == 4 else 40
            if struct.unpack_from("!H", packet, udp + 2)[0] != self.server.port:
                found.append(packet)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def allocation_for(allocations, address):
    return allocations[ipaddress.ip_address(address).version]


# A peer keeps its channel: rows share neighbours, and two channels to one peer would be refused.
_channels = {}


def assert_denied(server, allocations, addresses, codes=(403,)):
    with Watch(server) as watch:
        for address in addresses:
            client = allocation_for(allocations, address)
            peer = (address, PEER_PORT)
            answer = client.create_permission(peer)
            assert answer.error in codes, f"CreatePermission {address}: {answer.error}"
            answer = client.channel_bind(0x4FFF, peer)
            assert answer.error in codes, f"ChannelBind {address}: {answer.error}"
            client.send_to(peer, PROBE)
            client.send_channel(0x4FFF, PROBE)
            assert not client.drain_until_fence(), f"Send to {address} was answered"
        assert not watch.probes(), "a probe left the server"


def assert_allowed(allocations, addresses):
    for address in addresses:
        client = allocation_for(allocations, address)
        answer = client.create_permission((address, PEER_PORT))
        assert answer.is_success, f"CreatePermission {address}: {answer.error}"
        answer = client.channel_bind(_channels.setdefault(address, 0x4000 + len(_channels)), (address, PEER_PORT))
        assert answer.is_success, f"ChannelBind {address}: {answer.error}"


NAMES = {
    "PA_01": "this_network", "PA_02": "ten_slash_eight", "PA_03": "carrier_grade_nat", "PA_04": "loopback",
    "PA_05": "link_local_and_metadata", "PA_06": "one_seventy_two_sixteen", "PA_07": "ietf_assignments",
    "PA_08": "documentation", "PA_09": "as112_and_amt", "PA_10": "six_to_four_anycast", "PA_11": "one_ninety_two_168",
    "PA_12": "benchmarking", "PA_13": "multicast", "PA_14": "reserved", "PA_15": "broadcast",
    "PA_16": "platform_endpoints", "PA_17": "ipv6_unspecified", "PA_18": "ipv6_loopback", "PA_19": "v4_mapped",
    "PA_20": "v4_compatible", "PA_21": "v4_translated", "PA_22": "nat64_of_a_private_address",
    "PA_23": "nat64_local_use", "PA_25": "discard_and_dummy", "PA_26": "ietf_protocol", "PA_27": "teredo",
    "PA_28": "anycast_services", "PA_29": "ipv6_benchmarking_amt_as112", "PA_30": "orchid_and_det",
    "PA_31": "ipv6_documentation", "PA_32": "six_to_four", "PA_33": "ipv6_as112", "PA_34": "srv6",
    "PA_35": "unique_local", "PA_36": "ipv6_link_local", "PA_37": "site_local", "PA_38": "ipv6_multicast",
}


def _make_row_test(row):
    def test(fenced, allocations):
        addresses = within(row)
        assert len(addresses) >= 1 and all(row_of(a) for a in addresses)
        # A mapped address is refused as malformed or as denied; both keep it out.
        assert_denied(fenced, allocations, addresses, (400, 403) if row == "PA_19" else (403,))
        outside = neighbours(row)
        assert_allowed(allocations, outside)

    test.__name__ = f"test_{row}_{NAMES[row]}_is_denied_and_its_neighbours_are_not"
    return test


for _row, _rule, _ranges in ROWS:
    _test = _make_row_test(_row)
    globals()[_test.__name__] = _test
del _test


def test_PA_39_isatap_is_denied(fenced, allocations):
    assert_denied(fenced, allocations, ISATAP)


def test_PA_42_public_addresses_are_allowed(allocations):
    assert all(row_of(address) is None for address in PUBLIC)
    assert_allowed(allocations, PUBLIC)


def test_PA_40_a_range_off_prefix_borders_is_compared_as_numbers(serve, namespaces):
    low, high = "2a00:1::ff", "2a00:2::1"
    server = serve({"relay": {"deny_peers": [f"{low}-{high}", "9.9.9.250-9.9.10.5"]}}, hosts=Namespaces.SERVER,
                   namespace=namespaces.server, relays_loopback=False)
    with contextlib.ExitStack() as stack:
        made = {}
        for version, family in ((4, stun.IPV4), (6, stun.IPV6)):
            made[version] = stack.enter_context(server.client(namespace=namespaces.world))
            made[version].allocated((stun.REQUESTED_ADDRESS_FAMILY, family))
        assert_denied(server, made, [low, high, "2a00:1::100", "2a00:1:ffff::", "2a00:2::", "2a00:1:0:0:8000::",
                                     "9.9.9.250", "9.9.10.0", "9.9.10.5", "9.9.9.255"])
        assert_allowed(made, ["2a00:1::fe", "2a00:2::2", "2a00:1::", "2a00:2::ff", "9.9.9.249", "9.9.10.6"])
        for client in made.values():
            client.refresh(0)


def behind(prefix, length, inside):
    """The IPv6 address by which a translator reaches an IPv4 one (RFC 6052 section 2.2)."""
    bits = f"{int(ipaddress.ip_address(prefix)):0128b}"[:length] + f"{int(ipaddress.ip_address(inside)):032b}"
    if length < 96:
        bits = bits[:64] + "0" * 8 + bits[64:]
    return str(ipaddress.ip_address(int(bits.ljust(128, "0"), 2)))


def test_PA_24_peers_behind_the_operators_translators_are_judged_by_what_is_inside(serve, namespaces):
    prefixes = {"2600:32::": 32, "2600:40:100::": 40, "2600:48:1::": 48, "2600:56:1:100::": 56, "2600:64:1:1::": 64,
                "2600:96:1:1::": 96, "fd64:ff9b::": 96}
    server = serve({"relay": {"nat64_prefixes": [f"{prefix}/{length}" for prefix, length in prefixes.items()]}},
                   hosts=Namespaces.SERVER, namespace=namespaces.server, relays_loopback=False)
    with server.client(namespace=namespaces.world) as client:
        made = {6: client.allocated((stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6))}
        denied = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "255.255.255.255",
                  Namespaces.SERVER[0]]
        for prefix, length in prefixes.items():
            assert_denied(server, made, [behind(prefix, length, inside) for inside in denied])
            assert_allowed(made, [behind(prefix, length, inside) for inside in ("8.8.8.8", "1.1.1.1")])
        # Without being named, such a prefix is a range like any other.
        assert_allowed(made, [behind("2600:33::", 32, "10.0.0.1")])
        assert_denied(server, made, [behind("64:ff9b::", 96, "10.0.0.1")])
        client.refresh(0)


def test_PA_41_the_own_host_is_denied_but_for_live_relay_ports(fenced, allocations, namespaces_module):
    # A second address of the server's host, on which it does not listen.
    world = namespaces_module.world
    for version, own in ((4, Namespaces.SERVER[0]), (6, Namespaces.SERVER[1])):
        client = allocations[version]
        for port in (fenced.port, 22, 40000):
            answer = client.channel_bind(0x4FFE, (own, port))
            assert answer.error == 403, f"{own}:{port}: {answer}"
    with Watch(fenced) as watch:
        for version, own in ((4, Namespaces.SERVER[0]), (6, Namespaces.SERVER[1])):
            client = allocations[version]
            client.create_permission((own, 1))
            for port in (fenced.port, 40000):
                client.send_to((own, port), PROBE)
            assert not client.drain_until_fence()
        assert not watch.probes()
    with fenced.client(namespace=world) as other:
        other.allocated()
        # 10.77.0.0/24 is private: relay to relay works with no rule for it, by the live port alone.
        allocations[4].bound(0x4FFD, other.relayed)
        other.bound(0x4000, allocations[4].relayed)
        allocations[4].send_channel(0x4FFD, b"relay to relay")
        assert other.receive_data() == (0x4000, b"relay to relay")
        other.send_channel(0x4000, b"and back")
        assert allocations[4].receive_data() == (0x4FFD, b"and back")
        gone = other.relayed
        assert other.refresh(0).is_success
    with Watch(fenced) as watch:
        allocations[4].send_channel(0x4FFD, PROBE)
        assert not allocations[4].drain_until_fence()
        assert not watch.probes(), "data went to a port that is live no longer"
    assert allocations[4].channel_bind(0x4FFD, gone).error == 403


def test_PA_41_an_address_added_later_is_the_own_host_too(serve, namespaces):
    server = serve({"relay": {"allow_peers": ["10.0.0.0/8"]}}, hosts=Namespaces.SERVER[:1],
                   namespace=namespaces.server, relays_loopback=False)
    with server.client(namespace=namespaces.world) as client:
        client.allocated()
        assert client.channel_bind(0x4000, ("10.99.0.1", 9999)).is_success
        namespaces.add_address(namespaces.server, "10.99.0.1/32")
        with server.peer("10.99.0.1") as own, server.client(namespace=namespaces.world) as other:
            other.allocated()
            harness.wait_until(lambda: other.channel_bind(0x4001, own.address).error == 403, 10,
                               "the new address is known")
            own.send(b"from the own host", client.relayed)
            client.send_channel(0x4000, PROBE)
            assert not client.drain_until_fence()
            own.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                own.socket.recv(100)


# Where the world's namespace can send from an address of a row, the inbound path is tried with real datagrams.
INBOUND_DENY = [
    "10.1.2.3", "100.100.100.200", "172.17.0.1", "192.0.0.10", "192.0.2.7", "198.51.100.7", "203.0.113.7",
    "192.31.196.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "100::1",
    "2001:1::1", "2001:2::1", "2001:20::1", "2001:db8::1", "3fff::1", "2620:4f:8000::1", "5f00::1", "fd12::1",
]
INBOUND_NEVER = ["169.254.169.254", "240.0.0.1", "168.63.129.16", "2002:808:808::1", "2001:0:5ef5::1", "fec0::1",
                 "fd00:ec2::254", "fd20:ce::254"]
INBOUND_PUBLIC = ["8.8.8.8", "2606:4700::1111"]


def _allocate_both(server, stack, world):
    made = {}
    for version, family in ((4, stun.IPV4), (6, stun.IPV6)):
        made[version] = stack.enter_context(server.client(namespace=world))
        made[version].allocated((stun.REQUESTED_ADDRESS_FAMILY, family))
    return made


def test_PA_inbound_from_denied_sources_is_dropped_as_soon_as_the_policy_says_so(serve, namespaces):
    """Every private range is opened, proven to be relayed in both directions, and closed again by a reload."""
    opened = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24",
              "203.0.113.0/24", "192.31.196.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
              "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001:1::/32", "2001:2::/48", "2001:20::/28",
              "2001:db8::/32", "3fff::/20", "2620:4f:8000::/48", "5f00::/16", "fd12::/16"]
    server = serve({"relay": {"allow_peers": opened}}, hosts=Namespaces.SERVER, namespace=namespaces.server,
                   relays_loopback=False)
    for address in INBOUND_DENY + INBOUND_PUBLIC:
        namespaces.add_address(namespaces.world, address + ("/128" if ":" in address else "/32"))
    with contextlib.ExitStack() as stack:
        made = _allocate_both(server, stack, namespaces.world)
        peers = {a: stack.enter_context(server.peer(a, namespaces.world)) for a in INBOUND_DENY + INBOUND_PUBLIC}
        channel = 0x4000
        for number, (address, peer) in enumerate(peers.items()):
            client = allocation_for(made, address)
            client.permitted(peer.address)
            if number % 2:
                client.bound(channel + number, peer.address)
            peer.send(b"in", client.relayed)
            assert client.receive_data()[1] == b"in", address
            client.send_to(peer.address, b"out")
            assert peer.receive()[0] == b"out", address
        server.config["relay"]["allow_peers"] = []
        server.write_config()
        server.process.send_signal(harness.signal.SIGHUP)
        first = peers[INBOUND_DENY[0]]
        harness.wait_until(lambda: made[4].create_permission(first.address).error == 403, 5, "the new policy holds")
        harness.wait_until(lambda: made[6].create_permission(peers["fd12::1"].address).error == 403, 5,
                           "the new policy holds for IPv6")
        with Watch(server) as watch:
            for number, (address, peer) in enumerate(peers.items()):
                if address in INBOUND_PUBLIC:
                    continue
                client = allocation_for(made, address)
                peer.send(b"closed", client.relayed)
                client.send_to(peer.address, PROBE)
                if number % 2:
                    client.send_channel(channel + number, PROBE)
            # The markers come on the same relay sockets, so they come last.
            for address in INBOUND_PUBLIC:
                client = allocation_for(made, address)
                peers[address].send(b"marker", client.relayed)
                assert client.receive_data()[1] == b"marker"
                assert not client.drain_until_fence()
            assert not watch.probes()


def test_PA_inbound_from_sources_that_can_never_be_peers_is_dropped(fenced, allocations, namespaces_module):
    world = namespaces_module.world
    for address in INBOUND_NEVER + ["1.2.3.4", "2606:4700::2222"]:
        namespaces_module.add_address(world, address + ("/128" if ":" in address else "/32"))
    with contextlib.ExitStack() as stack:
        for address in INBOUND_NEVER:
            client = allocation_for(allocations, address)
            peer = stack.enter_context(fenced.peer(address, world))
            assert client.create_permission(peer.address).error == 403
            peer.send(b"never", client.relayed)
        for address in ("1.2.3.4", "2606:4700::2222"):
            client = allocation_for(allocations, address)
            peer = stack.enter_context(fenced.peer(address, world))
            client.permitted(peer.address)
            peer.send(b"marker", client.relayed)
            assert client.receive_data()[1] == b"marker"


def test_PA_15_a_directed_broadcast_address_is_denied_though_its_range_is_allowed(serve, namespaces):
    ip("addr", "add", "10.78.0.1/24", "broadcast", "10.78.0.255", "dev", "cable", namespace=namespaces.server)
    server = serve({"relay": {"allow_peers": ["10.0.0.0/8"]}}, hosts=Namespaces.SERVER[:1],
                   namespace=namespaces.server, relays_loopback=False)
    with server.client(namespace=namespaces.world) as client:
        made = {4: client.allocated()}
        assert_denied(server, made, ["10.78.0.255"])
        assert_allowed(made, ["10.78.0.254", "10.77.0.2"])
        client.refresh(0)


def test_PA_deny_wins_over_allow(serve, namespaces):
    server = serve({"relay": {"allow_peers": ["10.0.0.0/8"], "deny_peers": ["10.5.0.0/16", "8.8.4.0/24"]}},
                   hosts=Namespaces.SERVER[:1], namespace=namespaces.server, relays_loopback=False)
    with server.client(namespace=namespaces.world) as client:
        made = {4: client.allocated()}
        assert_denied(server, made, ["10.5.0.0", "10.5.77.1", "10.5.255.255", "8.8.4.4"])
        assert_allowed(made, ["10.4.255.255", "10.6.0.0", "8.8.8.8"])
        client.refresh(0)
