"""Signals, reload, and death: what a running server does when it is told to end, to read again, or is killed."""

import signal
import time

import harness
import stunwire as stun
from harness import PASSWORD, wait_until

QUICK_SECONDS = 5
KILLS = 50


def test_term_ends_it_with_zero_and_quickly(serve):
    for sign in (signal.SIGTERM, signal.SIGINT):
        server = serve()
        with server.client() as client:
            client.allocated()
            start = time.monotonic()
            server.stop(sign)
            assert time.monotonic() - start < QUICK_SECONDS


def test_a_second_term_ends_it_at_once(serve):
    server = serve()
    with server.client() as client, server.peer() as peer:
        client.allocated().permitted(peer.address)
        before = len(server.log())
        server.process.send_signal(signal.SIGTERM)
        # Two of a kind that are pending at once are one to the kernel.
        wait_until(lambda: "stopping" in server.log()[before:], QUICK_SECONDS, "the first one is taken")
        server.process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        server.process.wait(QUICK_SECONDS)
        assert time.monotonic() - start < 0.5
        # Ended by a signal of the operator's, not by a crash.
        assert server.process.returncode in (0, 1, 128 + signal.SIGTERM, -signal.SIGTERM)
        server.assert_no_crash_in_log()
    server.output.close()
    server.process = None


def test_hup_applies_a_new_deny_list_within_a_second(serve):
    server = serve()
    with server.client() as client, server.peer("127.0.0.2") as cut, server.peer("127.0.0.3") as kept:
        client.allocated().permitted(kept.address).bound(0x4000, cut.address)
        client.send_channel(0x4000, b"before")
        assert cut.receive()[0] == b"before"
        pid = server.pid
        server.write_config({"relay": {"deny_peers": ["127.0.0.2/32"]}})
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: client.create_permission(cut.address).error == 403, 1.0, "the new list holds")
        client.send_channel(0x4000, b"after")
        cut.send(b"after", client.relayed)
        client.send_to(kept.address, b"kept")
        assert kept.receive()[0] == b"kept"
        kept.send(b"kept", client.relayed)
        assert client.receive_data() == (kept.address, b"kept")
        cut.socket.setblocking(False)
        try:
            assert False, f"a cut peer got {cut.socket.recv(100)}"
        except BlockingIOError:
            pass
        assert server.pid == pid
        client.refresh(0)


def test_hup_with_a_broken_file_keeps_the_configuration_and_says_so(serve):
    server = serve()
    with server.client() as client, server.peer() as peer:
        client.allocated().permitted(peer.address)
        before = len(server.log())
        server.config_path.write_text(server.config_path.read_text() + "relay_typo: true\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "relay_typo" in server.log()[before:], 5, "the log names the mistake")
        server.assert_alive()
        client.send_to(peer.address, b"as before")
        assert peer.receive()[0] == b"as before"
        client.refresh(0)


def test_hup_a_hundred_times_loses_no_packet(serve):
    server = serve()
    with server.client() as client, server.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        descriptors = server.descriptors()
        for number in range(100):
            server.process.send_signal(signal.SIGHUP)
            for _ in range(20):
                client.send_channel(0x4000, b"%d" % number)
                assert peer.receive()[0] == b"%d" % number
        with server.client() as fresh:
            assert fresh.allocate().is_success
            fresh.refresh(0)
        wait_until(lambda: server.descriptors() <= descriptors + 1, 5, "no descriptor was kept by a reload")
        client.refresh(0)


def test_kill_nine_fifty_times_loses_nothing_acknowledged(serve):
    """Each round adds a user and a secret while the server runs, kills it, and wants everything back."""
    server = serve({"limits": {"unauthenticated_replies_per_second": 10_000}})
    names = ["alice"]
    for round_number in range(KILLS):
        name = f"user{round_number:02d}"
        server.cli("user", "add", name, "--password-stdin", input=PASSWORD + "\n")
        names.append(name)
        if round_number % 10 == 0:
            server.cli("secret", "add", f"secret{round_number}", "--stdin", input="a shared secret, long enough\n")
        with server.client(name, PASSWORD) as client:
            wait_until(lambda: client.allocate().is_success, 1.0, f"{name} can allocate")
            server.kill()
        start = time.monotonic()
        server.start()
        assert time.monotonic() - start < 2, "back within two seconds"
        with server.client(name, PASSWORD) as client:
            assert client.allocate().is_success, f"{name} was acknowledged and is lost"
            client.refresh(0)
    import json

    listed = json.loads(server.cli("user", "list", "--format", "json").stdout)
    found = {entry["name"] for entry in (listed["users"] if isinstance(listed, dict) else listed)}
    assert set(names) <= found
    secrets = server.cli("secret", "list").stdout
    assert all(f"secret{number}" in secrets for number in range(0, KILLS, 10))
    assert integrity(server) == "ok"


def integrity(server):
    import sqlite3

    path = next(server.data.glob("*.sqlite3"))
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return database.execute("PRAGMA integrity_check").fetchone()[0]


def test_a_nonce_outlives_a_restart(serve):
    """The nonce key is kept: after a restart clients re-allocate without a wave of 438."""
    server = serve()
    with server.client() as client:
        client.allocated()
        server.kill()
        server.start()
        answer = client.call(stun.REFRESH, renew=False)
        assert answer.error == 437, answer
        assert client.allocate().is_success
        client.refresh(0)


def test_a_corrupt_database_is_refused_with_a_remedy_and_never_recreated(serve):
    server = serve()
    server.stop()
    path = next(server.data.glob("*.sqlite3"))
    for extra in (path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        extra.unlink(missing_ok=True)
    garbage = b"this is no database " * 1000
    path.write_bytes(garbage)
    server.launch()
    assert server.process.wait(harness.START_SECONDS) != 0
    assert str(path) in server.log()
    server.assert_no_crash_in_log()
    assert path.read_bytes() == garbage
    server.output.close()
    server.process = None
