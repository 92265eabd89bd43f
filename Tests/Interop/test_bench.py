"""Tests/Bench/relay runs, by every transport, and prints figures. What they are is for docs/performance.md."""

import json
import re
import subprocess

import pytest

from harness import BINARY, REPOSITORY

BENCH = REPOSITORY / "Tests/Bench/relay"
TINY = ("--rounds", "1", "--seconds", "1", "--rate", "200", "--connections", "2")


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
