"""Cases SG-01 to SG-20: who may say what to whom. Names carry the case."""

import base64
import contextlib
import datetime
import hmac
import json
import socket
import time

import pytest
from websockets.exceptions import ConnectionClosed

from harness import PASSWORD, wait_until
from signaling import API, BOB_PASSWORD, HOST, USERS, Peer, Raw, start


@pytest.fixture(scope="module")
def shared(serve_module):
    server = start(serve_module)
    yield server
    server.assert_alive()


def same_but(message, *fields):
    return {name: value for name, value in message.items() if name not in ("timestamp", "id", *fields)}


@pytest.mark.parametrize("message", [
    {"type": "register", "peerId": "alice"}, {"type": "join-room", "peerId": "alice", "roomId": "r"},
    {"type": "offer", "to": "alice", "offer": 1}, {"type": "lookup", "peerId": "alice"}, {"type": "ice-servers"},
    {"type": "time", "t0": 1},
])
def test_SG_01_nothing_before_authentication(shared, message):
    with Peer(shared, hello=False) as stranger:
        stranger.send(**message)
        assert stranger.take("error")["code"] == "unauthenticated"
        code, seen = stranger.closing(timeout=12)
        assert code == 4401 and all(entry["type"] == "error" for entry in seen)


def test_SG_02_who_one_is_says_the_server(shared):
    with Peer(shared) as alice, Peer(shared, "bob") as bob:
        alice.register("alice/2")
        bob.register("bob/2")
        bob.send(**{"type": "signal", "to": "alice/2", "signal": 1, "from": "alice/2", "user": "admin", "role": "root"})
        # A name that is not his own is refused, and beside his own nothing that he claims is passed on.
        assert bob.take("error")["code"] == "forbidden"
        bob.send(**{"type": "signal", "to": "alice/2", "signal": 1, "user": "admin", "role": "root"})
        heard = alice.take("signal")
        assert heard["from"] == "bob/2" and "user" not in heard and "role" not in heard
        assert alice.skipped == []
        for stolen in ("alice", "alice/3", "alice/2"):
            bob.send(type="register", peerId=stolen)
            assert bob.take("error")["code"] == "forbidden"
        alice.send(type="register", peerId="bob")
        assert alice.take("error")["code"] == "forbidden"


def test_SG_03_an_absent_peer_and_an_unknown_one_are_the_same(shared):
    with Peer(shared) as alice, Peer(shared, "bob") as bob:
        alice.register("alice/3")
        answers = []
        for to in ("bob/never", "nobody", "carol/1"):
            alice.send(type="offer", to=to, offer="x")
            error = alice.take("error")
            answers.append(json.dumps(same_but(error)).replace(to, "N"))
        assert len(set(answers)) == 1 and "N not found" in answers[0]
        assert bob.is_silent()


def test_SG_05_presence_is_for_members(shared):
    with Peer(shared) as alice, Peer(shared, "bob") as bob:
        alice.register("alice/5")
        bob.register("bob/5")
        alice.join("alice/5", "five")
        assert bob.is_silent()
        bob.join("bob/5", "five")
        alice.take("peer-joined")
        bob.ask("room-left", type="leave-room", peerId="bob/5", roomId="five")
        alice.take("peer-left")
        alice.send(type="broadcast", roomId="five", data="secret")
        alice.ask("pong", type="ping")
        assert bob.is_silent()
        bob.send(type="broadcast", roomId="five", data="from outside")
        assert bob.take("error")["code"] in ("forbidden", "not-found")
        assert alice.is_silent()


def test_SG_07_a_message_of_a_byte_too_much(shared):
    with Peer(shared) as alice:
        alice.socket.send(json.dumps({"type": "offer", "to": "x", "offer": "v" * 65_536}))
        code, seen = alice.closing()
        assert code == 1009 and seen[-1]["code"] == "too-large"


