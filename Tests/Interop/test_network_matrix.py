"""Two `turnpike-peer`s behind pairs of NATs on real kernels, one run of each cell that is not plain: what is direct by
ordinary ICE is direct, and everything else is on the relay, never on nothing. Tests/Netns/matrix runs all cells, often.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import networkbox
from namespaces import run
from peerlab import PeerLab, meet

COMMAND = Path(__file__).resolve().parents[1] / "Netns/matrix"
P, R, F, SYMMETRIC = "port-restricted", "address-restricted", "full-cone", "symmetric"
DOUBLE = "port-restricted/port-restricted"
# Who connects, and who listens. The second of two sites of a kind has a word behind it.
DIRECT = [(P, f"{P} 2"), (SYMMETRIC, R), (R, SYMMETRIC), (SYMMETRIC, F), ("sequential", R), ("box:symmetric", R),
          (DOUBLE, P), ("rejecting", P), ("none", "chunked")]
# Guesses of ports, and TCP, may make some of them direct.
CONNECTED = [(P, SYMMETRIC), (SYMMETRIC, P), (P, "sequential"), ("chunked", P), ("sequential", "sequential 2"),
             (SYMMETRIC, "sequential"), ("no-udp", P), (P, "no-udp")]
RELAYED = [(SYMMETRIC, f"{SYMMETRIC} 2"), ("https-only", SYMMETRIC), ("https-only", "no-udp")]
# A direct path is waited for so long; where there is none to come, it is only seen that the relay's stays.
DIRECT_SECONDS, RELAY_SECONDS = 20, 1


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    cells = [*DIRECT, *CONNECTED, *RELAYED]
    names = sorted({name for cell in cells for name in cell})
    kinds = [name.removesuffix(" 2") for name in names]
    with PeerLab(tmp_path_factory.mktemp("lab"), *kinds, delay_ms=5) as lab:
        sites = dict(zip(names, lab.sites))

        def run(numbered):
            number, (talker, listener) = numbered
            seconds = DIRECT_SECONDS if (talker, listener) in DIRECT else RELAY_SECONDS
            return meet(lab, sites[listener], sites[talker], seconds, name=f"listener-{number}")

        with ThreadPoolExecutor(4) as threads:
            yield dict(zip(cells, threads.map(run, enumerate(cells))))


def name(cell):
    return " > ".join(cell)


@pytest.mark.parametrize("cell", DIRECT, ids=name)
def test_what_needs_no_guess_is_direct(results, cell):
    assert results[cell]["path"] == "direct", results[cell]


@pytest.mark.parametrize("cell", CONNECTED, ids=name)
def test_what_is_not_always_direct_is_connected(results, cell):
    assert results[cell]["path"] in ("direct", "relay"), results[cell]


@pytest.mark.parametrize("cell", RELAYED, ids=name)
def test_what_can_not_be_direct_is_on_the_relay(results, cell):
    assert results[cell]["path"] == "relay", results[cell]


def test_the_command_goes_on_where_it_was_broken_off(tmp_path):
    file = tmp_path / "matrix.json"
    command = [sys.executable, str(COMMAND), "udp", "--only", "full-cone > none", "--runs", "2", "--json", str(file)]
    counts = []
    for runs in ("1", "2", "2"):
        command[6] = runs
        done = run(*command)
        assert "as wanted" in done.stdout, done.stdout
        counts.append([each["path"] for each in json.loads(file.read_text())["cells"]["full-cone > none"]])
    assert counts == [["direct"], ["direct"] * 2, ["direct"] * 2]


def test_both_labs_have_the_same_table():
    """The cells that are direct here are so in the virtual lab's, by which the command's are judged."""
    names = {"open": "none", "fullCone": F, "restricted": R, "portRestricted": P, "symmetric": SYMMETRIC}
    virtual = {(names[pair["offerer"]], names[pair["answerer"]]): pair["direct"] for pair in networkbox.pairs()}
    assert len(virtual) == 25 and sum(virtual.values()) == 22
    for group, is_direct in ((DIRECT, True), (CONNECTED, False), (RELAYED, False)):
        for cell in group:
            cell = tuple(kind.removesuffix(" 2") for kind in cell)
            assert virtual.get(cell, is_direct) == is_direct, cell
