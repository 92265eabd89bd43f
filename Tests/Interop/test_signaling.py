"""Signaling over wss with a pinned certificate: meeting, talking, being cut off and coming back."""

import base64
import contextlib
import json
import signal
import ssl
import time

import pytest
from websockets.exceptions import InvalidStatus

from harness import PASSWORD, wait_until
from signaling import API, BOB_PASSWORD, HOST, Peer, Socket, pinned, start


@pytest.fixture(scope="module")
def shared(serve_module):
    server = start(serve_module)
    yield server
    server.assert_alive()


def test_two_peers_meet_and_exchange_offer_answer_and_candidates(shared):
    with Peer(shared) as alice, Peer(shared, "bob") as bob:
        alice.register("alice/desk", kind="desk")
        bob.register("bob")
        assert alice.join("alice/desk", "meeting")["peers"] == []
        joined = bob.join("bob", "meeting")
        assert [peer["peerId"] for peer in joined["peers"]] == ["alice/desk"]
        assert joined["peers"][0]["metadata"] == {"kind": "desk"}
        assert alice.take("peer-joined")["peerId"] == "bob"

        bob.send(type="offer", to="alice/desk", offer={"type": "offer", "sdp": "v=0 of bob"})
        offer = alice.take("offer")
        assert offer["from"] == "bob" and offer["offer"]["sdp"] == "v=0 of bob" and offer["timestamp"] > 0
        alice.send(type="answer", to="bob", answer={"type": "answer", "sdp": "v=0 of alice"})
        assert bob.take("answer")["answer"]["sdp"] == "v=0 of alice"
        for number in range(5):
            alice.send(type="ice-candidate", to="bob", candidate={"candidate": f"candidate:{number}"})
        assert [bob.take("ice-candidate")["candidate"]["candidate"] for _ in range(5)] == [
            f"candidate:{number}" for number in range(5)
        ]
        alice.send(type="broadcast", roomId="meeting", data={"text": "hello"})
        heard = bob.take("broadcast")
        assert (heard["from"], heard["roomId"], heard["data"]) == ("alice/desk", "meeting", {"text": "hello"})


def test_a_cut_client_resumes_and_nothing_is_lost_or_doubled(shared):
    with Peer(shared) as alice:
        alice.register("alice/steady")
        bob = Peer(shared, "bob")
        bob.register("bob/cut")
        bob.join("bob/cut", "resumed")
        alice.join("alice/steady", "resumed")
        bob.take("peer-joined")
        alice.send(type="signal", to="bob/cut", signal=0)
        assert bob.take("signal")["signal"] == 0
        bob.cut()
        for number in range(1, 30):
            alice.send(type="signal", to="bob/cut", signal=number)
        with Peer(shared, "bob", resume=bob.welcome["resumeToken"]) as again:
            assert again.welcome["resumed"] is True
            # What came before the cut does not come again: TCP acknowledged it, though the client says nothing of it.
            assert [again.take("signal")["signal"] for _ in range(29)] == list(range(1, 30))
            # It is still in its room, under its name.
            alice.send(type="broadcast", roomId="resumed", data="still there?")
            assert again.take("broadcast")["data"] == "still there?"


@pytest.mark.parametrize("wrong, code", [("x" * 70_000, 1009), (b"binary", 1003)])
def test_who_is_closed_for_breaking_a_rule_has_no_session_to_come_back_to(shared, wrong, code):
    with Peer(shared) as alice:
        alice.register("alice/rule")
        alice.socket.send(wrong)
        assert alice.closing()[0] == code
        with Peer(shared, hello=False) as back:
            back.send(type="hello", resume=alice.welcome["resumeToken"])
            assert back.take("error")["code"] == "forbidden"
        with Peer(shared) as again:
            again.register("alice/rule")


def test_welcome_hands_out_credentials_that_relay(shared):
    with Peer(shared) as alice:
        turn = [entry for entry in alice.welcome["iceServers"] if "username" in entry][0]
        assert f"turn:{HOST}:{shared.port}?transport=udp" in turn["urls"]
        with shared.client(turn["username"], turn["credential"]) as client:
            client.allocated()
        more = alice.ask("ice-servers", type="ice-servers", ttl=120)
        assert more["ttl"] == 120


def test_authorization_at_the_upgrade_logs_in_at_once(shared):
    import base64

    pair = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    with Peer(shared, hello=False, additional_headers={"Authorization": f"Basic {pair}"}) as alice:
        assert alice.take("welcome")["user"] == "alice"
        assert alice.register("alice/header")["peerId"] == "alice/header"
    wrong = base64.b64encode(b"alice:no").decode()
    with pytest.raises(InvalidStatus) as refusal:
        Peer(shared, hello=False, additional_headers={"Authorization": f"Basic {wrong}"})
    assert refusal.value.response.status_code == 401


