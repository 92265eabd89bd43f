"""The two laboratories of NATs against each other: by the same name, a NAT of real kernels is the virtual one."""

import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import harness
import kernelnats
import networkbox
import pytest
from namespaces import inside, run
from natlab import SERVER, NATLab
from peerlab import PeerLab
from peertool import report
from test_peer_netcheck import NAMES

HOST = SERVER[0]
BLOCKED = ("no-udp", "https-only")
# Made by `network-box`.
PROFILES = ("full-cone", "address-restricted", "port-restricted", "remapping", "counting", "address-dependent",
            "symmetric", "sequential", "sequential-down", "chunked", "carrier-grade", "hairpin", "turning-round",
            "short-lived", "rejecting", "remembering", "many-addresses", *BLOCKED)
# And by the kernel; test_peer_netcheck.py has the others.
KERNEL = ("sequential", "chunked", "turning-round", "short-lived", "rejecting", "remembering", *BLOCKED)
# The first is the home's.
DOUBLE = ("port-restricted/port-restricted", "port-restricted/chunked", "port-restricted/symmetric",
          "port-restricted/carrier-grade", "symmetric/full-cone", "box:full-cone/box:address-restricted")


@pytest.fixture(scope="module")
def virtual():
    return networkbox.verdicts() | networkbox.verdicts(*(profile(kinds) for kinds in DOUBLE))