def test_SG_07_ten_thousand_candidates(shared):
    with Peer(shared) as alice, Peer(shared, "bob") as bob:
        alice.register("alice/7")
        bob.register("bob/7")
        try:
            for number in range(10_000):
                alice.send(type="ice-candidate", to="bob/7", candidate=number)
        except Exception:
            pass
        code, seen = alice.closing()
        limited = [entry for entry in seen if entry["type"] == "error"]
        assert code == 1008 and limited[0]["code"] == "rate-limited" and limited[0]["retryAfterMs"] > 0
        assert bob.ask("pong", type="ping")


DEEP = b'{"a":' * 100 + b"1" + b"}" * 100


@pytest.mark.parametrize("text", [
    DEEP, b"[" * 60_000, b'{"type":"time","t0":1e400}', b'{"type":"ping","type":"register"}', b'{"type":"ping"',
    b'{"type":"\\ud800"}', b"\xef\xbb\xbf{}", b'{"type":"ping"} x', b"", b"null", b'"ping"', b"[]", b"{'type':'ping'}",
    b'{"type":' + b"9" * 400 + b"}", b'{"type":"ping","id":' + b"[" * 40 + b"]" * 40 + b"}", b"NaN",
])
def test_SG_08_json_that_is_none_or_too_clever(shared, text):
    credentials = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    with Raw(shared) as raw:
        assert raw.upgrade(f"Authorization: Basic {credentials}")[0] == 101
        assert json.loads(raw.receive()[1])["type"] == "welcome"
        raw.frame(1, text)
        opcode, payload = raw.receive()
        answer = json.loads(payload)
        assert opcode == 1 and answer["type"] == "error" and answer["code"] in ("bad-message", "bad-type")
        raw.frame(1, b'{"type":"ping"}')
        assert json.loads(raw.receive()[1])["type"] == "pong"


def test_SG_09_fifty_connections_of_a_user(serve):
    server = start(serve, {"signaling": {"connections_per_user": 5}})
    open_, refused = [], 0
    try:
        for _ in range(12):
            peer = Peer(server, hello=False)
            open_.append(peer)
            peer.send(type="hello", username="alice", password=PASSWORD)
            answer = peer.next()
            if answer["type"] == "error":
                assert answer["code"] == "too-many-connections"
                assert peer.closing()[0] == 1008
                refused += 1
        assert refused == 7
        with Peer(server, "bob") as bob:
            assert bob.ask("pong", type="ping")
    finally:
        for peer in open_:
            peer.close()


def test_SG_11_a_credential_that_ends_takes_its_socket_along(serve):
    server = start(serve, secrets={"web": "shared secret of the web"})
    options = ("--ttl", "3s", "--format", "json", "--config", str(server.config_path))
    minted = json.loads(server.cli("credentials", "carol", *options).stdout)
    with Peer(server, minted["username"], minted["password"]) as carol:
        code, seen = carol.closing(timeout=20)
        assert code == 4401 and seen[-1]["code"] == "unauthenticated"


def test_SG_11_a_user_whose_time_is_cut_short_goes_with_it(shared):
    admin = API(shared, over_socket=True)
    _, made, _ = admin.call("POST", "/api/v1/admin/users", {"name": "mayfly"})
    with Peer(shared, "mayfly", made["password"]) as mayfly:
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
        path = "/api/v1/admin/users/mayfly"
        assert admin.call("PATCH", path, {"expiresAt": end.strftime("%Y-%m-%dT%H:%M:%SZ")})[0] == 200
        code, seen = mayfly.closing(timeout=10)
        assert code == 4401 and seen[-1]["error"] == "The credentials have expired"


def test_SG_12_resume_tokens_are_bound_and_of_use_once(shared):
    with Peer(shared, "bob") as bob:
        bob.register("bob/12")
        bob.cut()
        token = bob.welcome["resumeToken"]
    with Peer(shared, hello=False) as thief:
        thief.send(type="hello", username="alice", password=PASSWORD, resume=token)
        answer = thief.next()
        assert answer["type"] == "error" or (answer["resumed"] is False and answer["user"] == "alice")
    with Peer(shared, "bob", resume=token) as first:
        assert first.welcome["resumed"] is True
        assert first.welcome["resumeToken"] != token
        with Peer(shared, hello=False) as second:
            second.send(type="hello", resume=token)
            assert second.take("error")["code"] in ("forbidden", "unauthenticated")
        assert first.ask("pong", type="ping")


