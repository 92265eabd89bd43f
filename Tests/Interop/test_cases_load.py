"""Resource exhaustion and crowds, cases RE-12 to RE-20 and AL-18 of the security catalogue."""

import contextlib
import os
import re
import socket
import statistics
import time

import pytest

import stunclient
import stunwire as stun
from harness import PASSWORD, REPOSITORY, fill_with_users, free_port, wait_until
from namespaces import Namespaces, run
from test_cases_am import forty_kinds
from test_tls import tls_client
from totals import Totals

BUSY = {"limits": {"allocations_per_user": 1_000_000, "unauthenticated_replies_per_second": 100_000}}
# How many packets of a kind a flood has; a long run sets more.
FLOOD = int(os.environ.get("TURNPIKE_FLOOD_PACKETS", 100_000))
# How many allocations end in one second.
CROWD = int(os.environ.get("TURNPIKE_CROWD", 5_000))
UDP_SEGMENT = 103


def warnings(server, text):
    return [entry for entry in server.log_entries() if entry["level"] == "warning" and text in entry["message"]]


def test_RE_12_an_allocation_has_4096_channels_and_no_more(serve):
    server = serve(BUSY)
    with server.client() as client, server.peer("127.0.0.2") as peer:
        client.allocated().bound(0x4000, peer.address)
        ports = [port for port in range(20_000, 24_200) if port != peer.address[1]][:4095]
        for number, port in enumerate(ports, 0x4001):
            client.bound(number, ("127.0.0.2", port))
        for number in (0x3FFF, 0x5000):
            assert client.channel_bind(number, ("127.0.0.2", 30_000)).error == 400
        with stunclient.Peer(("127.0.0.2", ports[-1])) as last:
            for number, target in ((0x4000, peer), (0x4FFF, last)):
                client.send_channel(number, b"through")
                assert target.receive() == (b"through", client.relayed)
                target.send(b"and back", client.relayed)
                assert client.receive_data() == (number, b"and back")
        client.refresh(0)


def test_RE_14_wrong_integrity_under_a_good_nonce_costs_a_bounded_number_of_checks(serve):
    """By counters: how many proofs were looked into, and that nothing of the others' was lost."""
    server = serve({"workers": 1})
    with server.client() as attacker, server.client() as bystander, server.peer() as peer, server.client() as late:
        bystander.allocated().bound(0x4000, peer.address)
        late.challenge()
        attacker.challenge()
        attacker.password = "wrong"
        requests = [attacker.signed(stun.ALLOCATE, [(stun.REQUESTED_TRANSPORT, stun.UDP)]) for _ in range(500)]
        start, sent, rate = time.monotonic(), 0, 50_000
        while sent < 2 * rate:
            for request in requests:
                attacker.send(request)
            sent += len(requests)
            bystander.send_channel(0x4000, b"served")
            assert peer.receive() == (b"served", bystander.relayed)
            ahead = start + sent / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        elapsed = time.monotonic() - start
        assert bystander.refresh(600).is_success and late.allocate().is_success
        answers = attacker.drain_until_fence()
        assert all(stun.Message.parse(answer).error == 401 for answer in answers)
        assert len(answers) <= 10 * (elapsed + 2)
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    # Two hundred in a second: twenty for each of the ten error replies.
    assert 200 <= totals.authentication_failures <= 200 * (elapsed + 2), totals.authentication_failures
    assert totals.dropped["failure_budget"] > sent / 2 - totals.authentication_failures, totals.dropped


