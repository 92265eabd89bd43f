"""The examples of the documents, as programs of another package: against a real server."""

import contextlib
import subprocess

import pytest

import harness
import signaling
from harness import wait_until
from test_coordinator import environment

LIMIT_SECONDS = 40


def command(*arguments):
    return [str(harness.BINARY.parent / "client-examples"), *arguments]


@pytest.fixture(scope="module")
def settings(serve_module):
    server = signaling.start(serve_module, {"relay": {"allow_loopback_peers": True}})
    yield environment(server)
    server.assert_alive()


@contextlib.contextmanager
def answering(directory, settings):
    """The example that answers. What it prints is read from a file, line by line."""
    output = directory / "output"
    with open(output, "wb") as file:
        process = subprocess.Popen(["stdbuf", "-oL", *command("answer")], stdout=file, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, env=settings)

        def is_registered():
            assert process.poll() is None, output.read_text()
            return output.read_text() == "alice/desk is registered\n"

        try:
            wait_until(is_registered, LIMIT_SECONDS, "it is registered")
            yield
            assert is_registered()
        finally:
            process.kill()
            process.wait()


def run(name, settings):
    done = subprocess.run(command(name), env=settings, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_examples_do_what_the_documents_say(tmp_path, settings):
    with answering(tmp_path, settings):
        assert run("call", settings) == "you said: hello\n"
        said = run("from-self-streme", settings).splitlines()
        assert said == ["Open", "Success rate: 100.00%", "Healthy: true"]
        said = run("follow", settings).splitlines()
        assert said[0].split() in (["direct", "false"], ["turn-relay", "true"]), said
        assert all(line.startswith("alice/desk: ") for line in said[1:]), said
        assert run("channels", settings) == ""
        # All is on one machine: the relay at first, or the direct path at once.
        is_direct, cause, *words = run("why", settings).split()
        assert cause in (("local-network", "reachable", "ipv6") if is_direct == "true" else ("under-way", "unknown"))
        assert words[0] in ("The", "Your", "What", "Each")
        assert run("in-short", settings) == ""
        assert run("require", settings).startswith("peerNotFound Peer not found: ")
        with subprocess.Popen(["stdbuf", "-oL", *command("conversation")], env=settings, text=True,
                              stdout=subprocess.PIPE) as conversation:
            assert conversation.stdout.readline() == "you said: hello\n"
            conversation.kill()


def test_the_examples_of_what_is_told_and_what_goes_wrong(settings):
    assert run("change", settings) == ""
    assert run("health", settings) == "healthy: true\n"
    said = run("health", {"SIGNALING_SERVER": "wss://127.0.0.1:9/signal", "TURN_USERNAME": "a", "TURN_PASSWORD": "b"})
    assert "healthy: false\n" in said and "nothing listens there" in said, said
    assert run("", {}).startswith("usage: client-examples NAME")