@pytest.mark.parametrize("name", ["", "\u0000", "\u200b", "a\u202eb", "x" * 1_000, "a\nb"])
def test_SG_14_names_that_deceive_are_refused(shared, name):
    with Peer(shared) as alice:
        alice.register("alice/14")
        alice.send(type="join-room", peerId="alice/14", roomId=name)
        assert alice.take("error")["code"] == "bad-message"


@pytest.mark.parametrize("name", ["__proto__", "'; DROP TABLE users;--", "constructor", "日本語", "a/b?c#d%00"])
def test_SG_14_names_that_are_only_odd_are_taken_literally(shared, name):
    with Peer(shared) as alice:
        alice.register("alice/14")
        assert alice.join("alice/14", name)["roomId"] == name


def test_SG_15_credentials_for_who_is_known_at_a_bounded_rate_and_life(serve):
    server = start(serve)
    assert API(server).call("GET", "/api/v1/ice-servers")[0] == 401
    alice = API(server, "alice")
    assert alice.get("/api/v1/ice-servers?ttl=1000000000")["ttl"] == 86_400
    assert alice.get("/api/v1/ice-servers?ttl=99999999999999999999999")["ttl"] == 86_400
    assert alice.get("/api/v1/ice-servers?ttl=1")["ttl"] == 60
    for wrong in ("-1", "x", "", "1.5"):
        assert alice.call("GET", f"/api/v1/ice-servers?ttl={wrong}")[0] == 400
    assert alice.call("GET", "/api/v1/ice-servers?user=bob")[0] == 403
    minted = alice.get("/api/v1/ice-servers?ttl=600")["iceServers"][1]
    with server.client(minted["username"], minted["credential"]) as client:
        client.allocated()
    seen = [alice.call("GET", "/api/v1/ice-servers") for _ in range(40)]
    refused = [(body, fields) for status, body, fields in seen if status == 429]
    assert refused and int(refused[0][1]["Retry-After"]) >= 1
    assert API(server, "bob").call("GET", "/api/v1/ice-servers")[0] == 200


def test_SG_18_a_connection_that_breaks_the_rules_ends_alone(shared):
    with Peer(shared) as alice, Raw(shared) as raw:
        alice.register("alice/18")
        raw.upgrade()
        raw.frame(1, b"\xff")
        assert raw.close_code() == 1007
        assert alice.ask("pong", type="ping")


