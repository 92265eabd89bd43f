"""The commands: exit statuses, one line that says what, where and the mend, and nothing secret for all to read."""

import json
import os
import subprocess

import pytest

import harness
import stunclient
import stunwire as stun
from harness import BINARY, PASSWORD

# For tests that ask again and again until a change has arrived.
PATIENT = {"limits": {"unauthenticated_replies_per_second": 10_000}}


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path


def turnpike(home, *arguments, input=None, environment=None):
    return subprocess.run(
        [str(BINARY), *arguments], input=input, capture_output=True, text=True, timeout=30, cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home / "home"), **(environment or {})},
    )


def assert_one_line(text):
    assert len([line for line in text.splitlines() if line.strip()]) == 1, text


def check(home, text, **options):
    path = home / "turnpike.yml"
    path.write_text(text)
    return path, turnpike(home, "config", "check", "--config", str(path), "--data-dir", str(home / "data"), **options)


@pytest.mark.parametrize("text, line, column, words", [
    ("relam: example.org\n", 1, 1, ["relam", "did you mean realm"]),
    ("realm: example.org\nrelay:\n  min_prot: 50000\n", 3, 3, ["relay.min_prot", "did you mean relay.min_port"]),
    ("relay:\n  min_port: 65536\n", 2, 13, ["relay.min_port", "65536"]),
    ("relay:\n  min_port: -1\n", 2, 13, ["relay.min_port"]),
    ("relay:\n  min_port: abc\n", 2, 13, ["relay.min_port", "abc"]),
    ("relay:\n  deny_peers: [\"10.0.0.0/33\"]\n", 2, 16, ["relay.deny_peers", "10.0.0.0/33", "/32"]),
    ("relay:\n  allow_peers: [\"127.0.0.0/8\"]\n", 2, 17, ["relay.allow_peers", "never"]),
    ("relay:\n  allow_peers: [\"nonsense\"]\n", 2, 17, ["relay.allow_peers", "nonsense"]),
    ("realm: one\nrealm: two\n", 2, 1, ["realm", "second time"]),
    ("listen:\n  udp: [\"127.0.0.1\"]\n", 2, 9, ["listen.udp", "port"]),
    ("listen:\n  udp: [\"127.0.0.1:99999\"]\n", 2, 9, ["listen.udp", "99999"]),
    ("log:\n  level: loud\n", 2, 10, ["log.level", "loud"]),
    ("auth:\n  nonce_lifetime: soon\n", 2, 19, ["auth.nonce_lifetime", "soon"]),
    ("listen: {udp: [\"0.0.0.0:3478\"]}\nrelay:\n  allow_loopback_peers: true\n", 3, 25,
     ["relay.allow_loopback_peers", "loopback"]),
    ("realm: [unclosed\n", None, None, ["YAML"]),
])
def test_a_mistake_in_the_configuration_is_78_with_its_place_and_the_mend(home, text, line, column, words):
    path, done = check(home, text)
    assert done.returncode == 78, f"{done.returncode}: {done.stdout}{done.stderr}"
    message = done.stderr
    if line is not None:
        assert f"{path}:{line}:{column}: " in message or f"{path.name}:{line}:{column}: " in message, message
    for word in words:
        assert word in message, message
    # And serve refuses as well, with nothing left behind.
    served = turnpike(home, "serve", "--config", str(path), "--data-dir", str(home / "data"))
    assert served.returncode == 78 and words[0] in served.stderr
    assert not (home / "data").exists()


def test_a_good_configuration_passes_and_is_printed_with_its_origins(home):
    path, done = check(home, "realm: example.org\nrelay:\n  min_port: 50000\n")
    assert done.returncode == 0, done.stderr
    printed = turnpike(home, "config", "print", "--config", str(path), "--data-dir", str(home / "data"),
                       environment={"TURNPIKE_RELAY_MAX_PORT": "60000"})
    assert printed.returncode == 0, printed.stderr
    lines = printed.stdout.splitlines()

    def line_with(*words):
        assert any(all(word in line for word in words) for line in lines), f"{words} in:\n{printed.stdout}"

    line_with("example.org", "turnpike.yml:1")
    line_with("50000", "turnpike.yml:3")
    line_with("60000", "TURNPIKE_RELAY_MAX_PORT")
    line_with("default")


