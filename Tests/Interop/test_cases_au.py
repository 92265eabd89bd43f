"""Authentication, cases AU-01 to AU-27 of the security catalogue."""

import os
import statistics
import struct
import time

import pytest

import stunwire as stun
from harness import PASSWORD, fill_with_users, wait_until

ALLOCATE_ATTRIBUTES = [(stun.REQUESTED_TRANSPORT, stun.UDP)]
PLENTY = {"limits": {"unauthenticated_replies_per_second": 1_000_000, "allocations_per_user": 1000}}


@pytest.fixture(scope="module")
def patient(serve_module):
    """A server that answers every unauthenticated request, for cases that need many from one address."""
    return serve_module(PLENTY, users={"alice": PASSWORD, "bob": "another long passphrase 43"})


@pytest.fixture(params=["udp", "tcp"])
def client(server, request):
    with server.client() if request.param == "udp" else server.stream_client() as client:
        yield client
        if client.relayed:
            client.refresh(0)


def without(attributes, *kinds):
    return [attribute for attribute in attributes if attribute[0] not in kinds]


def signed_by_hand(client, attributes, method=stun.ALLOCATE, integrity="sha1", key=None):
    return client.request(method, ALLOCATE_ATTRIBUTES + attributes, key=key or client.key, integrity=integrity)


def assert_challenge(answer, code):
    assert answer.error == code, answer
    assert answer.reason == b""
    assert sorted(answer.kinds()) == sorted(
        [stun.ERROR_CODE, stun.REALM, stun.NONCE, stun.PASSWORD_ALGORITHMS]), answer


def test_AU_01_an_allocate_without_integrity_is_challenged(client):
    answer = client.request(stun.ALLOCATE, ALLOCATE_ATTRIBUTES)
    assert_challenge(answer, 401)
    assert answer.get(stun.REALM) == b"turnpike"
    features = stun.nonce_features(answer.get(stun.NONCE))
    assert features is not None, "the nonce does not start with the cookie"
    assert features & 1 << 0, "the password algorithms bit is not set"
    offered = answer.get(stun.PASSWORD_ALGORITHMS)
    assert stun.SHA256_ALGORITHM in offered and stun.MD5_ALGORITHM in offered
    for method in (stun.REFRESH, stun.CREATE_PERMISSION, stun.CHANNEL_BIND):
        assert client.request(method).error == 401


@pytest.mark.parametrize("missing", [stun.USERNAME, stun.REALM, stun.NONCE], ids=["USERNAME", "REALM", "NONCE"])
def test_AU_02_integrity_without_its_companions_is_400(client, missing):
    client.challenge()
    answer = signed_by_hand(client, without(client.credentials(), missing))
    assert answer.error == 400 and answer.kinds() == [stun.ERROR_CODE], answer


def test_AU_03_an_unknown_user_looks_like_a_wrong_password(patient):
    """Same code, attributes and length, and the time taken does not tell them apart."""
    with patient.client() as client:
        client.challenge()
        times = {"known": [], "unknown": []}
        shapes = set()
        for number in range(10_000):
            for kind in times:
                client.username = "alice" if kind == "known" else "nobod"
                client.password = "wrong"
                request = client.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES)
                start = time.perf_counter()
                answer = client.exchange(request)
                times[kind].append(time.perf_counter() - start)
                shapes.add((answer.error, tuple(answer.kinds()), len(answer.raw)))
                if number % 200 == 0:
                    client.learn(answer)
    assert len(shapes) == 1 and next(iter(shapes))[0] == 401, shapes
    # The chance that an unknown name's answer takes longer than a known one's: 0.5 when they cannot be told apart.
    known = sorted(times["known"])
    slower = sum(_rank(known, sample) for sample in times["unknown"]) / len(known) / len(times["unknown"])
    medians = {kind: statistics.median(samples) * 1e6 for kind, samples in times.items()}
    assert 0.35 < slower < 0.65, f"unknown is slower with probability {slower:.2f}, medians in us: {medians}"