@pytest.mark.parametrize("level", ["trace", "debug", "info"])
def test_SG_19_no_secret_stands_in_a_log(serve, level):
    server = start(serve, {"log": {"level": level}}, secrets={"web": "SECRET-of-the-web"})
    _, made, _ = API(server, over_socket=True).call("POST", "/api/v1/admin/tokens", {"name": "t", "user": "alice"})
    tells = [PASSWORD, BOB_PASSWORD, "SECRET-of-the-web", made["token"], "SDP-of-alice", "candidate-of-alice",
             "WRONG-password"]
    with Peer(server) as alice, Peer(server, "bob") as bob, Peer(server, token=made["token"]) as third:
        tells += [alice.welcome["resumeToken"], third.welcome["resumeToken"]]
        tells += [entry["credential"] for entry in alice.welcome["iceServers"] if "credential" in entry]
        alice.register("alice")
        bob.register("bob")
        alice.send(type="offer", to="bob", offer={"sdp": "SDP-of-alice"})
        alice.send(type="ice-candidate", to="bob", candidate="candidate-of-alice")
        bob.take("ice-candidate")
        alice.socket.send('{"type":"offer","offer":"SDP-of-alice"')
        alice.take("error")
        with Peer(server, hello=False) as wrong:
            wrong.send(type="hello", username="alice", password="WRONG-password")
            wrong.take("error")
        API(server, "alice", "WRONG-password").call("GET", "/api/v1/rooms")
        API(server, "alice").call("GET", "/api/v1/ice-servers?token=WRONG-password")
        # Where things go wrong, too.
        admin = API(server, over_socket=True)
        admin.call("POST", "/api/v1/admin/users", {"name": "bob", "password": "WRONG-password"})
        admin.call("POST", "/api/v1/admin/users", {"name": "x y", "password": "WRONG-password"})
        admin.call("POST", "/api/v1/admin/users/alice/passwd", {"password": ["WRONG-password"]})
        admin.call("POST", "/api/v1/admin/secrets", {"name": "web", "value": "WRONG-password"})
        API(server, token="tpk_WRONG-password").call("GET", "/api/v1/admin/status")
        for bad in ("Basic WRONG-password", "Bearer", "WRONG-password"):
            API(server).call("GET", "/api/v1/rooms", headers={"Authorization": bad})
        with Raw(server) as raw:
            raw.send(b"GET /signal?token=WRONG-password HTTP/1.1\r\nAuthorization: WRONG-password\r\n\r\n")
            raw.head()
        with contextlib.suppress(OSError), socket.create_connection((HOST, server.https_port), timeout=5) as plain:
            plain.sendall(b"GET /WRONG-password HTTP/1.1\r\nAuthorization: Basic WRONG-password\r\n\r\n")
            plain.recv(100)
        for hello in ({"token": "WRONG-password"}, {"resume": "WRONG-password.WRONG-password"},
                      {"username": "WRONG-password", "password": "WRONG-password", "id": {}}):
            with Peer(server, hello=False) as wrong:
                wrong.send(type="hello", **hello)
                wrong.take("error")
        with Raw(server) as raw:
            raw.upgrade()
            raw.frame(1, b'{"type":"hello","password":"WRONG-password"')
            raw.close_code()
        tells.append(base64.b64encode(f"alice:{PASSWORD}".encode()).decode())
    server.stop()
    log = server.log()
    assert "serves" in log
    assert [tell for tell in tells if tell in log] == []


def test_SG_20_guesses_are_slowed_down_and_tell_nothing(serve):
    server = start(serve)
    statuses, bodies = [], set()
    for number in range(40):
        name = "alice" if number % 2 else f"user{number}"
        status, body, _ = API(server, name, f"guess {number}").call("GET", "/api/v1/rooms")
        statuses.append(status)
        if status == 401:
            bodies.add(json.dumps(body))
    assert statuses[0] == 401 and statuses[-1] == 429 and len(bodies) == 1
    # Who is not guessing from there is not held up: the command line.
    assert API(server, over_socket=True).call("GET", "/healthz")[0] == 200
    wait_until(lambda: server.assert_alive() is None, 1, "life")


def test_SG_16_many_clients_come_back_at_once(serve):
    server = start(serve, {"signaling": {"connections_per_user": 400, "connections_per_address": 400}})
    peers = [Peer(server) for _ in range(150)]
    tokens = [peer.welcome["resumeToken"] for peer in peers]
    for number, peer in enumerate(peers):
        peer.register(f"alice/{number}")
        peer.join(f"alice/{number}", f"room{number % 10}")
    for peer in peers:
        peer.cut()
    began = time.monotonic()
    back = [Peer(server, resume=token) for token in tokens]
    assert time.monotonic() - began < 10
    assert all(peer.welcome["resumed"] for peer in back)
    admin = API(server, over_socket=True)
    assert sum(room["peerCount"] for room in admin.get("/api/v1/rooms")["rooms"]) == 150
    for peer in back:
        peer.cut()


def test_SG_04_a_room_tells_nothing_to_who_is_not_in_it(shared):
    """A room has no list of who may enter: its name is its key. What can be asked about one is asked by a message to
    it."""
    with Peer(shared) as alice, Peer(shared, "bob") as bob:
        alice.register("alice/4")
        bob.register("bob/4")
        alice.join("alice/4", "room of alice")
        answers = []
        for room in ("room of alice", "no room at all"):
            bob.send(type="broadcast", roomId=room, data=1)
            error = bob.take("error")
            answers.append({**same_but(error), "error": error["error"].replace(room, "…")})
            for kind, member in (("signal", "signal"), ("offer", "offer")):
                bob.send(**{"type": kind, "to": "alice/4", "roomId": room, member: 1})
                error = bob.take("error")
                answers.append({**same_but(error), "error": error["error"].replace(room, "…")})
            status, body, _ = API(shared, "bob").call("GET", f"/api/v1/rooms/{room.replace(' ', '%20')}/peers")
            answers.append((status, json.dumps(body).replace(room, "…")))
        assert answers[:4] == answers[4:] and answers[0]["code"] == "not-found"
        assert alice.is_silent()


