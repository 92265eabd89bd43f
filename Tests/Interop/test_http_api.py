"""The HTTP API: who may ask what, and the command line's verbs over the admin socket and by token."""

import base64
import json
import os
import stat

import pytest

from harness import PASSWORD, wait_until
from signaling import API, HOST, Peer, Raw, start


@pytest.fixture(scope="module")
def shared(serve_module):
    server = start(serve_module)
    yield server
    server.assert_alive()


@pytest.fixture
def admin(shared):
    return API(shared, over_socket=True)


def test_the_admin_socket_is_for_its_owner_alone(shared):
    mode = os.stat(shared.data / "admin.sock").st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


def test_errors_are_problems_of_rfc_9457(shared, admin):
    for api, path, expected in (
        (API(shared), "/nothing", 404), (API(shared), "/api/v1/rooms", 401),
        (API(shared, "alice"), "/api/v1/admin/users", 403), (admin, "/api/v1/admin/users/carol", 404),
        (admin, "/api/v1/admin/users?limit=x", 400), (admin, "/api/v1/admin/users/a%20b", 422),
    ):
        status, body, fields = api.call("GET", path)
        assert (status, fields["Content-Type"]) == (expected, "application/problem+json"), (path, body)
        assert body["status"] == expected and body["title"]


def test_users_from_the_cradle_to_the_grave(shared, admin):
    status, made, _ = admin.call("POST", "/api/v1/admin/users", {"name": "carol", "maxAllocations": 2})
    assert status == 201 and len(made["password"]) >= 26
    assert admin.call("POST", "/api/v1/admin/users", {"name": "carol"})[0] == 409
    assert admin.call("POST", "/api/v1/admin/users", {"name": "a:b"})[0] == 422
    assert admin.call("POST", "/api/v1/admin/users", {"nome": "x"})[0] == 422
    assert admin.call("POST", "/api/v1/admin/users", [1])[0] == 422
    status, problem, _ = admin.call("POST", "/api/v1/admin/users", {"name": "careful", "maxAlocations": 2})
    assert status == 422 and problem["detail"].startswith("maxAlocations is unknown here; the body may have name,")
    assert admin.call("GET", "/api/v1/admin/users/careful")[0] == 404
    for text in ('{"name":"careful","name":"carol2"}', '{"name":"care\\ud800"}', '{"name":"careful","maxBps":1e400}',
                 '{"name":"careful","realm":' + "[" * 5_000 + "]" * 5_000 + "}", '{"name":"careful"} {}'):
        assert admin.call("POST", "/api/v1/admin/users", text=text)[0] == 400, text
    status, problem, _ = admin.call("POST", "/api/v1/admin/users", {"name": "careful", "expiresAt": "soon"})
    assert status == 422 and problem["detail"].startswith("expiresAt has to be")

    user = admin.get("/api/v1/admin/users/carol")
    assert (user["state"], user["maxAllocations"], user["expiresAt"]) == ("active", 2, None)
    assert "carol" in [entry["name"] for entry in admin.get("/api/v1/admin/users")["users"]]
    with shared.client("carol", made["password"]) as client:
        client.allocated()

    status, changed, _ = admin.call("PATCH", "/api/v1/admin/users/carol", {"maxAllocations": None, "maxBps": 9000})
    assert status == 200 and changed["maxAllocations"] is None and changed["maxBps"] == 9000
    assert admin.call("PATCH", "/api/v1/admin/users/carol", {"maxBps": -1})[0] == 422
    assert admin.get("/api/v1/admin/users/carol")["maxBps"] == 9000

    assert admin.call("POST", "/api/v1/admin/users/carol/disable")[1]["state"] == "disabled"
    assert API(shared, "carol", made["password"]).call("GET", "/api/v1/rooms")[0] == 401
    assert admin.call("POST", "/api/v1/admin/users/carol/enable")[1]["state"] == "active"
    assert API(shared, "carol", made["password"]).call("GET", "/api/v1/rooms")[0] == 200
    _, renewed, _ = admin.call("POST", "/api/v1/admin/users/carol/passwd", {})
    assert renewed["password"] != made["password"]
    assert API(shared, "carol", made["password"]).call("GET", "/api/v1/rooms")[0] == 401
    assert admin.get("/api/v1/admin/users/carol/usage")["usage"] == []
    status, _, fields = admin.call("DELETE", "/api/v1/admin/users/carol")
    # RFC 9110 section 8.6.
    assert status == 204 and "Content-Length" not in fields
    assert admin.call("DELETE", "/api/v1/admin/users/carol")[0] == 404


