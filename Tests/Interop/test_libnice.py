"""Our ICE agent and libnice, of which GStreamer's WebRTC is made: roles, nominations, trickle, NATs, relays, restarts,
consent, both families."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import harness
import natlab
from icepeers import Pair
from namespaces import Namespaces
from natlab import NATLab

LOOPBACK = ("address=127.0.0.1",)
ROLES = ("controlling", "controlled")
# What the `a=ice-options` of a libnice that was started with it would have.
RENOMINATION = ("renomination",)


def credentials(host, port):
    return (f"turn={host}:{port}:alice:{harness.PASSWORD}",)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("nomination", ["aggressive", "regular", "renomination"])
@pytest.mark.parametrize("trickles", [False, True], ids=["whole", "trickle"])
def test_data_goes_both_ways_without_loss(role, nomination, trickles):
    words = ([] if nomination == "aggressive" else [nomination]) + (["trickle"] if trickles else [])
    with Pair(role, both=LOOPBACK, libnice=words) as pair:
        pair.connect(trickles, RENOMINATION if nomination == "renomination" else ())
        assert pair.exchange() == 0
        pair.ours.wait_nominated()
        pair.assert_same_pair()
        ours, libnice = pair.paths()
        assert ours["local"][:2] == ["host", "127.0.0.1"] and libnice["udp"], (ours, libnice)
        assert {pair.ours.role, pair.libnice.role} == set(ROLES) and pair.ours.role == role


@pytest.mark.parametrize("role", ROLES)
def test_a_role_conflict_keeps_them_from_nothing(role):
    """Who gives way is drawn by lot. libnice does not tell when it did; without one of each nothing is nominated."""
    with Pair(role, both=LOOPBACK, libnice_role=role) as pair:
        pair.connect()
        assert pair.exchange() == 0
        pair.ours.wait_nominated()
        pair.assert_same_pair()


@pytest.mark.parametrize("role", ROLES)
def test_tcp_candidates_do_no_harm(role):
    with Pair(role, both=LOOPBACK, libnice=["tcp"]) as pair:
        pair.connect()
        assert any("tcptype passive" in line for line in pair.libnice.lines())
        assert not pair.ours.all("unreadable")
        assert pair.exchange() == 0
        pair.assert_same_pair()
        assert pair.libnice.last("pair")["udp"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("first", ["ours", "libnice"])
def test_ice_is_restarted_while_data_flows(role, first):
    with Pair(role, both=LOOPBACK) as pair:
        pair.connect()
        assert pair.exchange() == 0
        one, other = (pair.ours, pair.libnice) if first == "ours" else (pair.libnice, pair.ours)
        old = {agent: agent.all("credentials")[0] for agent in (one, other)}
        # The offer with new credentials, and the answer to it.
        one.say("restart")
        one.await_new("gathered", 1)
        other.say("restart")
        one.describe(other, since=(1, 1))
        other.describe(one, since=(1, 1))
        assert all(agent.all("credentials")[1] != old[agent] for agent in old)
        pair.settle(lambda: pair.libnice.state == "ready")
        pair.exchange()
        pair.ours.wait_nominated()
        pair.assert_same_pair()
        assert pair.exchange() == 0


@pytest.mark.parametrize("alone", ["ours", "libnice", "both"])
@pytest.mark.parametrize("role", ROLES)
def test_relays_of_our_server_carry_what_may_go_no_other_way(server, role, alone):
    turn = credentials("127.0.0.1", server.port)
    words = {name: ("relay-only",) if alone in (name, "both") else () for name in ("ours", "libnice")}
    with Pair(role, both=(*LOOPBACK, *turn), **words) as pair:
        pair.connect()
        assert pair.exchange() == 0
        pair.ours.wait_nominated()
        ours, libnice = pair.paths()
        if alone != "libnice":
            assert ours["local"][0] == "relay" and all("typ relay" in line for line in pair.ours.lines()), ours
        if alone != "ours":
            assert libnice["local"][0] == "relay" and all("typ relay" in line for line in pair.libnice.lines()), libnice
        assert pair.exchange() == 0


def in_both_families(role, namespaces):
    ours, libnice = ([f"address={address}" for address in addresses]
                     for addresses in (Namespaces.SERVER, Namespaces.WORLD))
    return Pair(role, ours=ours, libnice=libnice, namespaces=(namespaces.server, namespaces.world))


def test_both_families_are_told_and_one_is_used(namespaces):
    for role in ROLES:
        with in_both_families(role, namespaces) as pair:
            pair.connect()
            for agent, addresses in ((pair.ours, Namespaces.SERVER), (pair.libnice, Namespaces.WORLD)):
                told = {line.split()[4] for line in agent.lines()}
                assert set(addresses) <= told, told
            pair.exchange()
            pair.ours.wait_nominated()
            pair.assert_same_pair()
            assert pair.exchange() == 0


def test_ipv6_is_used_where_there_is_nothing_else(namespaces):
    with in_both_families("controlling", namespaces) as pair:
        pair.connect(keep=lambda line: ":" in line.split()[4])
        pair.ours.wait_nominated()
        pair.assert_same_pair()
        assert pair.paths()[0]["remote"][1] == Namespaces.WORLD[1]
        assert pair.exchange() == 0


# NATs


KINDS = ("full-cone", "port-restricted", "symmetric")


@pytest.fixture(scope="module")
def nats(serve_module):
    """Our server, and two clients behind each kind of NAT."""
    with NATLab(*KINDS, *KINDS) as lab:
        # libnice is gone before it has given its relays back.
        config = {"limits": {"allocations_per_user": 1000}, "relay": {"allow_peers": ["203.0.113.0/24"]}}
        serve_module(config, hosts=("0.0.0.0",), port=3478, namespace=lab.server, relays_loopback=False)
        yield {kind: (lab.sites[number], lab.sites[number + len(KINDS)]) for number, kind in enumerate(KINDS)}


# Ours behind the first, libnice behind the second, and whether nothing but a relay brings them together.
CROSSINGS = (
    ("full-cone", "port-restricted", False), ("port-restricted", "port-restricted", False),
    ("full-cone", "symmetric", False), ("symmetric", "full-cone", False),
    ("symmetric", "port-restricted", True), ("symmetric", "symmetric", True),
)


@pytest.mark.parametrize("role", ROLES)
def test_nats_are_crossed_or_the_relay_is_used(nats, role):
    # All at once: checks that meet nobody take their time.
    with ThreadPoolExecutor(len(CROSSINGS)) as pool:
        crossings = [pool.submit(cross, nats, role, *crossing) for crossing in CROSSINGS]
    for crossing in crossings:
        crossing.result()


def cross(nats, role, here, there, relayed):
    sites = nats[here][0], nats[there][1]
    host = natlab.SERVER[0]
    words = (f"stun={host}:3478", *credentials(host, 3478))
    with Pair(role, both=words, namespaces=[site.client for site in sites]) as pair:
        pair.connect()
        pair.exchange(50)
        # What carries data first is mostly the relay; the better pair follows.
        pair.ours.wait_nominated()
        pair.settle(lambda: is_relayed(pair.ours) == relayed)
        pair.exchange(50)
        if not relayed:
            assert pair.ours.last("pair")["remote"][1] == sites[1].outside, (here, there)
            assert pair.libnice.last("pair")["remote"][1] == sites[0].outside, (here, there)


def is_relayed(agent):
    pair = agent.last("pair")
    return "relay" in (pair["local"][0], pair["remote"][0])


# Consent


def test_consent_is_kept_and_its_end_is_noticed():
    """RFC 7675: for longer than libnice's consent lives, whoever controls; then libnice takes it back."""
    ways = list(itertools.product(ROLES, ([], ["consent"])))
    pairs = []
    try:
        for role, words in ways:
            pairs.append(Pair(role, both=LOOPBACK, libnice=words))
        for pair in pairs:
            pair.connect()
            pair.ours.wait_nominated()
        # Time has to pass: what libnice asked for last is ten seconds old then, and would have run out.
        time.sleep(12)
        for pair in pairs:
            assert pair.exchange() == 0
            assert pair.libnice.state == "ready" and pair.ours.last("pair")["local"]
        for pair, (_, words) in zip(pairs, ways):
            if words:
                pair.libnice.say("revoke")
                assert pair.libnice.await_new("revoked", 0)["done"]
                pair.settle(lambda pair=pair: pair.ours.last("pair")["local"] is None)
    finally:
        for pair in pairs:
            pair.__exit__()