def test_AU_03_the_first_probe_of_a_name_does_not_tell_whether_it_is_there(serve):
    """Neither is in any cache, so both ask the account store."""
    server = serve({**PLENTY, "workers": 1}, start=False)
    fill_with_users(server, 3_000, lambda number: f"user{number:05}")
    server.start()
    times, shapes = {"known": [], "unknown": []}, set()
    with server.client(password="wrong") as client:
        client.challenge()
        for number in range(3_000):
            # Each name once, of one length, and turn about which kind comes first.
            kinds = ("known", "unknown") if number % 2 else ("unknown", "known")
            for kind in kinds:
                client.username = f"user{number:05}" if kind == "known" else f"nobo{number:05}"
                request = client.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES)
                start = time.perf_counter()
                answer = client.exchange(request)
                times[kind].append(time.perf_counter() - start)
                shapes.add((answer.error, tuple(answer.kinds()), len(answer.raw)))
    assert len(shapes) == 1 and next(iter(shapes))[0] == 401, shapes
    known = sorted(times["known"])
    slower = sum(_rank(known, sample) for sample in times["unknown"]) / len(known) / len(times["unknown"])
    medians = {kind: statistics.median(samples) * 1e6 for kind, samples in times.items()}
    print(f"unknown is slower with probability {slower:.3f}, medians in us: {medians}")
    assert 0.3 < slower < 0.7, f"unknown is slower with probability {slower:.2f}, medians in us: {medians}"


def _rank(ordered, sample):
    import bisect

    return (bisect.bisect_left(ordered, sample) + bisect.bisect_right(ordered, sample)) / 2


def test_AU_04_an_integrity_off_by_one_bit_is_401(client):
    client.challenge()
    for position, bit in ((0, 0), (9, 3), (19, 7)):
        request = bytearray(client.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES))
        request[len(request) - 20 + position] ^= 1 << bit
        assert_challenge(client.exchange(bytes(request)), 401)


def test_AU_05_a_nonce_past_its_lifetime_is_438_and_the_retry_succeeds(serve):
    server = serve({"auth": {"nonce_lifetime": "1s"}, **PLENTY})
    with server.client() as client:
        client.allocated()

        def stale():
            answer = client.call(stun.REFRESH, renew=False)
            return answer if answer.error == 438 else None

        answer = wait_until(stale, 15, "the nonce grows stale")
        assert_challenge(answer, 438)
        assert answer.get(stun.NONCE) != client.nonce
        assert client.refresh(600).is_success
        # And a stale nonce in an Allocate, on a 5-tuple of its own.
    with server.client() as client:
        client.challenge()
        wait_until(lambda: client.call(stun.REFRESH, renew=False).error == 438, 15, "the nonce grows stale")
        assert client.allocate().is_success


def test_AU_06_a_nonce_of_another_address_or_port_is_438(server):
    with server.client() as owner:
        owner.challenge()
        with server.client(local=(owner.local[0], 0)) as other_port, server.client() as other_host:
            for thief in (other_port, other_host):
                thief.realm, thief.nonce, thief.algorithms = owner.realm, owner.nonce, owner.algorithms
                answer = thief.exchange(thief.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES))
                assert_challenge(answer, 438)
                # No allocation came of it: with a nonce of its own, Refresh finds none.
                thief.learn(answer)
                assert thief.refresh(600).error == 437


def test_AU_07_a_nonce_changed_in_any_character_is_438(patient):
    with patient.client() as client:
        client.challenge()
        nonce = client.nonce
        variants = [nonce[:i] + bytes([nonce[i] ^ 1]) + nonce[i + 1 :] for i in range(len(nonce))]
        variants += [nonce[:-1], nonce[: len(nonce) // 2], nonce + nonce, b"", b"x"]
        for variant in variants:
            client.nonce = variant
            answer = client.exchange(client.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES))
            assert answer.error == 438, f"nonce {variant!r}: {answer}"


def test_AU_08_a_replay_has_no_second_effect(server):
    with server.client() as client, server.client() as elsewhere:
        client.challenge()
        request = client.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES)
        first = client.exchange(request)
        assert first.is_success
        for _ in range(3):
            again = client.exchange(request)
            assert again.is_success
            assert again.get(stun.XOR_RELAYED_ADDRESS) == first.get(stun.XOR_RELAYED_ADDRESS)
        assert elsewhere.exchange(request).error == 438
        assert client.refresh(0).is_success
        assert client.refresh(600).error == 437, "one Refresh with 0 has to end all there is"


def test_AU_08_a_replay_after_the_nonce_has_expired_is_438(serve):
    server = serve({"auth": {"nonce_lifetime": "1s"}, **PLENTY})
    with server.client() as client:
        client.challenge()
        request = client.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES)
        assert client.exchange(request).is_success
        assert client.refresh(0).is_success

        def refused():
            answer = client.exchange(request)
            assert answer.error in (437, 438) or answer.is_success, answer
            return answer.error == 438

        wait_until(refused, 15, "the replay meets a stale nonce")