def test_secrets_are_shown_once_and_work_at_once(shared, admin):
    status, made, _ = admin.call("POST", "/api/v1/admin/secrets", {"name": "web"})
    assert status == 201 and len(made["value"]) == 52
    listed = {entry["name"]: entry["value"] for entry in admin.get("/api/v1/admin/secrets")["secrets"]}
    assert listed["web"] is None
    assert admin.call("DELETE", "/api/v1/admin/secrets/web")[0] == 204


def test_tokens_are_kept_as_digests_and_end_when_they_are_revoked(shared, admin):
    _, made, _ = admin.call("POST", "/api/v1/admin/tokens", {"name": "ci"})
    token = made["token"]
    assert token.encode() not in (shared.data / "turnpike.sqlite3").read_bytes()
    assert token.encode() not in (shared.data / "turnpike.sqlite3-wal").read_bytes()
    by_token = API(shared, token=token)
    assert "uptimeSeconds" in by_token.get("/api/v1/admin/status")
    assert by_token.call("GET", "/api/v1/ice-servers")[0] == 400
    assert by_token.get("/api/v1/ice-servers?user=alice")["ttl"] == 3600
    assert [entry["token"] for entry in by_token.get("/api/v1/admin/tokens")["tokens"]] == [None]
    assert admin.call("DELETE", "/api/v1/admin/tokens/ci")[0] == 204
    assert by_token.call("GET", "/api/v1/admin/status")[0] == 401
    assert API(shared, token=token[:-1] + "x").call("GET", "/api/v1/admin/status")[0] == 401


def test_a_token_of_a_user_is_no_admin(shared, admin):
    _, made, _ = admin.call("POST", "/api/v1/admin/tokens", {"name": "app", "user": "alice"})
    app = API(shared, token=made["token"])
    assert app.call("GET", "/api/v1/admin/users")[0] == 403
    assert app.get("/api/v1/ice-servers")["iceServers"][1]["username"].endswith(":alice")
    admin.call("DELETE", "/api/v1/admin/tokens/app")


def test_sessions_are_listed_and_killed(shared, admin):
    with Peer(shared) as alice, shared.client() as client:
        alice.register("alice/listed")
        client.allocated()
        found = admin.get("/api/v1/admin/sessions?user=alice")
        assert len(found["allocations"]) == 1
        allocation = found["allocations"][0]
        assert allocation["transport"] == "udp" and allocation["user"] == "alice"
        assert allocation["client"].startswith("127.") and allocation["expiresInSeconds"] > 500
        session = [entry for entry in found["signaling"] if entry["peers"] == ["alice/listed"]][0]
        assert session["client"] == HOST and session["user"] == "alice"

        assert admin.call("DELETE", f"/api/v1/admin/sessions/{allocation['id']}")[0] == 204
        wait_until(lambda: not shared.relay_sockets(), 3, "the end of the allocation")
        assert admin.call("DELETE", f"/api/v1/admin/sessions/{allocation['id']}")[0] == 404
        assert admin.call("DELETE", f"/api/v1/admin/sessions/{session['id']}")[0] == 204
        assert alice.closing()[0] == 4403
    for nonsense in ("t9-0-0", "t0-1", "x", "t0-99999999999-1", "%00"):
        assert admin.call("DELETE", f"/api/v1/admin/sessions/{nonsense}")[0] in (400, 404)


