"""RFC 5780: whence the answers come, and what clients learn from them behind every kind of NAT."""

import re
import socket
import struct
import subprocess

import pytest

import kernelnats
import natlab
import stunclient
import stunwire as stun
from harness import START_SECONDS, client_address, endpoint, free_port, wait_until
from namespaces import Namespaces, inside
from natlab import NATLab
from totals import Totals

CHANGE_ADDRESS, CHANGE_PORT = 4, 2
FLAGS = (None, 0, CHANGE_ADDRESS, CHANGE_PORT, CHANGE_ADDRESS | CHANGE_PORT)
SECOND = ("10.77.0.9", "fd77::9")
IPV4_HEADERS, IPV6_HEADERS = 28, 48


class Prober:
    """A socket that takes answers from anywhere, and says where they came from."""

    PATIENCE_SECONDS = 5.0

    def __init__(self, local, namespace=None):
        with inside(namespace):
            self.socket = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((local, 0))
        self.local = self.socket.getsockname()[:2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, server, *attributes):
        request = stun.build(stun.BINDING, attributes=attributes)
        self.socket.sendto(request, server)
        return request

    def receive(self, request, timeout=None):
        """The answer and its source, or None when none comes."""
        self.socket.settimeout(timeout or self.PATIENCE_SECONDS)
        while True:
            try:
                datagram, source = self.socket.recvfrom(65535)
            except TimeoutError:
                return None
            answer = stun.Message.parse(datagram)
            # One that was late belongs to another question.
            if answer.transaction == request[8:20]:
                return answer, source[:2]

    def ask(self, server, flags=None, *attributes):
        changes = [] if flags is None else [(stun.CHANGE_REQUEST, struct.pack("!I", flags))]
        return self.receive(self.send(server, *changes, *attributes))


def assert_every_combination_answers(prober, first, second, mapped=None):
    """RFC 5780 section 6.1, Table 1, from each of the four places."""
    mapped = mapped or prober.local
    for da, ca in ((first[0], second[0]), (second[0], first[0])):
        for dp, cp in ((first[1], second[1]), (second[1], first[1])):
            for flags in FLAGS:
                answer, source = prober.ask((da, dp), flags)
                changes = flags or 0
                wanted = (ca if changes & CHANGE_ADDRESS else da, cp if changes & CHANGE_PORT else dp)
                assert source == wanted, f"{(da, dp)} with {flags} answered from {source}"
                assert answer.kinds() == [stun.XOR_MAPPED_ADDRESS, stun.MAPPED_ADDRESS, stun.RESPONSE_ORIGIN,
                                          stun.OTHER_ADDRESS]
                assert answer.address(stun.XOR_MAPPED_ADDRESS) == answer.plain_address(stun.MAPPED_ADDRESS) == mapped
                assert answer.plain_address(stun.RESPONSE_ORIGIN) == source
                assert answer.plain_address(stun.OTHER_ADDRESS) == (ca, cp)


def announcement(server):
    """The line that says what the server listens on. It answers before that, and takes signals from then on."""
    return wait_until(lambda: next((entry for entry in server.log_entries() if "serves" in entry["message"]), None),
                      START_SECONDS, "a line that says what it listens on")


@pytest.fixture
def pair(serve):
    """A server on loopback with two addresses and two ports."""
    server = serve({"listen": {"alternate": [f"127.0.0.2:{free_port('127.0.0.2')}"]}})
    server.first = ("127.0.0.1", server.port)
    server.second = ("127.0.0.2", int(server.config["listen"]["alternate"][0].rsplit(":", 1)[1]))
    return server


def test_all_combinations_answer_on_loopback(pair):
    with Prober(client_address()) as prober:
        assert_every_combination_answers(prober, pair.first, pair.second)
    entry = announcement(pair)
    for address in (pair.first, pair.second):
        for port in (pair.first[1], pair.second[1]):
            assert f"udp {address[0]}:{port}" in str(entry), entry
    assert endpoint(*pair.second) in str(entry["alternate"])