def profile(kind):
    return kind.replace("box:", "")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What netcheck says, by kind. It waits more than it works, so a few run at a time."""
    kinds = [f"box:{name}" for name in PROFILES] + [*KERNEL, *DOUBLE]
    with PeerLab(tmp_path_factory.mktemp("lab"), *kinds) as lab:
        # Of the ways to the server, one that passes everywhere.
        environment = lab.environment | {"TURN_SERVERS": f"turns:{HOST}:443?transport=tcp"}

        def check(site):
            # On a machine that does other things too, what is not answered in time is said to be unknown: no verdict.
            for _ in range(4):
                answer, status = report("netcheck", environment=environment, namespace=site.client)
                assert status == 0 and answer["works"], answer
                nat = answer["ipv4"] | {"natType": answer["natType"]}
                knows_hairpin = nat["hairpin"] is not None or nat["mapping"] != "endpoint-independent"
                keys = ("natType", "mapping", "filtering", "portAllocation")
                if knows_hairpin and all(nat[key] for key in keys) or nat["natType"] == "Blocked":
                    break
            return site.kind, nat

        with ThreadPoolExecutor(4) as threads:
            yield dict(threads.map(check, lab.sites))


def test_every_profile_of_the_virtual_lab_is_tried_here(virtual):
    # "random" is another word for "symmetric".
    assert set(virtual) - set(PROFILES) - set(map(profile, DOUBLE)) == {"random"}
    assert virtual["random"] == virtual["symmetric"]


def test_every_nat_of_the_kernels_is_tried():
    # A firewall that translates nothing is no NAT.
    assert set(kernelnats.KINDS) - set(KERNEL) - set(NAMES) == set() and "firewall" in NAMES


def kind(verdict):
    return verdict["name"], code(verdict.get("mapping")), code(verdict.get("filtering"))


def code(word):
    """addressAndPortDependent: address-and-port-dependent"""
    return word and "".join("-" + letter.lower() if letter.isupper() else letter for letter in word)


@pytest.mark.parametrize("kinds", [f"box:{name}" for name in PROFILES] + [*KERNEL, *DOUBLE])
def test_the_same_is_said_of_a_nat_in_both_labs(found, virtual, kinds):
    real, expected = found[kinds], virtual[profile(kinds)]
    assert (real["natType"], real["mapping"], real["filtering"]) == kind(expected), real
    assert real["hairpin"] == expected.get("hairpin"), real
    assert (real["portAllocation"], real["portStep"]) == (expected.get("allocation"), expected.get("step")), real


@pytest.mark.parametrize("profile", [name for name in PROFILES if name in NAMES])
def test_what_netcheck_says_of_a_nat_of_the_kernels_is_said_in_the_virtual_lab(virtual, profile):
    # The first half of this is in test_peer_netcheck.py.
    assert NAMES[profile] == kind(virtual[profile])


@pytest.fixture(scope="module")
def homes():
    with NATLab("box:hairpin", "box:rejecting", "box:port-restricted lifetime_s=1", "box:sequential", "turning-round",
                "rejecting", "short-lived lifetime_s=1", "sequential") as lab:
        yield lab.sites, lab.server


def both(number):
    """The site with this number is a `network-box`, and that four behind it the same by the kernel."""
    return pytest.mark.parametrize("number", [number, number + 4], ids=["box", "kernel"])


def udp(namespace, address, seconds=20):
    with inside(namespace):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, 0))
    made.settimeout(seconds)
    return made


@both(0)
def test_a_stream_passes_whole_both_ways(homes, number):
    sites, server = homes
    site = sites[number]
    sent = os.urandom(3_000_000)
    with inside(server):
        listener = socket.create_server((HOST, 0))
    with inside(site.client):
        client = socket.create_connection(listener.getsockname(), timeout=10)
    with listener, client:
        accepted, (address, _) = listener.accept()
        assert address == site.outside
        with accepted, ThreadPoolExecutor(1) as thread:
            for one, other in ((client, accepted), (accepted, client)):
                thread.submit(one.sendall, sent)
                with other.makefile("rb") as stream:
                    assert stream.read(len(sent)) == sent


@both(0)
def test_an_icmp_error_finds_the_socket_that_it_is_about(homes, number):
    sites, _ = homes
    with udp(sites[number].client, sites[number].address) as client:
        client.connect((HOST, 9))
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


@both(0)
def test_hosts_behind_a_nat_that_turns_packets_round_meet_by_its_public_address(homes, number):
    sites, server = homes
    site = sites[number]
    neighbour = site.address.rsplit(".", 1)[0] + ".3"
    client = site.client
    with udp(server, HOST) as far, udp(client, site.address) as one, udp(client, neighbour) as two:
        for end in (one, two):
            end.sendto(b"?", far.getsockname())
        places = [far.recvfrom(100)[1] for _ in (one, two)]
        assert {address for address, _ in places} == {site.outside}
        # Of the box the first is filtered, and opens the way for the second.
        for sender, receiver, place in ((one, two if number else None, 1), (two, one, 0), (one, two, 1)):
            sender.sendto(b"hello", places[place])
            if receiver:
                assert receiver.recvfrom(100) == (b"hello", places[1 - place])
        if site.boxes:
            assert site.boxes[0].report()["hairpinned"] == 2


@pytest.mark.parametrize("number, error, seconds", [(1, ConnectionRefusedError, 20), (0, TimeoutError, 1),
                                                    (5, ConnectionRefusedError, 20), (4, TimeoutError, 1)])
def test_a_connection_that_nobody_asked_for_is_reset_or_not_answered(homes, number, error, seconds):
    sites, server = homes
    with inside(server):
        with pytest.raises(error):
            socket.create_connection((sites[number].outside, 4321), timeout=seconds)


@both(1)
def test_a_datagram_that_nobody_asked_for_is_refused_by_icmp(homes, number):
    sites, server = homes
    with udp(server, HOST) as far:
        far.connect((sites[number].outside, 4321))
        far.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            far.recv(100)


@both(2)
def test_a_mapping_ends_with_its_lifetime_or_with_the_router(homes, number):
    sites, server = homes
    site = sites[number]
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
        # The kernel looks at its clock once a second.
        time.sleep(2.2 if number > 3 else 1.2)
        assert not passes(kept)
        kept = place()
        site.reboot()
        assert not passes(kept)


@both(3)
def test_ports_are_counted_where_the_profile_counts(homes, number):
    sites, server = homes
    with udp(server, HOST) as far:
        ports = []
        for _ in range(5):
            with udp(sites[number].client, sites[number].address) as client:
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
