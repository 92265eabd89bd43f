"""The paths of relayed data allocate nothing: counted inside the release binary, by thread, over 100,000 packets."""

import mmap
import os
import struct
import socket
import ssl
from pathlib import Path

import pytest

import stunwire as stun
from dtlsclient import DTLSClient
from harness import client_address, free_port
from stunclient import StreamClient

SLOTS, SLOT = 256, struct.Struct("QQ")
PACKETS = 100_000
WINDOW = 50
WORKER_NAMES = "relay-"
# OpenSSL 3.0's own, three: most are the buffers of records, which are given back between two of them.
TLS_ALLOCATIONS_PER_PACKET_MAX = 3.5


class Counts:
    """The allocation counts of every thread that has allocated."""

    def __init__(self, path):
        path.write_bytes(bytes(SLOTS * SLOT.size))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)

    def by_thread(self):
        counts = {}
        for number in range(SLOTS):
            thread, count = SLOT.unpack_from(self.memory, number * SLOT.size)
            if thread:
                counts[thread] = counts.get(thread, 0) + count
        return counts


def worker_threads(pid):
    threads = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith(WORKER_NAMES):
            threads.append(int(task.name))
    return threads


@pytest.fixture(scope="module")
def counted(serve_module, tool, tmp_path_factory):
    path = tmp_path_factory.mktemp("malloc") / "counts"
    counts = Counts(path)
    environment = {"LD_PRELOAD": str(tool("libmalloccount")), "MALLOC_COUNT_FILE": str(path)}
    tls_port = free_port()
    server = serve_module(
        {"listen": {"tls": [f"127.0.0.1:{tls_port}"]}}, environment=environment, start=False, users={},
    )
    server.tls_port = tls_port
    del server.environment["LD_PRELOAD"]
    server.users = {"alice": "a password for counting by"}
    server.cli("user", "add", "alice", "--password-stdin", input=server.users["alice"] + "\n")
    server.environment["LD_PRELOAD"] = environment["LD_PRELOAD"]
    server.start()
    return server, counts


