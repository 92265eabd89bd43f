"""A server that drains: who is there stays, who comes is sent to another server (RFC 8489 section 10)."""

import re
import signal
import socket
import struct
import subprocess

import pytest

import stunwire as stun
from harness import PASSWORD, free_port, wait_until
from namespaces import Namespaces
from test_tls import tls_client

ALTERNATE_SERVER = 0x8023
BUSY = {"unauthenticated_replies_per_second": 100_000, "allocations_per_user": 100}


def alternates(answer):
    """(address, port) of each ALTERNATE-SERVER, which is not XORed."""
    found = []
    for kind, value in answer.attributes:
        if kind == ALTERNATE_SERVER:
            family = {1: socket.AF_INET, 2: socket.AF_INET6}[value[1]]
            found.append((socket.inet_ntop(family, value[4:]), struct.unpack_from("!H", value, 2)[0]))
    return found


def drain(server):
    before = len(server.log())
    server.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: "draining" in server.log()[before:], 5, "the server drains")


def refused(client, error):
    """The answer, once all workers have heard of the drain."""
    answers = []

    def is_refused():
        answers.append(client.allocate())
        if answers[-1].is_success:
            client.refresh(0)
        return answers[-1].error == error

    wait_until(is_refused, 5, f"an Allocate is refused with {error}")
    assert answers[-1].verify(client.key, client.integrity)
    return answers[-1]


def test_RD_05_a_draining_server_sends_new_clients_to_another(serve):
    port, tls = free_port(), free_port()
    server = serve({"listen": {"tls": [f"127.0.0.1:{tls}"]}, "limits": BUSY,
                    "relay": {"alternate_servers": ["127.0.0.9", f"127.0.0.8:{port}"]}}, start=False)
    server.tls_port = tls
    server.start()
    with server.client() as there, server.client() as new, server.peer("127.0.0.2") as peer:
        there.allocated().permitted(peer.address)
        assert new.allocated().refresh(0).is_success
        drain(server)
        seen = set()
        for _ in range(30):
            seen.update(alternates(refused(new, 300)))
        assert seen == {("127.0.0.9", server.port), ("127.0.0.8", port)}
        with server.stream_client() as stream:
            assert alternates(refused(stream, 300))[0] in seen
        with tls_client(server) as secure:
            # Where no port is written it is the one the client came to, so a client by TLS finds TLS.
            assert alternates(refused(secure, 300))[0] in {("127.0.0.9", tls), ("127.0.0.8", port)}
        # Who has not proved himself learns nothing.
        with server.wire() as wire:
            answer = wire.request(stun.ALLOCATE, [(stun.REQUESTED_TRANSPORT, stun.UDP)])
            assert answer.error == 401 and not alternates(answer)
        # Who is there stays.
        for number in range(5):
            there.send_to(peer.address, b"%d" % number)
            assert peer.receive()[0] == b"%d" % number
            peer.send(b"%d" % number, there.relayed)
            assert there.receive_data() == (peer.address, b"%d" % number)
        assert there.refresh(600).is_success
        assert there.bound(0x4000, peer.address)
        assert there.refresh(0).is_success
    # And with the last one the server ends, of its own accord.
    assert server.process.wait(10) == 0
    server.output.close()
    server.process = None


def test_RD_05_without_another_server_there_is_no_capacity(serve):
    server = serve({"limits": BUSY, "relay": {"alternate_servers": ["192.0.2.1"]}}, hosts=("127.0.0.1", "::1"))
    with server.client() as there, server.client(host="::1") as six:
        there.allocated()
        drain(server)
        # The list has none of the client's family.
        assert not alternates(refused(six, 508))
        there.refresh(0)
        server.process.wait(10)
    server.output.close()
    server.process = None
    server = serve({"limits": BUSY})
    with server.client() as there, server.client() as new:
        there.allocated()
        drain(server)
        assert not alternates(refused(new, 508))
        assert there.refresh(600).is_success


def test_both_families_are_told_the_clients_own_first(serve):
    server = serve({"limits": BUSY, "relay": {"alternate_servers": ["[::1]:3479", "127.0.0.9:3478"]}},
                   hosts=("127.0.0.1", "::1"))
    with server.client() as there, server.client() as four, server.client(host="::1") as six:
        there.allocated()
        drain(server)
        assert alternates(refused(four, 300)) == [("127.0.0.9", 3478), ("::1", 3479)]
        assert alternates(refused(six, 300)) == [("::1", 3479), ("127.0.0.9", 3478)]


def test_coturns_client_follows(serve):
    second = serve({"relay": {"rfc5766_channels": True},
                    "limits": {**BUSY, "unauthenticated_replies_per_second": 10_000}})
    first = serve({"relay": {"rfc5766_channels": True, "alternate_servers": [f"127.0.0.1:{second.port}"]},
                   "limits": BUSY})
    with first.client() as there, first.client() as probe:
        there.allocated()
        drain(first)
        refused(probe, 300)
        with first.peer("127.0.0.1") as peer:
            command = ["turnutils_uclient", "-u", "alice", "-w", PASSWORD, "-p", str(first.port), "-n", "20", "-m", "1",
                       "-c", "-y", "127.0.0.1"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        text = done.stdout + done.stderr
        totals = re.findall(r"tot_send_msgs=(\d+), tot_recv_msgs=(\d+)\s*$", text, re.MULTILINE)
        assert done.returncode == 0 and totals and totals[-1][0] == totals[-1][1] != "0", text[-3000:]
        # All that is open on the first server is what was there before.
        assert len(first.relay_sockets()) == 1


@pytest.mark.parametrize("server", ["0.0.0.0", "224.0.0.1", "nowhere.example", "127.0.0.1:0"])
def test_a_server_that_nobody_can_reach_is_refused_at_the_start(serve, server):
    made = serve({"relay": {"alternate_servers": [server]}}, start=False)
    done = made.cli("config", "check", "--config", str(made.config_path), check=False)
    assert done.returncode == 78 and "relay.alternate_servers" in done.stderr, done.stderr


def test_loopback_and_the_server_itself_are_refused_at_the_start(serve, namespaces):
    for alternate, reason in (("127.0.0.1", "loopback"), (Namespaces.SERVER[0], "this server itself")):
        made = serve({"relay": {"alternate_servers": [alternate]}}, hosts=Namespaces.SERVER[:1], relays_loopback=False,
                     namespace=namespaces.server, start=False)
        done = subprocess.run(
            made.command("serve", "--config", str(made.config_path), "--data-dir", str(made.data)),
            capture_output=True, text=True, timeout=60, env=made.environment)
        assert done.returncode in (1, 78) and reason in done.stdout + done.stderr, done.stdout + done.stderr