def test_SG_06_a_message_with_a_room_goes_only_inside_it(shared):
    with Peer(shared) as alice, Peer(shared, "bob") as bob, Peer(shared, "bob") as inside:
        for peer, name in ((alice, "alice/6"), (bob, "bob/6"), (inside, "bob/6b")):
            peer.register(name)
        alice.join("alice/6", "theirs")
        inside.join("bob/6b", "theirs")
        alice.take("peer-joined")
        bob.join("bob/6", "his own")
        members = {"offer": "offer", "answer": "answer", "ice-candidate": "candidate", "signal": "signal"}
        for kind, member in members.items():
            for room in ("theirs", "his own"):
                bob.send(**{"type": kind, "to": "alice/6", "roomId": room, member: 1})
                assert bob.take("error")["code"] == "not-found", (kind, room)
            inside.send(**{"type": kind, "to": "alice/6", "roomId": "theirs", member: 2})
            assert alice.take(kind)[member] == 2
        bob.send(type="broadcast", roomId="theirs", data=1)
        assert bob.take("error")["code"] == "not-found"
        assert alice.is_silent() and alice.skipped == []


def test_SG_09_who_is_over_the_limit_is_refused_and_closed_and_others_get_everything(serve):
    server = start(serve, {"signaling": {"messages_per_second": 20, "burst": 40}})
    with Peer(server) as alice, Peer(server, "bob") as bob, Peer(server, "bob") as loud:
        for peer, name in ((alice, "alice"), (bob, "bob"), (loud, "bob/loud")):
            peer.register(name)
        # What it sends after it was closed is heard by nobody; whether it notices depends on when it reads.
        with contextlib.suppress(ConnectionClosed):
            for number in range(400):
                loud.send(type="signal", to="alice", signal="noise")
                if number % 100 == 0:
                    bob.send(type="signal", to="alice", signal=number)
        code, seen = loud.closing()
        refusals = [message for message in seen if message["type"] == "error"]
        assert code == 1008 and refusals
        assert all(error["code"] == "rate-limited" and error["retryAfterMs"] > 0 for error in refusals)
        bob.send(type="signal", to="alice", signal="last")
        heard = []
        while heard[-1:] != ["last"]:
            message = alice.take("signal")
            if message["from"] == "bob":
                heard.append(message["signal"])
        assert heard == [*(100 * number for number in range(len(heard) - 1)), "last"] and len(heard) > 1
        assert alice.ask("pong", type="ping") and bob.is_silent()


def test_SG_10_broadcasts_are_paid_by_their_copies(serve):
    """A room of a hundred, and one who talks as much as he may: he is refused long before his messages are used up, and
    another room goes on."""
    server = start(serve, {"signaling": {"messages_per_second": 1, "burst": 110, "connections_per_user": 400,
                                         "connections_per_address": 400}},
                   users={**USERS, "carol": PASSWORD})
    members = [Peer(server, "bob" if number % 2 else "carol") for number in range(100)]
    for number, member in enumerate(members):
        name = f"{member.welcome['user']}/{number}"
        member.register(name)
        member.join(name, "crowd")
    with Peer(server) as loud, Peer(server) as alice, Peer(server) as other:
        for peer, name, room in ((loud, "alice/loud", "crowd"), (alice, "alice/1", "calm"), (other, "alice/2", "calm")):
            peer.register(name)
            peer.join(name, room)
        sent = 0
        while sent < 100:
            loud.send(type="broadcast", roomId="crowd", data=sent, id=sent)
            sent += 1
        loud.send(type="ping")
        refused = []
        while (message := loud.next())["type"] != "pong":
            if message["type"] == "error":
                refused.append(message)
        assert refused and all(error["code"] == "rate-limited" for error in refused)
        numbers = sorted(set(range(sent)) - {error["id"] for error in refused})
        assert 0 < len(numbers) < sent
        # Everybody has what was taken, and nothing of what was refused.
        for member in members[::20]:
            assert [member.take("broadcast")["data"] for _ in numbers] == numbers
            assert member.is_silent()
        assert alice.ask("pong", type="ping") and other.ask("pong", type="ping")
    for member in members:
        member.cut()