def test_rooms_are_shown_to_who_is_in_them(shared, admin):
    with Peer(shared) as alice:
        alice.register("alice/room", who="me")
        alice.join("alice/room", "café /1")
        mine = API(shared, "alice").get("/api/v1/rooms")["rooms"]
        assert mine == [{"roomId": "café /1", "peerCount": 1, "peers": ["alice/room"]}]
        path = "/api/v1/rooms/caf%C3%A9%20%2F1/peers"
        assert API(shared, "alice").get(path)["peers"][0]["metadata"] == {"who": "me"}
        # Whether it is there or not is nobody else's to know.
        stranger = API(shared, "bob")
        assert stranger.get("/api/v1/rooms")["rooms"] == []
        there, absent = stranger.call("GET", path), stranger.call("GET", "/api/v1/rooms/none/peers")
        assert there[:2] == absent[:2] and there[0] == 404
        assert len(admin.get("/api/v1/rooms")["rooms"]) == 1
        assert API(shared, "alice").get("/api/v1/stats")["totalPeers"] == 1
        assert admin.get("/api/v1/stats")["activeConnections"] >= 1


def test_a_user_who_asks_too_often_waits_and_nobody_else_does(shared, admin):
    _, made, _ = admin.call("POST", "/api/v1/admin/users", {"name": "eve"})
    credentials = base64.b64encode(f"eve:{made['password']}".encode()).decode()
    request = f"GET /api/v1/stats HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n\r\n"
    with Raw(shared) as raw:
        answers = []
        for _ in range(400):
            raw.send(request.encode())
            answers.append(raw.head())
            if answers[-1][0] == 429:
                break
    statuses = [status for status, _, _ in answers]
    assert statuses[:100] == [200] * 100 and statuses[-1] == 429
    assert int(answers[-1][1]["retry-after"]) >= 1
    assert API(shared, "alice").call("GET", "/api/v1/stats")[0] == 200


def test_RD_02_a_reload_that_does_not_hold_says_so(serve):
    server = start(serve)
    admin = API(server, over_socket=True)
    assert admin.call("POST", "/api/v1/admin/reload")[1] == {"isReloaded": True, "messages": []}
    good = server.config_path.read_text()
    server.config_path.write_text(good + "\nnonsense: 1\n")
    status, outcome, _ = admin.call("POST", "/api/v1/admin/reload")
    assert status == 422 and not outcome["isReloaded"] and "nonsense" in outcome["messages"][0]
    server.config_path.write_text(good)
    assert admin.call("GET", "/healthz")[0] == 200


def test_pages_of_allowed_origins_may_ask_and_others_may_not(serve):
    server = start(serve, {"signaling": {"allowed_origins": ["https://good.tld"]}})
    api = API(server, "alice")
    _, _, fields = api.call("GET", "/api/v1/ice-servers", headers={"Origin": "https://good.tld"})
    assert fields["Access-Control-Allow-Origin"] == "https://good.tld"
    _, _, fields = api.call("GET", "/api/v1/ice-servers", headers={"Origin": "https://evil.tld"})
    assert "Access-Control-Allow-Origin" not in fields
    status, _, fields = API(server).call("OPTIONS", "/api/v1/ice-servers", headers={"Origin": "https://good.tld"})
    assert status == 204 and "Authorization" in fields["Access-Control-Allow-Headers"]
    assert API(server).call("OPTIONS", "/api/v1/admin/users", headers={"Origin": "https://good.tld"})[0] in (401, 404)


def test_only_one_server_has_the_admin_socket(serve):
    first = start(serve)
    second = serve({"admin": {"socket": str(first.data / "admin.sock")}}, start=False)
    done = second.launch().process.wait(30)
    second.process = None
    assert done == 1 and "another server listens on" in second.log()
    assert API(first, over_socket=True).call("GET", "/healthz")[0] == 200


def test_the_users_of_the_command_line_and_of_the_api_are_the_same(shared, admin):
    shared.cli("user", "add", "dora", "--password-stdin", input=PASSWORD + "\n")
    assert admin.get("/api/v1/admin/users/dora")["state"] == "active"
    assert json.loads(shared.cli("user", "list", "--format", "json").stdout)
    shared.cli("user", "remove", "dora")
    assert admin.call("GET", "/api/v1/admin/users/dora")[0] == 404