@pytest.mark.parametrize("is_wildcard", [False, True], ids=["specific", "wildcard"])
def test_all_combinations_answer_in_both_families(serve, namespaces, is_wildcard):
    for address in SECOND:
        namespaces.add_address(namespaces.server, address + ("/64" if ":" in address else "/24"))
    server = serve({"workers": 3, "listen": {"alternate": [endpoint(host, 3479) for host in SECOND]}},
                   hosts=("0.0.0.0", "::") if is_wildcard else Namespaces.SERVER, port=3478,
                   namespace=namespaces.server, relays_loopback=False)
    for first, second, world in zip(Namespaces.SERVER, SECOND, Namespaces.WORLD):
        # Each socket of the client meets a worker of the kernel's choice.
        for _ in range(3):
            with Prober(world, namespaces.world) as prober:
                assert_every_combination_answers(prober, (first, 3478), (second, 3479))
    # Every packet is accounted for.
    announcement(server)
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    assert totals.outcomes["stun_handled"] >= 2 * 3 * 4 * len(FLAGS) and not any(totals.dropped.values())


def test_all_combinations_answer_by_tcp_and_cannot_be_changed(pair):
    places = [(address, port) for address in (pair.first[0], pair.second[0])
              for port in (pair.first[1], pair.second[1])]
    for place, other in zip(places, reversed(places)):
        with stunclient.Stream(place, (client_address(), 0)) as stream:
            answer = stream.request(stun.BINDING)
            assert answer.plain_address(stun.RESPONSE_ORIGIN) == place
            assert answer.plain_address(stun.OTHER_ADDRESS) == other
            for asked in ((stun.CHANGE_REQUEST, bytes(4)), (stun.RESPONSE_PORT, b"\x12\x34\0\0")):
                assert stream.request(stun.BINDING, [asked]).error == 420


def test_behind_one_to_one_nat_the_outside_addresses_are_named(serve, namespaces):
    inner = (Namespaces.SERVER[0], SECOND[0])
    namespaces.add_address(namespaces.server, inner[1] + "/24")
    outer = ("203.0.113.10", "203.0.113.11")
    server = serve({"listen": {"alternate": [f"{inner[1]}:3479"]},
                    "external_address": [f"{public}/{private}" for public, private in zip(outer, inner)]},
                   hosts=inner[:1], port=3478, namespace=namespaces.server, relays_loopback=False)
    with Prober(Namespaces.WORLD[0], namespaces.world) as prober:
        answer, source = prober.ask((inner[0], server.port), CHANGE_ADDRESS)
        assert source == (inner[1], 3478)
        assert answer.plain_address(stun.RESPONSE_ORIGIN) == (outer[1], 3478)
        assert answer.plain_address(stun.OTHER_ADDRESS) == (outer[1], 3479)


def test_with_one_address_and_two_ports_the_port_can_be_changed(serve):
    second = free_port()
    server = serve(start=False)
    server.write_config({"listen": {"udp": [f"127.0.0.1:{server.port}", f"127.0.0.1:{second}"]}})
    server.start()
    with Prober(client_address()) as prober:
        answer, source = prober.ask(server.address, CHANGE_PORT)
        assert source == ("127.0.0.1", second) == answer.plain_address(stun.RESPONSE_ORIGIN)
        assert answer.get(stun.OTHER_ADDRESS) is None
        for flags in (CHANGE_ADDRESS, CHANGE_ADDRESS | CHANGE_PORT):
            answer, source = prober.ask(server.address, flags)
            assert answer.error == 420 and source == server.address
        assert len(prober.ask(server.address)[0].raw) == 32


# What it must not be used for


def test_AM_08_a_response_port_changes_nothing_but_the_port(pair):
    address = client_address()
    with Prober(address) as asking, Prober(address) as waiting:
        port = (stun.RESPONSE_PORT, struct.pack("!H2x", waiting.local[1]))
        request = asking.send(pair.first, port, (stun.CHANGE_REQUEST, struct.pack("!I", CHANGE_ADDRESS)))
        answer, source = waiting.receive(request)
        assert source == (pair.second[0], pair.first[1])
        # The mapping told is the asker's, whose own socket hears nothing.
        assert answer.address(stun.XOR_MAPPED_ADDRESS) == asking.local
        fence = asking.ask(pair.first)
        assert fence[0].is_success


@pytest.mark.parametrize("port", [0, 7, 19, 53, 123, 161, 389, 1900, 11211])
def test_AM_11_no_answer_is_sent_to_a_service(pair, port):
    with Prober(client_address()) as prober:
        answer, _ = prober.ask(pair.first, None, (stun.RESPONSE_PORT, struct.pack("!H2x", port)))
        assert answer.error == 403 and len(answer.raw) == 28


