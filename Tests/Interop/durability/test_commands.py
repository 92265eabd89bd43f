"""kill -9 of the command line tool in a write loop (cases DB-04 and SO-04).

A change is acknowledged when the command has ended with status 0. Whatever was acknowledged has to be there afterwards,
whenever the process that was writing next was killed; the database has to be whole; and what was not acknowledged is
there completely or not at all.

TURNPIKE_BIN names the binary. DURABILITY_ROUNDS (50) says how many processes are killed.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import time

import pytest

BINARY = os.environ["TURNPIKE_BIN"]
ROUNDS = int(os.environ.get("DURABILITY_ROUNDS", "50"))
COMMAND_SECONDS_MAX = 30


class Tool:
    def __init__(self, directory):
        self.data = directory / "data"
        # Nothing of the machine's own configuration may leak in.
        self.environment = {
            "HOME": str(directory),
            "PATH": os.environ["PATH"],
            "TURNPIKE_DATA_DIR": str(self.data),
        }

    def start(self, *arguments):
        return subprocess.Popen(
            [BINARY, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments):
        process = self.start(*arguments)
        output, messages = process.communicate(timeout=COMMAND_SECONDS_MAX)
        return process.returncode, output.decode(), messages.decode()

    def users(self):
        status, output, messages = self.run("user", "list", "--format", "json")
        assert status == 0, messages
        return {user["name"]: user["state"] for user in json.loads(output)}

    def assert_database_is_whole(self):
        connection = sqlite3.connect(self.data / "turnpike.sqlite3")
        try:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            # A change and the line that tells a running server of it are one transaction.
            changes = connection.execute("SELECT count(*), max(sequence) FROM changes").fetchone()
            audit = connection.execute("SELECT count(*) FROM audit").fetchone()
            assert changes[0] == changes[1] == audit[0]
        finally:
            connection.close()


@pytest.fixture
def tool(tmp_path):
    return Tool(tmp_path)


def kill(process, after_seconds):
    """Kills the process unless it ends before; returns its status, negative when it was killed."""
    try:
        process.communicate(timeout=after_seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=COMMAND_SECONDS_MAX)
    return process.returncode


def typical_seconds(tool):
    """How long one command takes here, so that the kills fall inside it."""
    started = time.monotonic()
    for index in range(5):
        status, _, messages = tool.run("user", "add", f"warm-up-{index}")
        assert status == 0, messages
    return (time.monotonic() - started) / 5


def test_acknowledged_changes_outlive_kill_9(tool):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    typical = typical_seconds(tool)
    expected = {f"warm-up-{index}": "active" for index in range(5)}
    uncertain = {}
    killed = 0
    index = 0
    deadline = time.monotonic() + 300

    while killed < ROUNDS:
        assert time.monotonic() < deadline, f"only {killed} processes were killed in time"
        # Commands that are left to end, then one that is killed somewhere between its start and a little past its end.
        for _ in range(choose.randrange(3)):
            name = f"user-{index}"
            index += 1
            status, _, messages = tool.run("user", "add", name)
            assert status == 0, messages
            expected[name] = "active"

        name = f"user-{index}"
        index += 1
        victims = [victim for victim, state in expected.items() if state == "active" and victim not in uncertain]
        verb = choose.choice(["add", "add", "disable", "remove"]) if len(victims) > 5 else "add"
        if verb != "add":
            name = choose.choice(victims)
        status = kill(tool.start("user", verb, name), choose.uniform(0, 1.2 * typical))
        done = {"add": "active", "disable": "disabled", "remove": None}[verb]
        if status == 0:
            expected[name] = done
        else:
            assert status == -signal.SIGKILL
            killed += 1
            uncertain[name] = {expected.get(name), done}

        found = tool.users()
        for known, state in expected.items():
            if known not in uncertain:
                assert found.get(known) == state, f"{known} is lost (seed {seed})"
        for known, states in uncertain.items():
            assert found.get(known) in states, f"{known} is between two states (seed {seed})"
        assert set(found) <= set(expected) | set(uncertain)
        # From here on it is known which of the two it was.
        for known in uncertain:
            expected[known] = found.get(known)
        uncertain.clear()
        tool.assert_database_is_whole()


def test_kill_9_while_the_database_is_made_leaves_none_or_a_whole_one(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    reference = Tool(tmp_path / "reference")
    reference.data.parent.mkdir()
    typical = typical_seconds(reference)

    for attempt in range(ROUNDS):
        directory = tmp_path / f"attempt-{attempt}"
        directory.mkdir()
        tool = Tool(directory)
        status = kill(tool.start("user", "add", "first"), choose.uniform(0, 1.2 * typical))
        # Whatever was left behind, the next command works without any mending.
        assert tool.run("user", "add", "second")[0] == 0, f"attempt {attempt} (seed {seed})"
        found = tool.users()
        assert found.get("second") == "active"
        assert status != 0 or found.get("first") == "active"
        tool.assert_database_is_whole()


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_umask_neither_opens_nor_closes_the_files(tool, umask):
    process = subprocess.run(
        [BINARY, "user", "add", "first"], env=tool.environment, umask=umask, capture_output=True, timeout=30
    )
    assert process.returncode == 0, process.stderr.decode()
    assert tool.data.stat().st_mode & 0o7777 == 0o700
    assert (tool.data / "turnpike.sqlite3").stat().st_mode & 0o7777 == 0o600
    # The log and its index exist while somebody holds the database open.
    with sqlite3.connect(tool.data / "turnpike.sqlite3") as connection:
        connection.execute("SELECT count(*) FROM users").fetchall()
        process = subprocess.run(
            [BINARY, "user", "add", "second"], env=tool.environment, umask=umask, capture_output=True, timeout=30
        )
        assert process.returncode == 0, process.stderr.decode()
        modes = {path.name: path.stat().st_mode & 0o7777 for path in tool.data.iterdir()}
    connection.close()
    files = ["certificate.pem", "private-key.pem", *(f"turnpike.sqlite3{suffix}" for suffix in ("", "-wal", "-shm"))]
    assert modes == dict.fromkeys(files, 0o600)


def test_full_disk_is_said_and_loses_nothing(tool):
    assert tool.run("user", "add", "first")[0] == 0
    size = (tool.data / "turnpike.sqlite3").stat().st_size
    # With a limit on file sizes just above the database's, writing fails as it does on a full disk.
    for index in range(200):
        process = subprocess.run(
            ["prlimit", f"--fsize={size + 4096}", BINARY, "user", "add", f"more-{index}"],
            env=tool.environment,
            capture_output=True,
            timeout=30,
        )
        if process.returncode != 0:
            break
    assert process.returncode == 1, process
    assert process.stderr.decode().count("\n") == 1 and "turnpike.sqlite3" in process.stderr.decode()
    tool.assert_database_is_whole()
    assert set(tool.users()) == {"first"} | {f"more-{number}" for number in range(index)}


def test_writers_at_once_all_succeed(tool):
    writers, each = 4, 25
    assert tool.run("user", "add", "first")[0] == 0
    for index in range(each):
        batch = [tool.start("user", "add", f"writer-{writer}-{index}") for writer in range(writers)]
        for process in batch:
            _, messages = process.communicate(timeout=COMMAND_SECONDS_MAX)
            assert process.returncode == 0, messages.decode()
    assert len(tool.users()) == writers * each + 1
    tool.assert_database_is_whole()
