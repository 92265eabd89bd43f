"""The two laboratories of NATs against each other: by the same name, a NAT of real kernels is the virtual one."""

import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import harness
import networkbox
import pytest
from namespaces import inside, run
from natlab import SERVER, NATLab
from peertool import report, servers
from test_peer_netcheck import NAMES

HOST = SERVER[0]
PROFILES = ("full-cone", "address-restricted", "port-restricted", "remapping", "counting", "address-dependent",
            "symmetric", "sequential", "sequential-down", "chunked", "carrier-grade", "hairpin", "short-lived",
            "rejecting", "many-addresses")
DOUBLE = {
    "port-restricted/chunked": "Symmetric", "box:full-cone/box:address-restricted": "Restricted",
    "symmetric/box:full-cone": "Symmetric",
}


@pytest.fixture(scope="module")
def virtual():
    return networkbox.verdicts()


@pytest.fixture(scope="module")
def found(serve_module):
    """What netcheck says, by kind. It waits more than it works, so a few run at a time."""
    kinds = [f"box:{name}" for name in PROFILES] + list(DOUBLE)
    with NATLab(*kinds) as lab:
        listen = {"alternate": [f"{SERVER[1]}:3479"]}
        serve_module({"listen": listen}, hosts=("0.0.0.0",), port=3478, namespace=lab.server, relays_loopback=False)
        environment = servers(f"turn:{HOST}:3478?transport=udp", stun=f"stun:{HOST}:3478")

        def check(site):
            # On a machine that does other things too, what is not answered in time is said to be unknown: no verdict.
            for _ in range(4):
                answer, status = report("netcheck", environment=environment, namespace=site.client)
                assert status == 0 and answer["works"], answer
                nat = answer["ipv4"]
                knows_hairpin = nat["hairpin"] is not None or nat["mapping"] != "endpoint-independent"
                if knows_hairpin and all(nat[key] for key in ("natType", "mapping", "filtering", "portAllocation")):
                    break
            return site.kind, nat

        with ThreadPoolExecutor(3) as threads:
            yield dict(threads.map(check, lab.sites))


def test_every_profile_of_the_virtual_lab_is_tried_here(virtual):
    # "random" is another word for "symmetric".
    assert set(virtual) - set(PROFILES) == {"random"}
    assert virtual["random"] == virtual["symmetric"]


def kind(verdict):
    return verdict["name"], code(verdict["mapping"]), code(verdict["filtering"])


def code(word):
    """addressAndPortDependent: address-and-port-dependent"""
    return "".join("-" + letter.lower() if letter.isupper() else letter for letter in word)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_is_said_of_a_nat_in_both_labs(found, virtual, profile):
    real, expected = found[f"box:{profile}"], virtual[profile]
    assert (real["natType"], real["mapping"], real["filtering"]) == kind(expected), real
    assert real["hairpin"] == expected.get("hairpin"), real
    assert (real["portAllocation"], real["portStep"]) == (expected.get("allocation"), expected.get("step")), real


@pytest.mark.parametrize("profile", [name for name in PROFILES if name in NAMES])
def test_what_netcheck_says_of_a_nat_of_the_kernels_is_said_in_the_virtual_lab(virtual, profile):
    # The first half of this is in test_peer_netcheck.py.
    assert NAMES[profile] == kind(virtual[profile])


@pytest.mark.parametrize("kinds", DOUBLE)
def test_of_two_nats_the_stricter_gives_the_name(found, kinds):
    assert found[kinds]["natType"] == DOUBLE[kinds]


@pytest.fixture(scope="module")
def homes():
    with NATLab("box:hairpin", "box:rejecting", "box:port-restricted lifetime_s=1", "box:sequential") as lab:
        yield lab.sites, lab.server


def udp(namespace, address, seconds=20):
    with inside(namespace):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, 0))
    made.settimeout(seconds)
    return made


