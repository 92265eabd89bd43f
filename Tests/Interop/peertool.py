"""Runs `turnpike-peer` the way a person does, and Debian's coturn for it to talk to."""

import contextlib
import hashlib
import json
import os
import signal
import ssl
import subprocess

import harness
from certificates import openssl
from namespaces import inside

BINARY = harness.BINARY.parent / "turnpike-peer"
TURNSERVER = "/usr/bin/turnserver"
# More than any command takes, on a machine that does other things too.
PATIENCE_SECONDS = 60


def peer(*arguments, environment=None, namespace=None, input=None):
    """A finished `turnpike-peer`. Its output goes to no terminal."""
    enter = ("ip", "netns", "exec", namespace) if namespace else ()
    done = subprocess.run(
        [*enter, str(BINARY), *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        env={"PATH": os.environ["PATH"], **(environment or {})}, input=input)
    for mark in harness.CRASH_MARKS:
        assert mark not in done.stderr, done.stderr
    return done


def report(*arguments, **options):
    """What a command prints as JSON, and its exit status."""
    done = peer(*arguments, "--json", **options)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return json.loads(done.stdout), done.returncode


def servers(*urls, stun=None, password=harness.PASSWORD, **more):
    """The environment of a peer."""
    variables = {"TURN_SERVERS": ",".join(urls), "TURN_USERNAME": "alice", "TURN_PASSWORD": password, **more}
    return variables | ({"STUN_SERVERS": stun} if stun else {})


def fingerprint(certificate):
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    return "sha256:" + hashlib.sha256(der).hexdigest()


class Coturn:
    """A `turnserver` on loopback with a user and a certificate of its own, on one port for UDP and TCP and another for
    TLS and DTLS."""

    def __init__(self, directory, password=harness.PASSWORD, namespace=None, hosts=("127.0.0.1",)):
        self.directory, self.namespace = directory, namespace
        with inside(namespace):
            self.port, self.tls_port = harness.free_port(*hosts), harness.free_port(*hosts)
        self.certificate, key = directory / "certificate.pem", directory / "key.pem"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 30, "-subj", "/CN=turn.test", "-out",
                self.certificate, "-keyout", key)
        enter = ("ip", "netns", "exec", namespace) if namespace else ()
        self.output = open(directory / "coturn.log", "wb")
        self.process = subprocess.Popen(
            [*enter, TURNSERVER, "-n", "--no-cli", "--lt-cred-mech", "--realm", "turn.test", "--user",
             f"alice:{password}", "--allow-loopback-peers", "--listening-port", str(self.port), "--tls-listening-port",
             str(self.tls_port), "--cert", str(self.certificate), "--pkey", str(key), "--log-file", "stdout",
             "--relay-threads", "1", "--pidfile", str(directory / "coturn.pid"), "--db", str(directory / "coturn.db"),
             *(argument for host in hosts for argument in ("--listening-ip", host, "--relay-ip", host))],
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT, cwd=directory)

    def wait_ready(self):
        def answers():
            assert self.process.poll() is None, (self.directory / "coturn.log").read_text(errors="replace")
            with harness.stunclient.Wire(("127.0.0.1", self.port), ("127.0.0.1", 0)) as wire:
                try:
                    return wire.request(harness.stun.BINDING, timeout=0.2)
                except (harness.stunclient.Silence, OSError):
                    return False

        harness.wait_until(answers, harness.START_SECONDS, "coturn answers")
        return self

    def url(self, transport):
        if transport in ("udp", "tcp"):
            return f"turn:127.0.0.1:{self.port}?transport={transport}"
        return f"turns:127.0.0.1:{self.tls_port}?transport={'tcp' if transport == 'tls' else 'udp'}"

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.close()


@contextlib.contextmanager
def coturn(directory):
    server = Coturn(directory)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def of_a_server(serve):
    """Starts a server with signaling, and returns what it prints for a peer."""
    https, tls = harness.free_port(), harness.free_port()
    server = serve({"listen": {"https": [f"127.0.0.1:{https}"], "tls": [f"127.0.0.1:{tls}"]}})
    printed = server.cli("user", "passwd", "alice", "--password-stdin", "--format", "env", "--config",
                         str(server.config_path), input=harness.PASSWORD + "\n").stdout
    return dict(line.split("=", 1) for line in printed.replace("'", "").splitlines())


class Running:
    """A `turnpike-peer listen` or `forward` with what it says."""

    def __init__(self, directory, environment, *arguments, namespace=None):
        self.output, self.messages = directory / f"{arguments[0]}.output", directory / f"{arguments[0]}.messages"
        enter = ("ip", "netns", "exec", namespace) if namespace else ()
        with open(self.output, "wb") as output, open(self.messages, "wb") as messages:
            self.process = subprocess.Popen(
                [*enter, str(BINARY), *map(str, arguments)], stdout=output, stderr=messages, stdin=subprocess.DEVNULL,
                env={"PATH": os.environ["PATH"], **environment})

    def said(self):
        assert self.process.poll() is None, self.messages.read_text()
        return self.messages.read_text()

    def wait_for(self, *words, after=0, seconds=PATIENCE_SECONDS):
        """What it has said, once that has one of the words behind the first `after` characters."""
        return harness.wait_until(
            lambda: next((text for text in [self.said()] if any(word in text[after:] for word in words)), None),
            seconds, f"{words}: {self.messages.read_text()}")

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        """Ctrl-C, and a clean end."""
        self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()
        text = self.messages.read_text()
        assert status == 0 and not any(mark in text for mark in harness.CRASH_MARKS), text


@contextlib.contextmanager
def running(directory, environment, *arguments, ready, namespace=None):
    program = Running(directory, environment, *arguments, namespace=namespace)
    try:
        program.wait_for(ready)
        yield program
    except BaseException:
        program.process.kill()
        raise
    program.stop()
