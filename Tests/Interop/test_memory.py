"""Resident memory: idle, per bound allocation, and under a flood of unauthenticated requests."""

import json
import subprocess

from dtlsclient import DTLSWire
from harness import client_address, wait_until
from totals import Totals

IDLE_KIB_MAX = 48 * 1024
PER_ALLOCATION_KIB_MAX = 4.0
ALLOCATIONS = 5_000
# Of which 21 are a buffer of OpenSSL's for handshake messages, which DTLS keeps for flights to be sent again.
PER_DTLS_SESSION_KIB_MAX = 40.0
DTLS_SESSIONS = 5_000
CHALLENGES = 1_000_000
SOURCES = 65_000
CHALLENGE_GROWTH_KIB_MAX = 8 * 1024


def test_an_idle_server_is_small(serve):
    server = serve()
    with server.client() as client:
        client.allocated().refresh(0)
    print(f"{server.resident_kib()} KiB idle")
    assert server.resident_kib() <= IDLE_KIB_MAX, f"{server.resident_kib()} KiB"


def test_a_bound_allocation_costs_at_most_four_kibibytes(serve):
    """5,000 clients with an address each: one permission, one channel, and data through it."""
    server = serve({"limits": {"allocations_per_user": 100_000, "allocations_total": 0}})
    clients = []
    try:
        with server.peer() as peer:
            def add(count):
                for _ in range(count):
                    client = server.client()
                    # The harness gives clients large buffers, which 5,000 need not have.
                    clients.append(client)
                    client.allocated().bound(0x4000, peer.address)
                    client.send_channel(0x4000, b"through")
                    assert peer.receive() == (b"through", client.relayed)
                    peer.send(b"and back", client.relayed)
                    assert client.receive_data() == (0x4000, b"and back")

            # What the first allocation brings in (code, tables at their first size) belongs to the server itself.
            add(50)
            before = server.resident_kib()
            add(ALLOCATIONS)
            each = (server.resident_kib() - before) / ALLOCATIONS
            print(f"{each:.2f} KiB for each of {ALLOCATIONS} allocations")
            assert each <= PER_ALLOCATION_KIB_MAX, f"{each:.2f} KiB each"
        descriptors = server.descriptors()
        for client in clients:
            client.refresh(0)
        wait_until(lambda: server.descriptors() <= descriptors - len(clients), 10, "the relay sockets are closed")
    finally:
        for client in clients:
            client.close()


def test_an_idle_dtls_session_costs_at_most_forty_kibibytes(serve):
    server = serve()

    def add(count):
        for _ in range(count):
            with DTLSWire(server.address, (client_address(), 0)) as client:
                client.binding()

    add(100)
    before = server.resident_kib()
    add(DTLS_SESSIONS)
    # They end ten seconds after they were made; all of them count, should the machine be slower than that.
    each = (server.resident_kib() - before) / DTLS_SESSIONS
    print(f"{each:.2f} KiB for each of {DTLS_SESSIONS} sessions")
    assert each <= PER_DTLS_SESSION_KIB_MAX, f"{each:.2f} KiB each"


def test_RE_01_a_million_challenges_from_many_sources_keep_no_state(serve, tool):
    server = serve()
    with server.client() as client:
        client.allocated().refresh(0)
    before, descriptors = server.resident_kib(), server.descriptors()
    done = subprocess.run(
        [tool("flood"), "challenges", "127.0.0.1", str(server.port), str(CHALLENGES), str(SOURCES), "50000"],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    print(result)
    growth = server.resident_kib() - before
    assert growth <= CHALLENGE_GROWTH_KIB_MAX, f"{growth} KiB"
    assert server.descriptors() == descriptors
    assert result["seconds"] < 60
    # Poor amplifier: on the wire, with 28 bytes of IP and UDP headers each way.
    out = result["bytes_received"] + 28 * result["received"]
    assert out <= 3.0 * (result["bytes_sent"] + 28 * result["sent"])
    with server.client(local=(client_address(), 0)) as client:
        assert client.allocated().refresh(0).is_success
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    assert totals.packets_in >= 0.99 * CHALLENGES, f"only {totals.packets_in} reached the server"
    assert result["received"] >= 0.25 * CHALLENGES, result
