"""The commands for a running server and for tokens, typed as a newcomer types them."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import ssl
import struct
import subprocess
import termios
import time

import pytest

from harness import PASSWORD, wait_until
from signaling import API, HOST, Peer, start
from stunclient import Peer as FarSide


@pytest.fixture(scope="module")
def _module_server(serve_module):
    server = start(serve_module)
    yield server
    server.assert_alive()


@pytest.fixture
def shared(_module_server):
    """The server most tests share, without what the test before left to expire."""
    admin = API(_module_server, over_socket=True)
    left = admin.get("/api/v1/admin/sessions")
    for session in left["allocations"] + left["signaling"]:
        admin.call("DELETE", f"/api/v1/admin/sessions/{session['id']}")
    wait_until(lambda: not _module_server.relay_sockets(), 5, "the end of what was left")
    return _module_server


def refusal(done, status=1):
    """One line for the person, nothing for the next program."""
    assert done.returncode == status, (done.stdout, done.stderr)
    assert not done.stdout and done.stderr.count("\n") == 1 and done.stderr.startswith("turnpike: "), done.stderr
    return done.stderr


def fields(text):
    """`key:  value` lines."""
    return {key.strip(): value.strip() for key, _, value in (line.partition(":  ") for line in text.splitlines())}


def run_as(server, user, *arguments):
    return subprocess.run(
        ["setpriv", f"--reuid={user}", "--clear-groups",
         *server.command(*arguments, "--data-dir", str(server.data))],
        capture_output=True, text=True, timeout=30, env=server.environment)


# With nobody there

COMMANDS = (["status"], ["session", "list"], ["session", "kill", "t0-1-1"], ["top"], ["drain"], ["reload"],
            ["healthcheck"])


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_without_a_server_one_line_names_the_mend(serve, arguments):
    server = serve(start=False)
    text = refusal(server.cli(*arguments, check=False))
    assert f"no server answers at {server.data}/admin.sock; start it with: turnpike serve" in text


def test_a_socket_left_by_a_killed_server_is_no_server(serve):
    server = start(serve)
    server.kill()
    assert (server.data / "admin.sock").exists()
    assert "start it with" in refusal(server.cli("healthcheck", check=False))
    server.start()
    wait_until(lambda: server.cli("healthcheck", check=False).returncode == 0, 10, "the new server answers")


# With one

def test_status_says_what_it_listens_on_and_what_it_does(shared):
    with shared.client() as client, Peer(shared) as alice:
        alice.register("alice")
        client.allocated()
        data = json.loads(shared.cli("status", "--format", "json").stdout)
        text = shared.cli("status").stdout
    assert f"udp 127.0.0.1:{shared.port}" in text and f"https {HOST}:{shared.https_port}" in text
    shown = fields(text)
    assert shown["state"] == "serving" and shown["realm"] == "turnpike" and shown["workers"] == "2"
    assert data["relay"]["allocations"] == 1 and shown["allocations"].startswith("1 live, ")
    assert data["signaling"]["peers"] == 1 and ", 1 peer, 0 rooms" in shown["signaling"]


def test_sessions_are_listed_and_killed(shared):
    with shared.client() as client, Peer(shared) as alice:
        alice.register("alice/phone")
        client.allocated()
        data = json.loads(shared.cli("session", "list", "--format", "json").stdout)
        allocation, session = data["allocations"][0]["id"], data["signaling"][0]["id"]
        text = shared.cli("session", "list").stdout
        head, row, _, other, last = text.splitlines()
        assert head.split()[:4] == ["ALLOCATION", "USER", "CLIENT", "OVER"]
        assert row.split()[:2] == [allocation, "alice"] and row.index("alice") == head.index("USER")
        assert other.split()[0] == "SIGNALING" and last.split()[:2] == [session, "alice"]
        assert last.split()[-2:] == ["alice/phone", "-"]
        assert "bob' has no sessions" in shared.cli("session", "list", "--user", "bob").stderr

        assert f"ended session {allocation}" in shared.cli("session", "kill", allocation).stderr
        wait_until(lambda: not shared.relay_sockets(), 3, "the end of the allocation")
        assert "turnpike session list" in refusal(shared.cli("session", "kill", allocation, check=False))
        shared.cli("session", "kill", session)
        assert alice.closing()[0] == 4403
    assert "there are no sessions" in shared.cli("session", "list").stderr


@pytest.mark.parametrize("identifier", ["nonsense", "../users", "t0-1-1?x=1", "a/b", "%00", "' OR 1=1 --"])
def test_strange_ids_are_refused_literally(shared, identifier):
    refusal(shared.cli("session", "kill", identifier, check=False))


def test_healthcheck_is_zero_while_it_serves(shared):
    assert shared.cli("healthcheck").stdout.startswith("ok: up ")
    assert json.loads(shared.cli("healthcheck", "--format", "json").stdout)["status"] == "ok"


def test_DB_13_another_user_cannot_ask(shared):
    """Neither the directory nor the socket is open to others, and the command says whom to be."""
    done = run_as(shared, 65534, "status")
    assert done.returncode == 1 and not done.stdout and done.stderr.startswith("turnpike: "), done


def test_reload_takes_what_holds_and_refuses_the_rest(serve):
    server = start(serve)
    assert "has read its configuration again" in server.cli("reload").stderr
    server.write_config({"workers": 1})
    assert "workers has changed, which takes a restart" in server.cli("reload").stderr
    good = server.config_path.read_text()
    server.config_path.write_text(good + "\nnonsense: 1\n")
    done = server.cli("reload", check=False)
    assert done.returncode == 78 and "nonsense" in done.stderr and not done.stdout
    assert "the old one stays in force" in done.stderr
    assert server.cli("healthcheck").returncode == 0


def test_drain_lets_who_is_there_stay_and_ends_the_server(serve):
    server = start(serve)
    with server.client() as client:
        client.allocated()
        begun = server.cli("drain", "--timeout", "30s")
        assert "nobody new is let in; the server ends with the last of 1 allocation, after 30s at most" in begun.stderr
        assert "draining" in refusal(server.cli("healthcheck", check=False))
        assert fields(server.cli("status").stdout)["state"].startswith("draining")
        with server.client() as late:
            assert late.allocate().error == 508
        assert client.refresh(600).is_success
        waiting = subprocess.Popen(
            server.command("drain", "--wait", "--timeout", "20s", "--data-dir", str(server.data)),
            stderr=subprocess.PIPE, text=True, env=server.environment)
        assert "1 allocation" in waiting.stderr.readline()
        client.refresh(0)
    _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == 0 and "the server has ended" in said
    assert server.process.wait(10) == 0
    server.process = None


# top


def test_top_prints_one_frame_where_there_is_no_terminal(shared):
    with shared.client() as idle, shared.client() as busy, FarSide() as peer:
        idle.allocated()
        busy.allocated()
        busy.bound(0x4000, peer.address)
        running = subprocess.Popen(
            shared.command("top", "--data-dir", str(shared.data)), stdout=subprocess.PIPE, text=True,
            env=shared.environment)
        while running.poll() is None:
            busy.send_channel(0x4000, bytes(1000))
            time.sleep(0.005)
        shown = running.communicate()[0]
    assert running.returncode == 0 and "\x1b" not in shown
    lines = shown.splitlines()
    assert lines[0].startswith("turnpike ") and lines[1].split()[:2] == ["TO-PEERS", "TO-CLIENTS"]
    assert re.match(r"bits +[1-9][\d.]* [kM]bit/s", lines[2]), lines[2]
    assert re.match(r"packets +[1-9][\d.]* k?/s", lines[3]), lines[3]
    assert "2 allocations, " in lines[4]
    busiest, other = lines[-2:]
    assert busiest.split()[1] == other.split()[1] == "alice"
    assert re.search(r"[1-9][\d.]* [kM]bit/s", busiest) and not re.search("[1-9][^ ]* [kM]bit/s", other), lines


@pytest.mark.parametrize("ending", [b"q", b"\x03", signal.SIGTERM], ids=["q", "ctrl-c", "TERM"])
def test_top_gives_the_terminal_back(shared, ending):
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
    before = termios.tcgetattr(secondary)
    process = subprocess.Popen(
        shared.command("top", "--data-dir", str(shared.data)), stdin=secondary, stdout=secondary, stderr=secondary,
        env=shared.environment, start_new_session=True)
    shown = b""

    def read(until):
        nonlocal shown
        deadline = time.monotonic() + 15
        while until not in shown and time.monotonic() < deadline:
            if select.select([primary], [], [], 0.1)[0]:
                shown += os.read(primary, 65536)
        assert until in shown, shown

    try:
        read(b"q ends this")
        assert not termios.tcgetattr(secondary)[3] & termios.ECHO
        frame = shown.split(b"\x1b[H")[-1].split(b"\x1b[J")[0].replace(b"\x1b[K", b"").decode().split("\r\n")
        assert len(frame) <= 12 and all(len(line) <= 60 for line in frame), frame
        process.send_signal(ending) if isinstance(ending, signal.Signals) else os.write(primary, ending)
        read(b"\x1b[?1049l")
        assert process.wait(10) == 0
        assert b"\x1b[?25h" in shown and termios.tcgetattr(secondary) == before
    finally:
        process.kill()
        process.wait()
        os.close(primary)
        os.close(secondary)


# Tokens


def test_a_token_of_the_command_line_opens_the_api_until_it_is_revoked(shared):
    token = shared.cli("token", "create", "ci").stdout.strip()
    assert re.fullmatch("tpk_[0-9a-zA-Z]{52}", token)
    api = API(shared, token=token)
    assert api.get("/api/v1/admin/status")["uptimeSeconds"] >= 0
    listed = json.loads(shared.cli("token", "list", "--format", "json").stdout)
    assert [(entry["name"], entry["user"], entry["state"]) for entry in listed] == [("ci", None, "active")]
    assert token not in json.dumps(listed) + shared.log()
    shared.cli("token", "revoke", "ci")
    assert api.call("GET", "/api/v1/admin/status")[0] == 401


def test_a_token_of_a_user_logs_in_to_signaling_and_ends_with_its_revocation(shared):
    token = shared.cli("token", "create", "app", "--user", "alice").stdout.strip()
    with Peer(shared, token=token) as peer:
        peer.register("alice/app")
        shared.cli("token", "revoke", "app")
        assert peer.closing(timeout=5)[0] == 4403


def test_tokens_are_made_with_the_server_stopped(serve):
    server = serve(start=False)
    token = server.cli("token", "create", "early", "--user", "alice", "--expires", "1h").stdout.strip()
    for name in os.listdir(server.data):
        assert token.encode() not in (server.data / name).read_bytes(), name
    assert "early  user alice  active" in server.cli("token", "list").stdout
    refusal(server.cli("token", "create", "other", "--user", "nobody", check=False))
    refusal(server.cli("token", "create", "late", "--expires", "2001-01-01", check=False), 64)


@pytest.mark.parametrize("name", ["x'; DROP TABLE tokens; --", "\" OR \"\"=\"", "a b", "x\x1b[2J", "../x", "x" * 300,
                                  "café", "'", "%s%n", "\u202ex"])
def test_DB_01_token_names_are_stored_literally_or_refused(serve, name):
    server = serve(start=False)
    server.cli("token", "create", "first")
    done = server.cli("token", "create", "--", name, check=False)
    assert done.returncode in (0, 64) and "\x1b" not in done.stderr
    listed = [entry["name"] for entry in json.loads(server.cli("token", "list", "--format", "json").stdout)]
    assert listed == (["first", name] if done.returncode == 0 else ["first"])
    if done.returncode == 0:
        server.cli("token", "revoke", "--", name)


def test_DB_12_no_command_takes_a_token_as_an_argument(shared):
    for verb in ("create", "list", "revoke"):
        text = shared.cli("token", verb, "--help").stdout
        assert not re.search(r"--token|--value|--digest", text), text


# What a peer needs


def test_the_printed_environment_is_enough_to_meet_and_to_relay(serve):
    """A shell sources it, the fingerprint pins the server, and name and password open both doors."""
    server = start(serve)
    # As an operator has it: the configuration that the server runs with.
    text = server.cli("user", "add", "erin", "--format", "env", "--config", str(server.config_path)).stdout
    names = ["SIGNALING_SERVER", "STUN_SERVERS", "TURN_SERVER", "TURN_SERVERS", "TURN_USERNAME", "TURN_PASSWORD",
             "TURNPIKE_CERT_FINGERPRINT"]
    assert [line.partition("=")[0] for line in text.splitlines()] == names
    script = text + "".join(f'printf "%s\\n" "${name}"\n' for name in names)
    values = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True).stdout.splitlines()
    found = dict(zip(names, values))
    assert found["SIGNALING_SERVER"] == f"wss://{HOST}:{server.https_port}/signal"
    assert found["TURN_SERVER"] == f"turn:127.0.0.1:{server.port}?transport=udp"
    assert found["TURN_SERVERS"].split(",")[0] == found["TURN_SERVER"]
    pem = ssl.get_server_certificate((HOST, server.https_port))
    digest = subprocess.run(["openssl", "x509", "-noout", "-fingerprint", "-sha256"], input=pem, capture_output=True,
                            text=True, check=True).stdout.strip().partition("=")[2]
    assert found["TURNPIKE_CERT_FINGERPRINT"] == "sha256:" + digest.replace(":", "").lower()
    with Peer(server, found["TURN_USERNAME"], found["TURN_PASSWORD"]) as peer:
        peer.register("erin")
    with server.client(found["TURN_USERNAME"], found["TURN_PASSWORD"]) as client:
        client.allocated()


def test_the_certificate_of_the_first_user_is_the_server_s(serve):
    server = serve(start=False, users={})
    first = json.loads(server.cli("user", "add", "zoe", "--format", "json").stdout)["certificateFingerprint"]
    made = (server.data / "certificate.pem").read_text()
    assert os.stat(server.data / "private-key.pem").st_mode & 0o777 == 0o600
    server.start()
    wait_until(lambda: (server.data / "admin.sock").exists(), 15, "the admin socket")
    assert (server.data / "certificate.pem").read_text() == made
    server.cli("secret", "add", "web")
    minted = json.loads(server.cli("credentials", "guest", "--format", "json").stdout)
    assert minted["certificateFingerprint"] == first and first.startswith("sha256:")


# Those who are kept out


@pytest.mark.parametrize("verb", ["remove", "disable"])
def test_a_user_who_is_kept_out_loses_sockets_and_allocations_within_a_second(serve, verb):
    server = start(serve)
    with Peer(server) as alice, server.client() as client:
        alice.register("alice")
        client.allocated()
        assert server.relay_sockets()
        server.cli("user", verb, "alice")
        # The bound is a second from the end of the command.
        begun = time.monotonic()
        assert alice.closing()[0] == 4403
        wait_until(lambda: not server.relay_sockets(), 5, "the end of the allocation")
        assert time.monotonic() - begun < 1
    assert API(server, "alice", PASSWORD).call("GET", "/api/v1/rooms")[0] == 401