def test_a_time_limited_credential_logs_in(serve):
    server = start(serve, secrets={"web": "shared secret of the web"})
    made = server.cli("credentials", "carol", "--format", "json", "--config", str(server.config_path))
    minted = json.loads(made.stdout)
    with Peer(server, minted["username"], minted["password"]) as carol:
        assert carol.welcome["user"] == "carol"
        assert carol.register("carol/web")["peerId"] == "carol/web"


class OriginalClient:
    """As the original server's own clients are: nothing counted, nothing resumed, and every message as its table has
    it. What was added to reach this server is the header that logs in."""

    def __init__(self, server, name, password):
        pair = base64.b64encode(f"{name}:{password}".encode()).decode()
        self.socket = Socket(f"wss://{HOST}:{server.https_port}/signal", ssl=pinned(server),
                             additional_headers={"Authorization": f"Basic {pair}"})
        welcome = self.next("welcome")
        assert welcome["message"] == "Connected to signaling server" and welcome["timestamp"] > 1.6e12

    def send(self, **message):
        self.socket.send(json.dumps(message))

    def next(self, kind):
        """The original sends nothing between, so nothing is skipped."""
        message = json.loads(self.socket.recv())
        assert message["type"] == kind, message
        return message


def test_a_client_of_the_original_needs_nothing_but_a_login(shared):
    alice = OriginalClient(shared, "alice", PASSWORD)
    bob = OriginalClient(shared, "bob", BOB_PASSWORD)
    alice.send(type="register", peerId="alice", metadata={"client": "my-app"})
    assert alice.next("registered")["peerId"] == "alice"
    bob.send(type="register", peerId="bob")
    bob.next("registered")
    alice.send(type="join-room", peerId="alice", roomId="stream-1")
    assert alice.next("room-joined")["peers"] == []
    bob.send(type="join-room", peerId="bob", roomId="stream-1")
    joined = bob.next("room-joined")
    assert joined["roomId"] == "stream-1"
    assert joined["peers"] == [{"peerId": "alice", "metadata": {"client": "my-app"}}]
    assert alice.next("peer-joined")["peerId"] == "bob"

    members = {"offer": "offer", "answer": "answer", "ice-candidate": "candidate", "signal": "signal"}
    for kind, member in members.items():
        bob.send(**{"type": kind, "from": "bob", "to": "alice", member: {"sdp": "v=0", "n": 1}})
        came = alice.next(kind)
        assert came["from"] == "bob" and came["timestamp"] and came[member] == {"sdp": "v=0", "n": 1}
    alice.send(type="broadcast", **{"from": "alice"}, roomId="stream-1", data={"hello": "all"})
    came = bob.next("broadcast")
    assert came["from"] == "alice" and came["data"] == {"hello": "all"}
    alice.send(type="ping", peerId="alice")
    assert alice.next("pong")["timestamp"]

    mistakes = [
        ({"type": "register"}, "peerId is required"),
        ({"type": "join-room", "peerId": "alice"}, "peerId and roomId are required"),
        ({"type": "leave-room", "roomId": "stream-1"}, "peerId and roomId are required"),
        ({"type": "offer", "from": "alice", "to": "bob"}, "from, to, and offer are required"),
        ({"type": "ice-candidate", "from": "alice", "candidate": 1}, "from, to, and candidate are required"),
        ({"type": "offer", "from": "alice", "to": "nobody", "offer": 1}, "Peer nobody not found"),
        ({"type": "broadcast", "from": "alice", "roomId": "none", "data": 1}, "Room none not found"),
        ({"type": "join-room", "peerId": "alice/2", "roomId": "r"}, "Peer not registered"),
        ({"type": "what"}, "Unknown message type"),
    ]
    for message, text in mistakes:
        alice.send(**message)
        error = alice.next("error")
        assert error["error"] == text and error["originalType"] == message["type"]

    bob.send(type="leave-room", peerId="bob", roomId="stream-1")
    assert bob.next("room-left")["roomId"] == "stream-1"
    assert alice.next("peer-left")["peerId"] == "bob"
    bob.send(type="join-room", peerId="bob", roomId="stream-1")
    bob.next("room-joined")
    alice.next("peer-joined")
    bob.socket.close()
    assert alice.next("peer-left")["peerId"] == "bob"
    alice.socket.close()


def test_the_subprotocol_is_echoed_and_compression_is_not(shared):
    with Peer(shared, subprotocols=["other", "turnpike.v1"]) as alice:
        assert alice.socket.subprotocol == "turnpike.v1"
    offering = Socket(f"wss://{HOST}:{shared.https_port}/signal", ssl=pinned(shared), compression="deflate")
    assert "Sec-WebSocket-Extensions" not in offering.response.headers
    offering.close()


def test_a_certificate_that_is_not_pinned_is_refused_by_the_client(shared):
    with pytest.raises(ssl.SSLCertVerificationError):
        Socket(f"wss://{HOST}:{shared.https_port}/signal", ssl=ssl.create_default_context())