def test_AU_09_password_algorithms_other_than_offered_are_400(server):
    with server.client(integrity="sha256") as client:
        client.challenge()
        base = without(client.credentials(), stun.PASSWORD_ALGORITHMS, stun.PASSWORD_ALGORITHM)
        offered = (stun.PASSWORD_ALGORITHMS, client.algorithms)
        chosen = (stun.PASSWORD_ALGORITHM, stun.SHA256_ALGORITHM)
        altered = [
            [(stun.PASSWORD_ALGORITHMS, stun.MD5_ALGORITHM), (stun.PASSWORD_ALGORITHM, stun.MD5_ALGORITHM)],
            [(stun.PASSWORD_ALGORITHMS, stun.SHA256_ALGORITHM), chosen],
            [offered], [chosen],
            [offered, (stun.PASSWORD_ALGORITHM, struct.pack("!HH", 3, 0))],
            [offered, (stun.PASSWORD_ALGORITHM, struct.pack("!HH", 0, 0))],
            [(stun.PASSWORD_ALGORITHMS, client.algorithms + struct.pack("!HH", 9, 0)), chosen],
        ]
        for attributes in altered:
            answer = signed_by_hand(client, base + attributes, integrity="sha256")
            assert answer.error == 400, f"{attributes}: {answer}"


def test_AU_10_clearing_the_nonces_feature_bits_is_438(server):
    with server.client() as client:
        client.challenge()
        client.nonce = client.nonce[:9] + b"AAAA" + client.nonce[13:]
        assert client.exchange(client.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES)).error == 438


def test_AU_11_a_browser_without_password_algorithms_uses_md5(client):
    assert client.allocate().is_success


def test_AU_11_require_sha256_refuses_legacy_authentication(serve):
    server = serve({"auth": {"require_sha256": True}})
    with server.client() as legacy, server.client(integrity="sha256") as modern:
        legacy.challenge()
        assert legacy.call(stun.ALLOCATE, ALLOCATE_ATTRIBUTES).error == 401
        assert modern.allocate().is_success


def test_AU_12_a_userhash_is_accepted_and_a_wrong_one_is_401(server):
    for integrity in ("sha1", "sha256"):
        with server.client(integrity=integrity, hashed=True) as client, server.client() as wrong:
            challenge = client.challenge()
            assert stun.nonce_features(challenge.get(stun.NONCE)) & 1 << 1, "the anonymity bit is not set"
            assert client.allocate().is_success
            client.refresh(0)
            wrong.challenge()
            attributes = without(wrong.credentials(), stun.USERNAME) + [(stun.USERHASH, os.urandom(32))]
            assert_challenge(signed_by_hand(wrong, attributes), 401)


@pytest.mark.parametrize("size", [0, 4, 16, 20, 28, 33])
def test_AU_13_a_truncated_sha256_integrity_is_refused(server, size):
    with server.client(integrity="sha256") as client:
        client.challenge()
        request = client.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES)
        body = request[20:-36]
        padded = size + -size % 4
        import hashlib
        import hmac

        covered = stun.header(stun.ALLOCATE, stun.REQUEST, len(body) + 4 + padded, request[8:20]) + body
        value = (hmac.new(client.key, covered, hashlib.sha256).digest() + bytes(4))[:size]
        body += stun.attribute(stun.MESSAGE_INTEGRITY_SHA256, value)
        answer = client.exchange(stun.header(stun.ALLOCATE, stun.REQUEST, len(body), request[8:20]) + body)
        assert answer.error in (400, 401), answer


def test_AU_14_of_two_integrities_sha256_decides(server):
    with server.client(integrity="sha256") as client:
        client.challenge()
        transaction = stun.transaction_id()
        body = b"".join(stun.attribute(*a) for a in ALLOCATE_ATTRIBUTES + client.credentials())
        legacy = stun.md5_key(client.username, client.realm, client.password)
        body = stun.add_integrity(stun.ALLOCATE, stun.REQUEST, body, transaction, legacy, "sha1")
        body = stun.add_integrity(stun.ALLOCATE, stun.REQUEST, body, transaction, b"not the key", "sha256")
        answer = client.exchange(stun.header(stun.ALLOCATE, stun.REQUEST, len(body), transaction) + body)
        assert answer.error == 401, answer