def test_AM_09_no_answer_is_sent_to_a_listener_of_ours(pair):
    for own, other in ((pair.first, pair.second), (pair.second, pair.first)):
        with Prober(own[0]) as prober:
            for port in (pair.first[1], pair.second[1]):
                answer, _ = prober.ask(other, None, (stun.RESPONSE_PORT, struct.pack("!H2x", port)))
                assert answer.error == 403


def test_AM_07_padding_for_another_port_is_400(pair):
    with Prober(client_address()) as prober:
        answer, _ = prober.ask(pair.first, None, (stun.RESPONSE_PORT, b"\x12\x34\0\0"), (stun.PADDING, bytes(100)))
        assert answer.error == 400


def test_AM_14_no_request_gets_more_than_three_times_its_bytes(serve, namespaces):
    for address in SECOND:
        namespaces.add_address(namespaces.server, address + ("/64" if ":" in address else "/24"))
    serve({"listen": {"alternate": [endpoint(host, 3479) for host in SECOND]}}, hosts=Namespaces.SERVER, port=3478,
          namespace=namespaces.server, relays_loopback=False)
    for host, world, headers in zip(Namespaces.SERVER, Namespaces.WORLD, (IPV4_HEADERS, IPV6_HEADERS)):
        with Prober(world, namespaces.world) as prober:
            for flags in FLAGS:
                for padding in (None, 0, 40, 1500, 1501, 60_000):
                    attributes = [] if padding is None else [(stun.PADDING, bytes(padding))]
                    if flags is not None:
                        attributes.append((stun.CHANGE_REQUEST, struct.pack("!I", flags)))
                    request = prober.send((host, 3478), *attributes)
                    answer, _ = prober.receive(request)
                    assert answer.is_success
                    assert len(answer.raw) + headers <= 3.0 * (len(request) + headers)
                    if answer.get(stun.PADDING) is not None:
                        assert len(answer.raw) <= len(request)
                    # Longer than the cable takes in one piece: it came in fragments, as it went.
                    assert (padding or 0) < 1500 or len(answer.raw) + headers > 1500


# What an operator can write wrong


@pytest.mark.parametrize("alternate, told", [
    ("203.0.113.99:3479", "is no address of this machine"), ("0.0.0.0:3479", "is no single address"),
    ("127.0.0.1:3479", "name a second address"), ("127.0.0.2:SAME", "choose a second port"),
    ("[::1]:3479", "no IPv6 listener"),
])
def test_a_second_address_that_cannot_serve_stops_the_start_and_says_why(serve, alternate, told):
    server = serve({"relay": {"allow_loopback_peers": False}}, start=False)
    server.write_config({"listen": {"alternate": [alternate.replace("SAME", str(server.port))]}})
    server.launch()
    status = server.process.wait(15)
    assert status in (1, 78) and told in server.log() and "listen.alternate" in server.log(), server.log()
    server.process = None


# Clients behind NATs


class Discovery:
    """What a client learns by the tests of RFC 5780 sections 4.3 and 4.4. Waits are short where silence is an
    answer."""

    SILENCE_SECONDS = 1.0

    def __init__(self, site):
        self.site = site

    def mapping(self):
        with Prober(self.site.address, self.site.client) as prober:
            first = (natlab.SERVER[0], 3478)
            answer, _ = prober.ask(first)
            other = answer.plain_address(stun.OTHER_ADDRESS)
            one = answer.address(stun.XOR_MAPPED_ADDRESS)
            if one == prober.local:
                return "none"
            two = prober.ask((other[0], first[1]))[0].address(stun.XOR_MAPPED_ADDRESS)
            if one == two:
                return "endpoint-independent"
            three = prober.ask(other)[0].address(stun.XOR_MAPPED_ADDRESS)
            return "address-dependent" if two == three else "address-and-port-dependent"

    def filtering(self):
        # A socket that has sent nothing before: what it has sent opens the way for answers.
        with Prober(self.site.address, self.site.client) as prober:
            first = (natlab.SERVER[0], 3478)
            assert prober.ask(first)[0].is_success
            for flags, found in ((CHANGE_ADDRESS | CHANGE_PORT, "endpoint-independent"),
                                 (CHANGE_PORT, "address-dependent")):
                request = prober.send(first, (stun.CHANGE_REQUEST, struct.pack("!I", flags)))
                if prober.receive(request, self.SILENCE_SECONDS):
                    return found
            return "address-and-port-dependent"