def test_a_stream_passes_whole_both_ways(homes):
    sites, server = homes
    sent = os.urandom(3_000_000)
    with inside(server):
        listener = socket.create_server((HOST, 0))
    with inside(sites[0].client):
        client = socket.create_connection(listener.getsockname(), timeout=10)
    with listener, client:
        accepted, (address, _) = listener.accept()
        assert address == sites[0].outside
        with accepted, ThreadPoolExecutor(1) as thread:
            for one, other in ((client, accepted), (accepted, client)):
                thread.submit(one.sendall, sent)
                with other.makefile("rb") as stream:
                    assert stream.read(len(sent)) == sent


def test_an_icmp_error_finds_the_socket_that_it_is_about(homes):
    sites, _ = homes
    with udp(sites[0].client, sites[0].address) as client:
        client.connect((HOST, 9))
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


def test_hosts_behind_a_nat_that_turns_packets_round_meet_by_its_public_address(homes):
    sites, server = homes
    neighbour = sites[0].address.rsplit(".", 1)[0] + ".3"
    client = sites[0].client
    with udp(server, HOST) as far, udp(client, sites[0].address) as one, udp(client, neighbour) as two:
        for end in (one, two):
            end.sendto(b"?", far.getsockname())
        places = [far.recvfrom(100)[1] for _ in (one, two)]
        assert {address for address, _ in places} == {sites[0].outside}
        # The first is filtered, and opens the way for the second.
        for sender, receiver, place in ((one, None, 1), (two, one, 0), (one, two, 1)):
            sender.sendto(b"hello", places[place])
            if receiver:
                assert receiver.recvfrom(100) == (b"hello", places[1 - place])
        assert sites[0].boxes[0].report()["hairpinned"] == 2


@pytest.mark.parametrize("number, error, seconds", [(1, ConnectionRefusedError, 20), (0, TimeoutError, 1)])
def test_a_connection_that_nobody_asked_for_is_reset_or_not_answered(homes, number, error, seconds):
    sites, server = homes
    with inside(server):
        with pytest.raises(error):
            socket.create_connection((sites[number].outside, 4321), timeout=seconds)


def test_a_datagram_that_nobody_asked_for_is_refused_by_icmp(homes):
    sites, server = homes
    with udp(server, HOST) as far:
        far.connect((sites[1].outside, 4321))
        far.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            far.recv(100)


def test_a_mapping_ends_with_its_lifetime_or_with_the_box(homes):
    sites, server = homes
    site = sites[2]
    with udp(server, HOST) as far, udp(site.client, site.address, seconds=0.5) as client:
        def place():
            client.sendto(b"?", far.getsockname())
            return far.recvfrom(100)[1]

        def passes(place):
            # One that comes late is not taken for the next.
            sent = os.urandom(8)
            far.sendto(sent, place)
            try:
                while client.recv(100) != sent:
                    pass
                return True
            except TimeoutError:
                return False

        # A machine that stalls may take longer than a mapping lives, but not every time.
        harness.wait_until(lambda: passes(place()), 30, "an answer while the mapping lives")
        kept = place()
        time.sleep(1.2)
        assert not passes(kept)
        kept = place()
        site.boxes[0].reboot()
        assert not passes(kept)


def test_ports_are_counted_where_the_profile_counts(homes):
    sites, server = homes
    with udp(server, HOST) as far:
        ports = []
        for _ in range(5):
            with udp(sites[3].client, sites[3].address) as client:
                client.sendto(b"?", far.getsockname())
                ports.append(far.recvfrom(100)[1][1])
    gaps = [second - first for first, second in zip(ports, ports[1:])]
    # The last port of all is followed by the first.
    assert gaps.count(1) >= 3, ports


@pytest.mark.parametrize("words", [["no-such", "a", "b", "1"], ["symmetric", "a", "b", "1"],
                                   ["symmetric", "a", "b", "1", "addresses=x"],
                                   ["symmetric", "a", "b", "1", "addresses=203.0.113.1", "allocation=odd"]])
def test_a_nat_refuses_what_it_does_not_know(words):
    done = run(str(networkbox.BINARY), "nat", *words, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("network-box: ")