def test_AU_15_another_users_credentials_on_a_5_tuple_are_441(server):
    with server.client("alice") as client, server.peer("127.0.0.2") as peer:
        client.allocated().permitted(peer.address)
        client.username, client.password = "bob", server.users["bob"]
        assert client.refresh(0).error == 441
        assert client.create_permission(("127.0.0.3", 1)).error == 441
        assert client.channel_bind(0x4000, peer.address).error == 441
        client.username, client.password = "alice", server.users["alice"]
        peer.send(b"still here", client.relayed)
        assert client.receive_data() == (peer.address, b"still here")
        assert client.refresh(0).is_success


@pytest.mark.parametrize("integrity", ["sha1", "sha256"])
def test_AU_16_answers_carry_the_integrity_of_the_request(server, integrity):
    other = {"sha1": stun.MESSAGE_INTEGRITY_SHA256, "sha256": stun.MESSAGE_INTEGRITY}[integrity]
    with server.client(integrity=integrity) as client, server.peer() as peer:
        challenge = client.challenge()
        assert stun.MESSAGE_INTEGRITY not in challenge.kinds()
        assert stun.MESSAGE_INTEGRITY_SHA256 not in challenge.kinds()
        for answer in (client.allocate(), client.create_permission(peer.address), client.refresh(600)):
            assert answer.is_success and other not in answer.kinds()
        # An error after authentication is signed as well.
        refused = client.call(stun.CREATE_PERMISSION)
        assert refused.error == 400 and refused.verify(client.key, integrity)
        peer.send(b"hello", client.relayed)
        indication = stun.Message.parse(client.receive())
        assert sorted(indication.kinds()) == [stun.XOR_PEER_ADDRESS, stun.DATA_ATTRIBUTE]
        client.refresh(0)


@pytest.fixture(scope="module")
def rest(serve_module):
    return serve_module(PLENTY, secrets={"first": "first shared secret, long"})


def test_AU_17_time_limited_usernames_out_of_range_are_401(rest):
    now = int(time.time())
    secret = "first shared secret, long"
    good = stun.time_limited(secret, "u", now + 3600)
    with rest.client(*good) as client:
        assert client.allocate().is_success
        client.refresh(0)
    wrong = [f"{now - 5}:u", f"{now + 25 * 3600}:u", "abc:u", ":u", "123", "-1:u", "+1:u", " 1:u", f"{2**63}:u",
             f"{10**30}:u", f"{2**64 + now + 3600}:u", f"+{now + 3600}:u", f" {now + 3600}:u", f"{now + 3600}.0:u"]
    import base64
    import hashlib
    import hmac

    for username in wrong:
        password = base64.b64encode(hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()).decode()
        with rest.client(username, password) as client:
            assert client.allocate().error == 401, username


def test_AU_18_a_second_secret_is_accepted_and_a_removed_one_is_not(serve):
    server = serve(PLENTY, secrets={"old": "the old secret, long enough"})
    expiry = int(time.time()) + 3600
    old = stun.time_limited("the old secret, long enough", "u", expiry)
    new = stun.time_limited("the new secret, long enough", "u", expiry)

    def outcome(credentials):
        with server.client(*credentials) as client:
            answer = client.allocate()
            if answer.is_success:
                client.refresh(0)
            return answer.error or "success"

    assert (outcome(old), outcome(new)) == ("success", 401)
    server.cli("secret", "add", "new", "--stdin", input="the new secret, long enough\n")
    wait_until(lambda: outcome(new) == "success", 1.0, "the server knows the new secret")
    assert outcome(old) == "success"
    server.cli("secret", "remove", "old")
    wait_until(lambda: outcome(old) == 401, 1.0, "the server has forgotten the old secret")
    assert outcome(new) == "success"


@pytest.mark.parametrize("command", ["disable", "remove"])
def test_AU_19_a_disabled_or_removed_users_allocations_end_within_a_second(serve, command):
    server = serve(users={"alice": PASSWORD, "bob": "another long passphrase 43"})
    with server.client("alice") as client, server.client("bob") as bystander, server.peer() as peer:
        client.allocated().permitted(peer.address)
        bystander.allocated().permitted(peer.address)
        port = client.relayed[1]
        assert server.has_relay_port(port)
        server.cli("user", command, "alice")
        wait_until(lambda: not server.has_relay_port(port), 1.0, "the relay port is closed")
        client.send_to(peer.address, b"too late")
        bystander.send_to(peer.address, b"other users go on")
        assert peer.receive()[0] == b"other users go on"
        assert client.refresh(600).error in (401, 437, 441)
        assert client.allocate().error == 401