@pytest.mark.parametrize("verb", ["disable", "remove"])
def test_a_user_who_is_kept_out_loses_sockets_and_allocations_within_a_second(serve, verb):
    server = start(serve)
    with Peer(server, "bob") as bob, Peer(server) as alice, server.client("bob", "another long passphrase 43") as relay:
        bob.register("bob")
        relay.allocated()
        server.cli("user", verb, "bob")
        begun = time.monotonic()
        code, _ = bob.closing(timeout=5)
        assert code == 4403
        wait_until(lambda: not server.relay_sockets(), 5, "the end of bob's allocation")
        # From the end of the command.
        assert time.monotonic() - begun < 1
        alice.register("alice")
        with Peer(server, "bob", hello=False) as back:
            back.send(type="hello", username="bob", password="another long passphrase 43")
            assert back.take("error")["code"] == "unauthenticated"


def test_a_revoked_token_closes_what_it_opened(serve):
    server = start(serve)
    admin = API(server, over_socket=True)
    _, made, _ = admin.call("POST", "/api/v1/admin/tokens", {"name": "phone", "user": "alice"})
    with Peer(server, token=made["token"]) as alice:
        assert alice.welcome["user"] == "alice"
        assert admin.call("DELETE", "/api/v1/admin/tokens/phone")[0] == 204
        assert alice.closing(timeout=5)[0] == 4403


def test_rd_01_a_reload_keeps_sockets(serve):
    server = start(serve)
    with Peer(server) as alice:
        alice.register("alice")
        server.write_config({"signaling": {"messages_per_second": 40}})
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in server.log(), 10, "the reload")
        assert alice.ask("pong", type="ping")
        with Peer(server, "bob") as bob:
            assert bob.welcome["limits"]["messagesPerSecond"] == 40


def test_RD_01_a_reload_under_two_hundred_flows_and_sockets_loses_nothing(serve):
    limits = {"allocations_per_user": 1_000, "unauthenticated_replies_per_second": 100_000}
    generous = {
        "connections_per_user": 400, "connections_per_address": 400, "messages_per_second": 1_000, "burst": 1_000,
    }
    server = start(serve, {"limits": limits, "signaling": generous})
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(server.peer())
        clients = [stack.enter_context(server.client()).allocated() for _ in range(200)]
        for client in clients:
            client.bound(0x4000, peer.address)
        sockets = [Peer(server) for _ in range(200)]
        for number, one in enumerate(sockets):
            stack.callback(one.cut)
            one.register(f"alice/{number}")

        def all_flow(payload):
            for number, one in enumerate(sockets):
                one.send(type="signal", **{"from": f"alice/{number}"}, to=f"alice/{(number + 1) % 200}", signal=payload)
            # Forty at a time: the peer's socket must not be where datagrams are lost.
            for first in range(0, 200, 40):
                for client in clients[first:first + 40]:
                    client.send_channel(0x4000, payload.encode())
                came = {}
                for _ in range(40):
                    data, source = peer.receive()
                    came[source] = data
                assert came == {client.relayed: payload.encode() for client in clients[first:first + 40]}
            for one in sockets:
                assert one.take("signal")["signal"] == payload
                assert one.skipped == []

        all_flow("before")
        for round in range(3):
            reloads = server.log().count("configuration reloaded")
            server.write_config({"limits": limits, "signaling": {**generous, "messages_per_second": 1_001 + round}})
            server.process.send_signal(signal.SIGHUP)
            all_flow(f"while {round}")
            wait_until(lambda: server.log().count("configuration reloaded") > reloads, 10, "the reload")
            all_flow(f"after {round}")
        for client in clients[:20]:
            assert client.refresh(600).is_success


def test_rd_05_a_drain_tells_sockets_and_closes_them_over_the_window(serve):
    server = start(serve)
    peers = [Peer(server) for _ in range(8)]
    status, _, _ = API(server, over_socket=True).call("POST", "/api/v1/admin/drain?seconds=4")
    assert status == 202
    status, health, _ = API(server).call("GET", "/healthz")
    assert (status, health["status"]) == (503, "draining")
    waits, closed = set(), []
    began = time.monotonic()
    for peer in peers:
        notice = peer.take("server-shutdown")
        waits.add(notice["reconnectAfterMs"])
    for peer in peers:
        code, _ = peer.closing(timeout=10)
        closed.append(code)
    assert closed == [1001] * 8
    assert len(waits) > 1, "all would come back at once"
    assert time.monotonic() - began > 0.3, "all were closed at once"
    assert server.process.wait(20) == 0
    server.process = None


def test_term_tells_sockets_too(serve):
    server = start(serve)
    with Peer(server) as alice:
        server.process.send_signal(signal.SIGTERM)
        assert alice.take("server-shutdown")["reconnectAfterMs"] > 0
        assert alice.closing()[0] == 1001
    assert server.process.wait(20) == 0
    server.process = None
