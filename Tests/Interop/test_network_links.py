"""The links between the namespaces of a `NATLab`: that they do to packets what they are told."""

import signal
import socket
import subprocess
import sys
import time

import harness
import networkbox
import pytest
from namespaces import inside, ip, remove_stale_namespaces, run
from natlab import SERVER, NATLab

HOST = SERVER[0]


@pytest.fixture(scope="module")
def lab():
    with NATLab("none", "port-restricted", delay_ms=25) as lab:
        yield lab


def sockets(lab, site):
    """A server's socket and a client's that knows it."""
    with inside(lab.server):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((HOST, 0))
    with inside(site.client):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect(server.getsockname())
    for end in (server, client):
        end.settimeout(20)
        # SO_RCVBUFFORCE: beyond what the machine allows everybody.
        end.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    return server, client


def round_trip_milliseconds(server, client):
    began = time.monotonic()
    client.send(b"?")
    server.sendto(b"!", server.recvfrom(100)[1])
    client.recv(100)
    return (time.monotonic() - began) * 1000


def flood(server, client, count):
    """How many of so many datagrams come."""
    for number in range(count):
        client.send(number.to_bytes(4, "big"))
        if number % 50 == 49:
            time.sleep(0.001)
    server.settimeout(1)
    arrived = []
    try:
        while True:
            arrived.append(int.from_bytes(server.recv(100), "big"))
    except TimeoutError:
        return arrived


@pytest.mark.parametrize("number", [0, 1])
def test_a_packet_takes_as_long_as_the_link_says_each_way_and_the_first_no_longer(lab, number):
    site = lab.sites[number]
    server, client = sockets(lab, site)

    def shortest():
        times = []
        for _ in range(8):
            for namespace in (lab.server, site.router or site.client):
                ip("neigh", "flush", "all", namespace=namespace)
            times.append(round_trip_milliseconds(server, client))
        return min(times)

    with server, client:
        assert 50 <= shortest() < 100
        site.link.set("up", delay_ms=75)
        assert 100 <= shortest() < 150
        site.link.set(delay_ms=25)


def test_loss_is_what_it_is_set_to_and_the_rest_stays_in_order(lab):
    link = lab.sites[0].link
    link.set(loss=0.2, jitter_ms=5)
    server, client = sockets(lab, lab.sites[0])
    with server, client:
        arrived = flood(server, client, 2000)
    link.set(loss=0, jitter_ms=0)
    # Five standard deviations of the binomial distribution.
    assert 1510 <= len(arrived) <= 1690, len(arrived)
    assert arrived == sorted(arrived)


def test_a_cut_link_carries_nothing_and_a_repaired_one_carries_again(lab):
    link = lab.sites[1].link
    server, client = sockets(lab, lab.sites[1])
    with server, client:
        assert round_trip_milliseconds(server, client) > 0
        link.cut()
        assert flood(server, client, 10) == []
        link.repair()
        server.settimeout(20)
        assert round_trip_milliseconds(server, client) > 0


def test_what_does_not_fit_the_links_queue_is_dropped(lab):
    link = lab.sites[0].link
    before = link.report()
    # 10 packets of 128 bytes wait; one takes 10 ms.
    link.set(rate_bps=102_400, queue_bytes=1280, mtu=1000)
    server, client = sockets(lab, lab.sites[0])
    with server, client:
        for _ in range(100):
            client.send(bytes(100))
        server.settimeout(1)
        arrived = 0
        try:
            while server.recv(200):
                arrived += 1
        except TimeoutError:
            pass
    link.set(rate_bps=0, mtu=1500)
    after = link.report()
    assert 10 <= arrived < 100
    assert after["up_dropped"] - before["up_dropped"] == 100 - arrived


def test_a_detour_makes_two_sites_further_from_each_other_than_from_the_server():
    def shortest(lab, namespaces, places):
        ends = []
        for namespace, address in zip(namespaces, places):
            with inside(namespace):
                ends.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            ends[-1].bind((address, 0))
            ends[-1].settimeout(20)
        with ends[0], ends[1]:
            ends[0].connect(ends[1].getsockname())
            return min(round_trip_milliseconds(ends[1], ends[0]) for _ in range(8))

    with NATLab("none", "none", delay_ms=1) as lab:
        one, other = lab.sites
        both = (one.client, other.client), (one.outside, other.outside)
        assert 4 <= shortest(lab, *both) < 80
        lab.detour(one, other, delay_ms=40)
        assert shortest(lab, *both) >= 84
        assert shortest(lab, (one.client, lab.server), (one.outside, HOST)) < 80


def has_ended(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_of_a_killed_run_nothing_is_left_behind():
    """Its links and NATs end with it, and the next run ends its programs and takes its namespaces away."""
    program = f"""
import os, subprocess, sys
sys.path.insert(0, {str(harness.__file__.rsplit('/', 1)[0])!r})
from natlab import NATLab
lab = NATLab("port-restricted/box:symmetric", delay_ms=1)
site = lab.sites[0]
sleeper = subprocess.Popen(["ip", "netns", "exec", site.client, "sleep", "1000"])
print(lab.server, site.link.process.pid, site.boxes[0].process.pid, sleeper.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    server, *pids = parent.stdout.readline().split()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    harness.wait_until(lambda: all(map(has_ended, pids[:2])), 30, "the link and the NAT to end")
    assert "port0" not in ip("link", "show", namespace=server).stdout
    assert not has_ended(pids[2])
    remove_stale_namespaces()
    harness.wait_until(lambda: has_ended(pids[2]), 30, "the program to end")
    assert f"tpk{parent.pid}x" not in ip("netns", "list").stdout


@pytest.mark.parametrize("words", [["loss=2"], ["delay_ms=x"], ["colour=red"], ["delay_ms"]])
def test_a_box_refuses_what_it_does_not_know(words):
    done = run(str(networkbox.BINARY), "link", "one", "other", "1", *words, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and done.stdout == "" and words[0].split("=")[0] in done.stderr