def test_AU_19_a_new_user_can_allocate_within_a_second_and_an_enabled_one_again(serve):
    server = serve(PLENTY)
    password = "a passphrase for the newcomer"

    def allocates():
        with server.client("carol", password) as client:
            success = client.allocate().is_success
            if success:
                client.refresh(0)
            return success

    assert not allocates()
    server.cli("user", "add", "carol", "--password-stdin", input=password + "\n")
    wait_until(allocates, 1.0, "carol can allocate")
    server.cli("user", "disable", "carol")
    wait_until(lambda: not allocates(), 1.0, "carol is disabled")
    server.cli("user", "enable", "carol")
    wait_until(allocates, 1.0, "carol can allocate again")
    changed = "another passphrase for the newcomer"
    server.cli("user", "passwd", "carol", "--password-stdin", input=changed + "\n")
    wait_until(lambda: not allocates(), 1.0, "the old password is refused")
    password = changed
    # Each client may meet another worker, and each worker follows within the second by itself.
    wait_until(allocates, 1.0, "the new password is taken")


def test_AU_20_guessing_is_throttled_and_never_locks_the_victim_out(serve):
    server = serve()
    with server.client(password="wrong") as guesser:
        guesser.challenge()
        request = guesser.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES)
        start, cpu = time.monotonic(), server.cpu_seconds()
        for number in range(10_000):
            # A transaction each, at about 1,000 a second.
            guesser.send(guesser.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES))
            if number % 500 == 50:
                with server.client() as victim:
                    assert victim.allocate().is_success, "the victim is locked out"
                    victim.refresh(0)
            ahead = start + number / 1000 - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        elapsed, cpu = time.monotonic() - start, server.cpu_seconds() - cpu
        answers = guesser.drain_until_fence()
        assert request and len(answers) <= 10 * (int(elapsed) + 2), f"{len(answers)} answers in {elapsed:.1f} s"
        assert cpu < elapsed / 2, f"{cpu:.2f} s of CPU in {elapsed:.2f} s"


@pytest.mark.parametrize("realm", [b"", b"another", b"r" * 763, b"Turnpike"],
                         ids=["empty", "another", "longest", "other-case"])
def test_AU_22_a_realm_of_someone_else_is_refused(server, realm):
    with server.client() as client:
        client.challenge()
        attributes = without(client.credentials(), stun.REALM) + [(stun.REALM, realm)]
        for key in (client.key, stun.md5_key("alice", realm.decode(), PASSWORD)):
            assert signed_by_hand(client, attributes, key=key).error in (400, 401)


@pytest.mark.parametrize("token", [b"", b"\0", b"\xff" * 4, b"\xff\xff" + bytes(60), bytes(1000)],
                         ids=["empty", "one", "four", "nonce-length", "long"])
def test_AU_24_an_access_token_is_an_unknown_attribute(client, token):
    client.challenge()
    answer = client.call(stun.ALLOCATE, [*ALLOCATE_ATTRIBUTES, (stun.ACCESS_TOKEN, token)])
    assert answer.error == 420 and answer.get(stun.UNKNOWN_ATTRIBUTES) == b"\x00\x1b", answer


def test_AU_24_an_access_token_longer_than_any_message_is_met_with_silence(server):
    """Length 65,535 in a message that is shorter, as UDP cannot carry one that long."""
    with server.wire() as wire:
        for room in (0, 4, 60_000):
            wire.assert_silence_after(
                stun.build(stun.ALLOCATE, attributes=[struct.pack("!HH", stun.ACCESS_TOKEN, 65_535) + bytes(room)]))


@pytest.mark.parametrize("typed, sent", [
    ("\u30de\u30c8\u30ea\u30c3\u30af\u30b9", "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"),
    ("cafe\u0301", "caf\u00e9"), ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
    ("\u0633\u0644\u0627\u0645", "\u0633\u0644\u0627\u0645"), ("q\u0307\u0323", "q\u0323\u0307"),
], ids=["katakana", "combining", "hebrew", "arabic", "two-marks"])
def test_AU_23_whoever_prepares_his_strings_gets_in(serve, typed, sent):
    """Name and password as a keyboard gives them to the command, and as RFC 8265 has a client send them."""
    server = serve(PLENTY, users={})
    server.cli("user", "add", typed, "--password-stdin", input=f"The{typed}Matr\u3000IX\n")
    for hashed in (False, True):
        for integrity in ("sha1", "sha256"):
            with server.client(sent, f"The{sent}Matr IX", integrity=integrity, hashed=hashed) as client:
                assert client.allocate().is_success
                client.refresh(0)
    if typed != sent:
        # One who does not is somebody else, and disturbs nobody.
        with server.client(typed, f"The{sent}Matr IX") as client:
            assert client.allocate().error == 401
        with server.client(sent, f"The{sent}Matr IX") as client:
            assert client.allocate().is_success


