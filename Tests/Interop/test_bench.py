"""The benchmarks run, and print figures. What they are is for docs/performance.md."""

import json
import re
import subprocess

import pytest

from harness import BINARY, REPOSITORY

BENCH = REPOSITORY / "Tests/Bench/relay"
TINY = ("--rounds", "1", "--seconds", "1", "--rate", "200", "--connections", "2")

# Each starts several servers and loads them.
pytestmark = pytest.mark.alone


def bench(*arguments):
    """Debian's coturn, and the generator that comes with it."""
    return subprocess.run([BENCH, *arguments], capture_output=True, text=True, timeout=150)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_the_benchmark_measures_both_servers(transport):
    done = bench("--transport", transport, "--server", BINARY, *TINY, "--size", "100", "--format", "json")
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads(done.stdout)["cells"]
    assert (cell["transport"], cell["size"], cell["connections"]) == (transport, 100, 2)
    for name in ("turnpike", "coturn"):
        assert cell[name]["nanoseconds_per_packet"]["median"] > 0
        # Two clients, a message each ten milliseconds, for a second, each relayed twice.
        assert cell[name]["sent"] == 200
        assert 300 <= cell[name]["packets"] <= 450, cell
    assert cell["turnpike"]["lost"] == 0
    assert cell["ratio"]["median"] > 0


def test_the_benchmark_prints_a_table():
    done = bench("--transport", "tcp", "--server", BINARY, *TINY)
    assert done.returncode == 0, done.stderr
    header, row = done.stdout.strip().splitlines()[-2:]
    assert header.split()[:3] == ["transport", "bytes", "clients"]
    count, ratio = r"\d+ \[\d+-\d+\]", r"[\d.]+ \[[\d.]+-[\d.]+\]"
    assert re.fullmatch(rf"tcp +100 +2 +{count} +{count} +{ratio} +0 of 200 +\d+ of 200", row)


@pytest.mark.parametrize("arguments, said", [
    (("--transport", "sctp"), "'sctp' is none of udp, tcp, tls, dtls"),
    (("--rounds", "0"), "0 is not in 1...1000"),
    (("--server", "/nowhere/turnpike"), "/nowhere/turnpike is not a program; "),
    (("--server", BINARY, "--coturn", "/nowhere/turnserver"), "/nowhere/turnserver is not a program; install coturn"),
])
def test_the_benchmark_says_what_is_wrong(arguments, said):
    done = bench(*arguments)
    assert done.returncode != 0 and said in done.stderr, done.stderr


SIGNALING = REPOSITORY / "Tests/Bench/signaling/compare"


def test_the_benchmark_of_signaling_measures_everything_on_both_servers(tmp_path):
    """Both serve the same load, and nothing is lost: then figures can be compared. Timings are not looked at."""
    figures = tmp_path / "figures.json"
    done = subprocess.run([SIGNALING, "--quick", "--server", BINARY, "--json", figures],
                          capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert list(found) == ["cost", "latency", "idle", "hold", "overload", "noisy"]
    for part, key in (("cost", "messages_per_cpu_second"), ("latency", "p99_us"), ("idle", "kib_each_of_200"),
                      ("overload", "capacity"), ("overload", "goodput"), ("overload", "share_by_cpu_second")):
        for of in ("turnpike", "node", "ratio"):
            value = found[part][of][key]
            assert 0 < value["min"] <= value["median"] <= value["max"], (part, of, key)
    # Memory is no timing: 9 KiB beside some 35.
    assert found["idle"]["ratio"]["kib_each_of_200"]["max"] <= 0.5, found["idle"]
    assert found["overload"]["turnpike"]["lost"]["max"] == 0
    assert found["hold"]["answered"] == found["hold"]["connections"] == 400
    assert (found["hold"]["forwarded"], found["hold"]["closed"]) == (200, 0)
    # All of the one who floods are told and closed, and of the others every message has arrived, or there were no
    # figures.
    noisy = found["noisy"]
    assert noisy["closed_1008"]["min"] == noisy["loud_connections"] and noisy["rate_limited"]["min"] > 0
    lines = done.stdout.splitlines()
    assert lines[0] == "| | turnpike | Node and ws | ours / theirs | asked |"
    # Columns stay whole.
    assert len(lines) > 15 and all(line.count("|") == 6 for line in lines), done.stdout


@pytest.mark.parametrize("arguments, said", [
    (("memory",), "'memory' is none of cost, latency, idle, hold, overload, noisy"),
    (("--idle", "5"), "5 is not in 100...15000"),
    (("--server", "/nowhere/turnpike"), "/nowhere/turnpike is not a program; build it, or say --server"),
])
def test_the_benchmark_of_signaling_says_what_is_wrong(arguments, said):
    done = subprocess.run([SIGNALING, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and said in done.stderr, done.stderr