def test_flag_beats_environment_beats_file(home):
    path = home / "turnpike.yml"
    path.write_text("realm: from-file\n")

    def realm(*flags, **environment):
        done = turnpike(home, "config", "print", "--config", str(path), "--data-dir", str(home / "data"), *flags,
                        environment=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "from-file" in realm()
    assert "from-environment" in realm(TURNPIKE_REALM="from-environment")
    assert "from-flag" in realm("--set", "realm=from-flag", TURNPIKE_REALM="from-environment")


def test_a_missing_configuration_file_is_78(home):
    done = turnpike(home, "serve", "--config", str(home / "absent.yml"), "--data-dir", str(home / "data"))
    assert done.returncode == 78 and "absent.yml" in done.stderr
    assert not (home / "data").exists()


@pytest.mark.parametrize("arguments", [
    ("serve", "--no-such-flag"), ("no-such-command",), ("user", "add"), ("user", "frobnicate", "x"),
    ("user", "list", "--format", "xml"), ("credentials",),
])
def test_a_mistake_on_the_command_line_is_64(home, arguments):
    done = turnpike(home, *arguments)
    assert done.returncode == 64, f"{done.returncode}: {done.stderr}"
    assert done.stderr.strip() and not done.stdout.strip()


def test_help_and_version_are_zero(home):
    for arguments in (("--help",), ("version",), ("serve", "--help"), ("user", "--help"), ("config", "--help")):
        done = turnpike(home, *arguments)
        assert done.returncode == 0 and done.stdout.strip(), f"{arguments}: {done.stderr}"


def test_user_add_prints_a_generated_password_once_and_only_that_works(serve):
    server = serve(PATIENT)
    added = json.loads(server.cli("user", "add", "dora", "--format", "json").stdout)
    password = added["password"]
    assert len(password) >= 22, "at least 128 bits"
    with server.client("dora", password) as client:
        harness.wait_until(lambda: client.allocate().is_success, 1.0, "dora can allocate")
        client.refresh(0)
    for arguments in (("user", "list"), ("user", "show", "dora"), ("user", "list", "--format", "json"),
                      ("user", "show", "dora", "--format", "json")):
        text = server.cli(*arguments).stdout
        assert "dora" in text and password not in text
    again = server.cli("user", "add", "dora", check=False)
    assert again.returncode == 1 and "dora" in again.stderr and not again.stdout
    assert_one_line(again.stderr)


def test_user_add_as_environment_is_ready_to_source(serve):
    server = serve(PATIENT)
    text = server.cli("user", "add", "erin", "--format", "env").stdout
    script = text + '\nprintf "%s\\n" "$TURN_USERNAME" "$TURN_PASSWORD"\n'
    name, password = subprocess.run(["sh", "-euc", "set -a; " + script], capture_output=True, text=True,
                                    check=True).stdout.splitlines()[-2:]
    assert name == "erin"
    with server.client("erin", password) as client:
        harness.wait_until(lambda: client.allocate().is_success, 1.0, "erin can allocate")
        client.refresh(0)


def test_minted_credentials_work_and_expire(serve):
    server = serve(PATIENT)
    assert server.cli("secret", "add", "main").returncode == 0
    minted = json.loads(server.cli("credentials", "visitor", "--ttl", "2s", "--format", "json").stdout)
    name, password = minted["username"], minted.get("password") or minted.get("credential")
    assert name.endswith(":visitor")

    def outcome():
        with server.client(name, password) as client:
            answer = client.allocate()
            if answer.is_success:
                client.refresh(0)
            return answer.error

    harness.wait_until(lambda: outcome() is None, 1.0, "the credential works")
    harness.wait_until(lambda: outcome() == 401, 5.0, "the credential has expired")


@pytest.mark.parametrize("name", ["", "a:b", "x" * 600, "line\nbreak", "\x1b[31m", "../../etc/passwd"])
def test_names_are_refused_by_rule_or_kept_literally(home, name):
    data = ("--data-dir", str(home / "data"))
    done = turnpike(home, "user", "add", "--password-stdin", *data, "--", name, input=PASSWORD + "\n")
    if done.returncode == 0:
        listed = json.loads(turnpike(home, "user", "list", "--format", "json", *data).stdout)
        entries = listed["users"] if isinstance(listed, dict) else listed
        assert [entry["name"] for entry in entries] == [name]
    else:
        assert done.returncode in (1, 64), done.stderr
        assert not done.stdout and "\x1b" not in done.stderr
    assert sorted(path.name for path in home.iterdir()) in (["data", "home"], ["home"])


def test_an_unknown_user_is_one_line_and_one(serve):
    server = serve()
    for command in ("show", "disable", "enable", "remove"):
        done = server.cli("user", command, "nobody", check=False)
        assert done.returncode == 1 and "nobody" in done.stderr and not done.stdout
        assert_one_line(done.stderr)


def test_the_data_directory_and_its_files_are_the_owners_alone(serve):
    server = serve()
    with server.client() as client:
        client.allocated().refresh(0)
    assert server.data.stat().st_mode & 0o777 == 0o700
    for path in server.data.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_serve_without_a_configuration_creates_what_it_needs_and_says_what_to_type(home):
    with stunclient.Peer(("127.0.0.1", 0)) as probe:
        port = probe.address[1]
    process = subprocess.Popen(
        [str(BINARY), "serve", "--data-dir", str(home / "data"), "--set", f"listen.udp=127.0.0.1:{port}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home / "home")})
    try:
        def answers():
            assert process.poll() is None
            with stunclient.Wire(("127.0.0.1", port)) as wire:
                try:
                    return wire.request(stun.BINDING, timeout=0.1)
                except (stunclient.Silence, OSError):
                    return None

        harness.wait_until(answers, harness.START_SECONDS, "it answers")
        with stunclient.Wire(("127.0.0.1", port)) as wire:
            assert wire.request(stun.ALLOCATE, [(stun.REQUESTED_TRANSPORT, stun.UDP)]).error == 401
    finally:
        process.terminate()
        text = process.communicate(timeout=15)[0]
    assert process.returncode == 0, text
    assert f"127.0.0.1:{port}" in text and "turnpike user add" in text, text
    assert (home / "data" / "turnpike.sqlite3").exists()


def test_a_port_in_use_is_named(serve):
    server = serve()
    done = subprocess.run(
        [str(BINARY), "serve", "--config", str(server.config_path), "--data-dir", str(server.directory / "other")],
        capture_output=True, text=True, timeout=30, env=server.environment)
    assert done.returncode in (1, 78) and str(server.port) in done.stderr + done.stdout