@pytest.mark.parametrize("text", ["a\u00adb", "\u0378", "a\ufe0f", "\ue000", "a\u202eb"],
                         ids=["soft-hyphen", "unassigned", "variation", "private", "override"])
def test_AU_23_what_no_client_could_prepare_is_refused_with_the_mend(serve, text):
    server = serve(start=False)
    for arguments, typed in ((("user", "add", text), "a passphrase of many words"), (("user", "add", "carol"), text)):
        done = server.cli(*arguments, "--password-stdin", input=typed + "\n", check=False)
        assert done.returncode in (1, 64) and "leave" in done.stderr and text not in done.stderr, done.stderr


def test_AU_25_nothing_of_an_unauthenticated_request_is_remembered(client):
    origin = (stun.ORIGIN, b"https://elsewhere.example")
    lifetime = (stun.LIFETIME, struct.pack("!I", 3600))
    even = (stun.EVEN_PORT, b"\x80")
    answer = client.request(stun.ALLOCATE, [*ALLOCATE_ATTRIBUTES, origin, lifetime, even, (stun.REALM, b"elsewhere")])
    assert answer.error == 401 and answer.get(stun.REALM) == b"turnpike"
    client.learn(answer)
    granted = client.allocate()
    assert granted.is_success and granted.lifetime == 600
    assert stun.RESERVATION_TOKEN not in granted.kinds()


def test_AU_26_a_password_is_written_nowhere(serve):
    secret = "Zq7-unmistakable-passphrase-93jf"
    server = serve({"log": {"level": "trace"}}, users={"alice": secret})
    server.cli("user", "passwd", "alice", "--password-stdin", input=secret + "\n")
    with server.client() as client:
        client.allocated()
        for path in (f"/proc/{server.pid}/cmdline", f"/proc/{server.pid}/environ"):
            with open(path, "rb") as file:
                assert secret.encode() not in file.read(), path
        searched = [path for path in server.directory.rglob("*") if path.is_file()]
        assert any(path.name.endswith("sqlite3") for path in searched)
        for path in searched:
            assert secret.encode() not in path.read_bytes(), path
            assert secret.encode().hex().encode() not in path.read_bytes(), path
        # Nor does the process hold it, so no core could.
        assert not in_memory(server.pid, secret.encode())
        for path in searched:
            if "sqlite3" in path.name:
                assert path.stat().st_mode & 0o077 == 0, f"{path} is open to others"
        client.refresh(0)


def in_memory(pid, wanted):
    """Whether a process has these bytes anywhere it may write."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            first, last = (int(end, 16) for end in span.split("-"))
            if not mode.startswith("rw") or last - first > 1 << 28:
                continue
            try:
                memory.seek(first)
                if wanted in memory.read(last - first):
                    return True
            except OSError:
                continue
    return False


def test_AU_26_the_search_of_memory_finds_what_is_there(serve):
    """The realm is in the server's memory, so the search above would have found a password."""
    server = serve({"realm": "unmistakable-realm-4711"})
    with server.client() as client:
        client.challenge()
    assert in_memory(server.pid, b"unmistakable-realm-4711")


def test_AU_27_a_flood_of_forged_nonces_gets_no_more_than_the_capped_replies(serve):
    server = serve()
    with server.client() as client, server.client() as bystander:
        client.challenge()
        client.nonce = client.nonce[:-1] + (b"A" if client.nonce[-1:] != b"A" else b"B")
        client.password = "forged"
        before, memory = time.monotonic(), server.resident_kib()
        request = client.signed(stun.ALLOCATE, ALLOCATE_ATTRIBUTES)
        for _ in range(100):
            for _ in range(200):
                client.send(request)
            assert bystander.binding()
        answers = client.drain_until_fence()
        elapsed = time.monotonic() - before
        assert all(stun.Message.parse(a).error == 438 for a in answers)
        # Ten in each second of the server's clock, of which the flood touches one more than it lasts.
        assert len(answers) <= 10 * (int(elapsed) + 2), f"{len(answers)} answers in {elapsed:.1f} s"
        assert server.resident_kib() - memory < 2048
        assert bystander.allocate().is_success