def exchange(send_one, receive_one, count):
    """Keeps a window of packets under way, so that no socket buffer runs over."""
    for _ in range(count // WINDOW):
        for _ in range(WINDOW):
            send_one()
        for _ in range(WINDOW):
            receive_one()


@pytest.mark.parametrize("path", ["channel-data", "send-and-data-indications"])
def test_relaying_allocates_nothing(counted, path):
    server, counts = counted
    payload = os.urandom(160)
    with server.client() as client, server.peer() as peer:
        client.allocated().permitted(peer.address)
        if path == "channel-data":
            client.bound(0x4000, peer.address)
            outgoing = stun.channel_data(0x4000, payload)
        else:
            transaction = stun.transaction_id()
            outgoing = stun.build(stun.SEND, stun.INDICATION, [
                client.peer_attribute(peer.address, transaction), (stun.DATA_ATTRIBUTE, payload)], transaction)

        def to_peer():
            client.socket.sendto(outgoing, server.address)

        def to_client():
            peer.socket.sendto(payload, client.relayed)

        def at_peer():
            assert peer.socket.recv(2048) == payload

        def at_client():
            assert payload in client.socket.recv(2048)

        client.socket.settimeout(5)
        peer.socket.settimeout(5)
        workers = worker_threads(server.pid)
        assert workers, "no thread is named relay-*"
        # Warm: every table and buffer that grows once has grown.
        exchange(to_peer, at_peer, 5_000)
        exchange(to_client, at_client, 5_000)
        before = counts.by_thread()
        assert before, "the counting library was not loaded"
        exchange(to_peer, at_peer, PACKETS)
        exchange(to_client, at_client, PACKETS)
        after = counts.by_thread()
        allocations = {thread: after.get(thread, 0) - before.get(thread, 0) for thread in workers}
        assert set(worker_threads(server.pid)) == set(workers)
        assert sum(allocations.values()) == 0, f"allocations by worker thread: {allocations}"
        client.refresh(0)


@pytest.mark.parametrize("path", ["channel-data", "send-and-data-indications"])
def test_relaying_by_dtls_allocates_nothing(counted, path):
    """Neither here nor in OpenSSL, as long as a session is one of those that keep their buffers."""
    server, counts = counted
    payload = os.urandom(160)
    with server.client(kind=DTLSClient) as client, server.peer() as peer:
        client.allocated().permitted(peer.address)
        if path == "channel-data":
            client.bound(0x4000, peer.address)

        def to_peer():
            if path == "channel-data":
                client.send_channel(0x4000, payload)
            else:
                client.send_to(peer.address, payload)

        def at_peer():
            assert peer.receive()[0] == payload

        def to_client():
            peer.send(payload, client.relayed)

        def at_client():
            assert client.receive_data()[1] == payload

        workers = worker_threads(server.pid)
        exchange(to_peer, at_peer, 1_000)
        exchange(to_client, at_client, 1_000)
        before = counts.by_thread()
        exchange(to_peer, at_peer, PACKETS // 10)
        exchange(to_client, at_client, PACKETS // 10)
        after = counts.by_thread()
        allocations = {thread: after.get(thread, 0) - before.get(thread, 0) for thread in workers}
        assert sum(allocations.values()) == 0, f"allocations by worker thread: {allocations}"
        client.finish()


def allocations_of_a_stream(server, counts, client, packets):
    """Allocations by worker thread while so many packets go each way by channel 0x4000 of a stream."""
    payload = os.urandom(160)
    with client, server.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        frame = stun.channel_data(0x4000, payload)

        def to_peer():
            client.socket.sendall(frame)

        def at_peer():
            assert peer.socket.recv(2048) == payload

        def to_client():
            peer.socket.sendto(payload, client.relayed)

        def at_client():
            assert client.receive_data() == (0x4000, payload)

        client.socket.settimeout(5)
        peer.socket.settimeout(5)
        workers = worker_threads(server.pid)
        exchange(to_peer, at_peer, 5_000)
        exchange(to_client, at_client, 5_000)
        before = counts.by_thread()
        exchange(to_peer, at_peer, packets)
        exchange(to_client, at_client, packets)
        after = counts.by_thread()
        client.refresh(0)
    return {thread: after.get(thread, 0) - before.get(thread, 0) for thread in workers}


def test_relaying_by_tcp_allocates_nothing(counted):
    server, counts = counted
    client = StreamClient(server.address, "alice", server.users["alice"], (client_address(), 0))
    allocations = allocations_of_a_stream(server, counts, client, PACKETS)
    assert sum(allocations.values()) == 0, f"allocations by worker thread: {allocations}"


def test_relaying_by_tls_allocates_only_what_openssl_does(counted):
    server, counts = counted
    context = ssl.create_default_context(cafile=server.data / "certificate.pem")
    secured = context.wrap_socket(socket.socket(socket.AF_INET, socket.SOCK_STREAM), server_hostname="127.0.0.1")
    client = StreamClient(("127.0.0.1", server.tls_port), "alice", server.users["alice"], (client_address(), 0),
                          sock=secured)
    packets = PACKETS // 4
    each = sum(allocations_of_a_stream(server, counts, client, packets).values()) / (2 * packets)
    print(f"{each:.2f} allocations for a packet by TLS")
    assert each <= TLS_ALLOCATIONS_PER_PACKET_MAX, f"{each:.2f} for a packet"


def test_the_counter_counts(counted):
    """What makes a zero above believable: a worker's allocations do show."""
    server, counts = counted
    workers = worker_threads(server.pid)
    everything = counts.by_thread()
    assert sum(everything.values()) > 1000, everything
    assert any(everything.get(thread) for thread in workers), f"no worker of {workers} in {everything}"
