"""Many clients by TLS at once: what an idle one costs, and a certificate renewed under two hundred."""

import contextlib
import shutil
import signal
import ssl

from harness import wait_until
from test_tls import HOST, fingerprint, new_pair, serve_tls, tls_client, tls_context

IDLE = 5_000
IDLE_KIB_MAX = 24.0
LIVE = 200
BUSY = {"limits": {"allocations_per_user": 100_000, "unauthenticated_replies_per_second": 100_000}}


def test_an_idle_tls_connection_costs_at_most_24_kibibytes(serve_tls):
    """Each with an allocation, for without one it would be closed in the middle of this, and not idle all its life."""
    server = serve_tls(BUSY)
    context = tls_context(server)
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(server.peer())

        def add(count):
            for _ in range(count):
                client = stack.enter_context(tls_client(server, context=context)).allocated()
                client.bound(0x4000, peer.address).send_channel(0x4000, bytes(1200))
                assert peer.receive() == (bytes(1200), client.relayed)
                peer.send(bytes(1200), client.relayed)
                assert client.receive_data() == (0x4000, bytes(1200))

        # Code and tables at their first size belong to the server itself.
        add(50)
        before, descriptors = server.resident_kib(), server.descriptors()
        add(IDLE)
        assert server.descriptors() >= descriptors + 2 * IDLE, "a connection and a relay each"
        each = (server.resident_kib() - before) / IDLE
        print(f"{each:.2f} KiB for each of {IDLE} idle TLS connections")
        assert each <= IDLE_KIB_MAX, f"{each:.2f} KiB each"


def test_a_certificate_is_renewed_under_two_hundred_live_allocations_and_none_is_lost(serve_tls, tmp_path):
    server = serve_tls(BUSY)
    context = tls_context(server)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(tls_client(server, context=context)) for _ in range(LIVE)]
        peers = [stack.enter_context(server.peer("127.0.0.2")) for _ in clients]
        old = fingerprint(clients[0])
        for client, peer in zip(clients, peers):
            client.allocated().bound(0x4000, peer.address)

        def all_flow(payload):
            """One datagram each way for everyone, all of them under way at once."""
            for client in clients:
                client.send_channel(0x4000, payload)
            for client, peer in zip(clients, peers):
                assert peer.receive() == (payload, client.relayed)
                peer.send(payload, client.relayed)
            for client in clients:
                assert client.receive_data() == (0x4000, payload)

        all_flow(b"before")
        certificate, key = new_pair(tmp_path, "renewed")
        shutil.copy(key, server.data / "private-key.pem")
        shutil.copy(certificate, server.data / "certificate.pem")
        renewed = tls_context(server, trust=certificate)
        server.process.send_signal(signal.SIGUSR2)
        rounds = 0

        def is_new():
            """Everything flows while the renewal goes on."""
            nonlocal rounds
            rounds += 1
            all_flow(b"while %d" % rounds)
            try:
                with tls_client(server, context=renewed) as fresh:
                    return fingerprint(fresh) != old
            except ssl.SSLError:
                return False

        wait_until(is_new, 10, "new handshakes see the renewed certificate")
        # Every worker has it: the kernel deals connections out by address.
        for _ in range(40):
            with tls_client(server, context=renewed) as fresh:
                assert fingerprint(fresh) != old
                fresh.allocated()
        for number in range(5):
            all_flow(b"after %d" % number)
        for client in clients:
            assert client.refresh(600).is_success
            assert fingerprint(client) == old