FOUND = {
    "none": ("none", "endpoint-independent"),
    "firewall": ("none", "address-and-port-dependent"),
    "full-cone": ("endpoint-independent", "endpoint-independent"),
    "address-restricted": ("endpoint-independent", "address-dependent"),
    "port-restricted": ("endpoint-independent", "address-and-port-dependent"),
    "remapping": ("endpoint-independent", "address-and-port-dependent"),
    "address-dependent": ("address-dependent", "address-and-port-dependent"),
    "symmetric": ("address-and-port-dependent", "address-and-port-dependent"),
    "sequential": ("address-and-port-dependent", "address-and-port-dependent"),
    "chunked": ("address-and-port-dependent", "address-and-port-dependent"),
    "turning-round": ("endpoint-independent", "endpoint-independent"),
}
# They map and filter as "port-restricted" does, or let no datagram out.
OTHERS = {"short-lived", "rejecting", "remembering", "no-udp", "https-only"}
# As turnutils_natdiscovery names them.
MAPPING = {
    "none": "No NAT! (Endpoint Independent Mapping)",
    "endpoint-independent": "NAT with Endpoint Independent Mapping!",
    "address-and-port-dependent": "NAT with Address and Port Dependent Mapping!",
}
FILTERING = {
    "endpoint-independent": "NAT with Endpoint Independent Filtering!",
    "address-dependent": "NAT with Address Dependent Filtering!",
    "address-and-port-dependent": "NAT with Address and Port Dependent Filtering!",
}


def serve_lab(serve, lab):
    return serve({"listen": {"alternate": [f"{natlab.SERVER[1]}:3479"]}}, hosts=("0.0.0.0",), port=3478,
                 namespace=lab.server, relays_loopback=False)


def natdiscovery(site, *arguments):
    done = subprocess.run(
        ["ip", "netns", "exec", site.client, "turnutils_natdiscovery", *arguments, "-L", site.address,
         natlab.SERVER[0]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def nats(serve_module):
    """One server, and a client behind each kind of NAT."""
    with NATLab(*FOUND) as lab:
        serve_lab(serve_module, lab)
        yield {site.kind: site for site in lab.sites}


def test_every_kind_of_nat_has_its_expectation():
    assert set(FOUND) | OTHERS == {"none", *kernelnats.KINDS}


@pytest.mark.parametrize("kind", FOUND)
def test_a_client_finds_out_how_its_nat_maps_and_filters(nats, kind):
    discovery = Discovery(nats[kind])
    assert (discovery.mapping(), discovery.filtering()) == FOUND[kind]


# It takes OTHER-ADDRESS from the second answer, which names the first address (section 6.1, Table 1), for its third
# question, and so cannot see a mapping that is the same for the ports of one address. The others that it is spared are
# no others to it.
@pytest.mark.parametrize("kind", [kind for kind in FOUND if kind not in (
    "address-dependent", "sequential", "chunked", "turning-round")])
def test_turnutils_natdiscovery_finds_out_how_its_nat_maps_and_filters(nats, kind):
    mapping, filtering = FOUND[kind]
    text = natdiscovery(nats[kind], "-m")
    assert MAPPING[mapping] in text and (mapping == "none" or "No NAT!" not in text), text
    # Without a NAT it goes on, and finds that the mapping is always the same.
    told = [line for line in text.splitlines() if line.startswith("NAT with")]
    assert told == [MAPPING["endpoint-independent" if mapping == "none" else mapping]], text
    text = natdiscovery(nats[kind], "-f")
    assert [line for line in text.splitlines() if line.startswith("NAT with")] == [FILTERING[filtering]], text
    assert "ALG detected" not in text


def test_turnutils_natdiscovery_gets_fragments_back_for_fragments(nats):
    text = natdiscovery(nats["full-cone"], "-m", "-f", "-P")
    assert MAPPING["endpoint-independent"] in text and FILTERING["endpoint-independent"] in text, text


@pytest.mark.parametrize("seconds, answers", [(1, 2), (4, 1)], ids=["alive", "expired"])
def test_a_client_finds_out_how_long_its_mapping_lives(serve, seconds, answers):
    """RESPONSE-PORT, from a second socket to the mapping of the first; the NAT forgets after two seconds."""
    with NATLab("port-restricted") as lab:
        serve_lab(serve, lab)
        kernelnats.set_kernel(lab.sites[0].router, "net.netfilter.nf_conntrack_udp_timeout", 2)
        text = natdiscovery(lab.sites[0], "-t", "-T", str(seconds))
        assert len(re.findall(r"RFC 5780 response", text)) == answers, text
        assert ("timeout" in text) == (answers == 1), text