def segments(sock, server, datagram, count):
    """Sends one datagram so often, some dozens with each call."""
    if not datagram:
        for _ in range(count):
            sock.sendto(b"", server)
        return
    each = min(64, 65_000 // len(datagram))
    sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, len(datagram))
    for _ in range(-(-count // each)):
        sock.sendto(datagram * each, server)


def test_RE_15_bad_packets_write_no_log(serve):
    server = serve({"workers": 1, "log": {"level": "trace"}})
    kinds = [kind for kind in forty_kinds() if kind] + [
        os.urandom(19), b"\x00\x01\x00\x03" + os.urandom(40), b"\x40\x00\xff\xff123", b"\x16\xfe\xfd" + bytes(40),
        stun.build(stun.BINDING, fingerprint=True)[:-1] + b"\0", stun.build(stun.SEND, stun.INDICATION),
        stun.build(stun.ALLOCATE, attributes=[(stun.USERNAME, b"a\r\nlevel=error %n\x1b[2J")], key=b"forged"),
    ]
    size, lines = len(server.log()), len(server.log().splitlines())
    start = time.monotonic()
    for kind in kinds:
        with server.wire() as wire:
            segments(wire.socket, server.address, kind, FLOOD)
    # What still waits in the kernel is worked off first.
    wait_until(lambda: server.answers("127.0.0.1"), 20, "the server answers again")
    with server.client() as client:
        client.allocated().refresh(0)
    elapsed = time.monotonic() - start
    # Besides the client's own lines and a warning of a limit.
    assert len(server.log().splitlines()) - lines <= 10 + elapsed / 60, server.log()[-3000:]
    assert len(server.log()) - size < 1 << 14
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    # The kernel drops what a full buffer cannot take; of each kind, hundreds have come through at least.
    assert totals.packets_in > 500 * len(kinds), totals.packets_in


def test_RE_16_admission_refuses_before_memory_runs_out(serve):
    """256 MiB, and four times the allocations and connections that fit into them."""
    limit = 256 << 20
    port = free_port()
    server = serve({"listen": {"tls": [f"127.0.0.1:{port}"]},
                    "limits": {**BUSY["limits"], "memory_bytes": limit}})
    server.tls_port = port
    plan = next(entry for entry in server.log_entries() if entry["message"] == "memory is planned for")
    allocations, connections = int(plan["allocations"]), int(plan["connections"])
    assert plan["from"] == "limits.memory_bytes" and 1000 < allocations < 10_000 and 200 < connections < 2_000
    highest = 0
    with contextlib.ExitStack() as stack:
        taken, outcomes = [], []
        for number in range(4 * allocations):
            # Those that are refused need no socket each.
            if outcomes[-1:] != [508]:
                client = stack.enter_context(server.client())
            answer = client.allocate()
            outcomes.append(answer.error)
            if answer.is_success:
                taken.append(client)
        assert outcomes.count(None) == allocations and outcomes.count(508) == 3 * allocations, outcomes[-3:]
        highest = max(highest, server.resident_kib())
        secured, refused = [], 0
        for number in range(4 * connections):
            try:
                secured.append(stack.enter_context(tls_client(server)))
            except OSError:
                refused += 1
        # Workers accept at the same time, so each may pass the limit by one.
        assert connections - 1 <= len(secured) <= connections + 2 and refused >= 3 * connections - 2
        highest = max(highest, server.resident_kib())
        print(f"{highest} KiB with {allocations} allocations and {len(secured)} TLS connections")
        assert highest << 10 < limit, f"{highest} KiB"
        # Who has a place is served, and what one leaves another can have.
        assert taken[0].refresh(600).is_success and taken[1].refresh(0).is_success
        assert taken[2].refresh(600).is_success and taken[1].allocate().is_success
        secured.pop().close()
        wait_until(lambda: _connects(server), 2, "a place among the connections is free")
        for client in taken:
            client.refresh(0)
    assert len(warnings(server, "a limit is four fifths used")) <= 10
    assert {entry["limit"] for entry in warnings(server, "a limit is four fifths used")} >= {
        "limits.allocations_total", "connections"}


def _connects(server):
    try:
        tls_client(server).close()
        return True
    except OSError:
        return False


def test_RE_17_a_hundred_thousand_users_with_long_names_cost_no_memory(serve):
    users = 100_000
    server = serve({**BUSY, "workers": 1}, start=False)

    def name(number):
        return "n" * 200 + str(number)

    fill_with_users(server, users, name)
    server.start()
    for number in (0, 1, 77_777, users - 1):
        with server.client(name(number), PASSWORD) as client:
            client.allocated().refresh(0)
        with server.client(name(number), PASSWORD, hashed=True, integrity="sha256") as client:
            client.allocated().refresh(0)
    before = server.resident_kib()
    with server.client() as client:
        client.challenge()
        for number in range(20_000):
            # Half of them are there, half are not, and none has this password.
            client.username = name(number if number % 2 else users + number)
            client.password = "wrong"
            assert client.call(stun.ALLOCATE).error == 401
    growth = server.resident_kib() - before
    print(f"{growth} KiB for 10,000 users looked up and 10,000 names that nobody has")
    assert growth < 16 * 1024, f"{growth} KiB"
    listed = server.cli("user", "list", "--format", "json").stdout
    assert listed.count('"name"') == users + 1
    server.cli("user", "disable", name(5))
    with server.client(name(5), PASSWORD) as client:
        wait_until(lambda: client.allocate().error == 401, 1, "the change is followed among so many")


def test_RE_18_predictable_hashes_refuse_the_start(serve):
    server = serve(start=False, environment={"SWIFT_DETERMINISTIC_HASHING": "1"})
    server.launch()
    assert server.process.wait(10) == 1
    server.output.close()
    server.process = None
    assert re.fullmatch(r"turnpike: SWIFT_DETERMINISTIC_HASHING is set, .*; unset it\n", server.log()), server.log()


def test_RE_19_a_full_send_buffer_drops_and_never_waits(serve, namespaces):
    """A narrow way out of the server's machine, and a client on a wide one."""
    server = serve({"relay": {"allow_peers": ["10.0.0.0/8"]}, "workers": 1}, hosts=Namespaces.SERVER[:1],
                   namespace=namespaces.server, relays_loopback=False)
    run("tc", "-n", namespaces.server, "qdisc", "add", "dev", "cable", "root", "tbf", "rate", "20mbit", "burst", "32kb",
        "limit", "64mb")
    payload = bytes(1_200)
    count = 8_000
    with server.client() as flooding, server.client() as other, \
            server.peer(Namespaces.WORLD[0], namespaces.world) as far, server.client() as near:
        # The peer of the other client is that client's neighbour: a relay of this very server.
        flooding.allocated().bound(0x4000, far.address)
        near.allocated()
        other.allocated().bound(0x4000, near.relayed)
        near.bound(0x4000, other.relayed)
        slowest = 0
        for number in range(count):
            flooding.send_channel(0x4000, payload)
            if number % 100 == 0:
                start = time.monotonic()
                other.send_channel(0x4000, b"%d" % number)
                assert near.receive_data() == (0x4000, b"%d" % number)
                slowest = max(slowest, time.monotonic() - start)
        assert other.refresh(600).is_success
        assert slowest < 0.5, f"a packet of another client took {slowest:.2f} s: the loop has waited"
        arrived = 0
        with contextlib.suppress(stunclient.Silence):
            while far.receive(2):
                arrived += 1
        # The socket works again as soon as there is room.
        flooding.send_channel(0x4000, b"afterwards")
        assert far.receive()[0] == b"afterwards"
        for client in (flooding, other, near):
            client.refresh(0)
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    dropped = totals.dropped["send_queue_full"] + totals.dropped["send_failed"]
    print(f"{arrived} of {count} arrived, {dropped} dropped: {totals.dropped}")
    assert dropped > count / 10 and arrived + dropped == count, (arrived, dropped)


def test_RE_20_a_limit_is_told_of_as_it_fills_and_once(serve):
    server = serve({"relay": {"min_port": 21700, "max_port": 21719}, "workers": 1,
                    "limits": {"allocations_per_user": 10, "allocations_total": 15,
                               "permissions_per_allocation": 10}},
                   users={"alice": PASSWORD, "bob": "another long passphrase 43"})

    def told():
        return sorted(entry["limit"] for entry in warnings(server, "a limit is four fifths used"))

    with contextlib.ExitStack() as stack:
        def allocate(name, count):
            return [stack.enter_context(server.client(name)).allocated() for _ in range(count)]

        first = allocate("alice", 7)
        for number in range(7):
            first[0].permitted((f"127.5.{number}.1", 9))
        time.sleep(2.5)
        assert told() == []
        allocate("alice", 1)
        first[0].permitted(("127.5.9.1", 9))
        expected = ["limits.allocations_per_user", "limits.permissions_per_allocation"]
        wait_until(lambda: told() == expected, 5, "both are told of")
        assert [entry["user"] for entry in warnings(server, "four fifths") if "user" in entry] == ["alice"]
        allocate("bob", 7)
        with server.client("bob") as late:
            assert late.allocate().error == 508
        expected = sorted([*expected, "limits.allocations_total"])
        wait_until(lambda: told() == expected, 5, "the total is told of")
        with server.client("alice") as late:
            assert late.allocate().error == 508
        time.sleep(2.5)
        assert told() == expected, "each once"


def test_RE_20_every_key_and_every_bound_is_in_the_table_of_limits():
    page = (REPOSITORY / "docs/operations.md").read_text()
    table = page[page.index("## Every limit"):]
    keys = re.findall(r'"(limits\.\w+)"', (REPOSITORY / "Sources/Settings/KeyTable.swift").read_text())
    assert len(keys) >= 8
    for key in keys:
        assert f"`{key}`" in table, f"{key} is not in the table"
    # What a server drops it counts, and the table says where.
    reasons = re.findall(r'case \.\w+: "(\w+)"', (REPOSITORY / "Sources/TURN/Counters.swift").read_text())
    for reason in ("reply_budget", "failure_budget", "parking_full", "send_queue_full", "over_bandwidth"):
        assert reason in reasons and f"`{reason}`" in table, reason
    # And what it warns of by another name than a key's.
    for name in re.findall(r'LimitUse\(\s*"([a-z ]+)', (REPOSITORY / "Sources/Server/LimitWatch.swift").read_text()):
        assert name.strip() in table, f"{name} is not in the table"


@pytest.mark.alone
def test_AL_18_a_crowd_that_ends_in_one_second_holds_no_packet_up(serve):
    """A credential that ends takes all its allocations along at once, a minute later."""
    addresses = [f"127.30.0.{number}" for number in range(1, -(-CROWD // 16_000) + 1)]
    server = serve({**BUSY, "workers": 1, "relay": {"addresses": ["127.0.0.1", *addresses]}},
                   secrets={"web": "a shared secret, long enough"})
    patience = 20 + CROWD // 500
    ends = int(time.time()) + patience
    credential = stun.time_limited("a shared secret, long enough", "crowd", ends)
    with server.client() as survivor, server.peer() as peer, contextlib.ExitStack() as stack:
        before = len(server.relay_sockets())
        made = 0
        for number in range(CROWD):
            # A socket for each, closed at once: what it holds lives on without it.
            with server.client(*credential) as client:
                made += client.allocate().is_success
        assert made == CROWD and time.time() < ends
        survivor.allocated().bound(0x4000, peer.address)
        lags, lost, ended_at = [], 0, None
        deadline = time.monotonic() + ends + 75 - time.time()
        while time.monotonic() < deadline:
            if time.time() < ends + 57:
                time.sleep(0.5)
                continue
            start = time.monotonic()
            survivor.send_channel(0x4000, b"in time")
            try:
                assert peer.receive(2) == (b"in time", survivor.relayed)
            except stunclient.Silence:
                lost += 1
            lags.append(time.monotonic() - start)
            if len(lags) % 50 == 0 and server.descriptors() < CROWD // 2:
                ended_at = ended_at or time.time()
                if server.descriptors() < 200:
                    break
            time.sleep(0.001)
        assert ended_at, "the crowd has not ended"
        print(f"{CROWD} ended; lag at most {1000 * max(lags):.1f} ms, median {1000 * statistics.median(lags):.2f} ms")
        assert lost == 0
        assert max(lags) < 0.1, f"{max(lags):.3f} s"
        assert before == 0 and survivor.refresh(0).is_success