def signed(header, claims, key=b""):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    text = part(header) + b"." + part(claims)
    mac = base64.urlsafe_b64encode(hmac.digest(key, text, "sha256")).rstrip(b"=") if key else b""
    return (text + b"." + mac).decode()


def test_SG_13_there_are_no_json_web_tokens(serve):
    """A token is looked up whole: nothing in it is read, so that nothing in it can be believed."""
    server = start(serve, secrets={"web": "shared secret of the web"})
    claims = {
        "sub": "alice", "user": "alice", "admin": True, "aud": "turnpike", "iss": "turnpike", "exp": 4_000_000_000,
    }
    certificate = (server.data / "certificate.pem").read_bytes()
    tokens = [
        signed({"alg": "none", "typ": "JWT"}, claims), signed({"alg": "nOnE"}, claims),
        signed({"alg": "HS256"}, claims, certificate), signed({"alg": "HS256"}, claims, b"shared secret of the web"),
        signed({"alg": "HS256", "kid": "../../../../dev/null"}, claims, b"\0"),
        signed({"alg": "HS256"}, {**claims, "exp": 4_000_000_000_000}, b"secret"),
    ]
    for token in tokens:
        for path in ("/api/v1/rooms", "/api/v1/ice-servers", "/api/v1/admin/status"):
            assert API(server, token=token).call("GET", path)[0] in (401, 429)
    for token in tokens[:3]:
        with Peer(server, hello=False) as stranger:
            stranger.send(type="hello", token=token)
            assert stranger.take("error")["code"] == "unauthenticated"


def test_SG_17_under_drain_every_message_arrives_once_and_in_order_or_is_reported(serve):
    """While the server drains, one peer writes to another until his connection is closed. Each message is heard once,
    in order, or it is the last part of what was sent, on connections that were told to come back."""
    server = start(serve, {"signaling": {"messages_per_second": 10_000, "burst": 10_000}})
    with Peer(server) as alice, Peer(server, "bob") as bob:
        alice.register("alice")
        bob.register("bob")
        assert API(server, over_socket=True).call("POST", "/api/v1/admin/drain?seconds=3")[0] == 202
        sent = 0
        acknowledged = -1
        try:
            while sent < 20_000:
                alice.send(type="signal", to="bob", signal=sent, id=sent)
                sent += 1
                if sent % 20 == 0:
                    # A pong says that everything before it was taken.
                    alice.send(type="ping", id=sent)
                    alice.take("pong")
                    acknowledged = sent - 1
        except ConnectionClosed:
            pass
        code, after = bob.closing(timeout=15)
        assert code == 1001
        heard = [message["signal"] for message in after if message["type"] == "signal"]
        assert heard == list(range(len(heard))), "in order, none twice and none left out"
        rest = alice.skipped + alice_rest(alice)
        told = [message for message in rest if message["type"] in ("error", "server-shutdown")]
        reported = {message["id"] for message in told if message["type"] == "error" and "id" in message}
        # Bob may have been closed first: then what came after that is reported to alice as long as she is there.
        missing = set(range(len(heard), acknowledged + 1)) - reported
        assert not missing, f"{len(missing)} of {acknowledged + 1} neither arrived nor were reported"
        assert any(message["type"] == "server-shutdown" for message in after)
    assert server.process.wait(20) == 0
    server.process = None


def alice_rest(peer):
    try:
        return peer.closing(timeout=10)[1]
    except AssertionError:
        return []
