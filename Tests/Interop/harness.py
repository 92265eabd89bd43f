"""Runs the release binary the way an operator does: commands, a configuration file, signals."""

import errno
import itertools
import json
import os
import random
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import stunclient
import stunwire as stun
from namespaces import inside

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("TURNPIKE_BIN", REPOSITORY / ".build/release/turnpike"))

# Where a server listens for DTLS that was told nothing else; one of them at a time has it.
DTLS_PORT = 5349

START_SECONDS = 15
STOP_SECONDS = 15

# What a Swift program writes when it traps, and what a sanitizer or the loader would.
CRASH_MARKS = ("Fatal error", "crashed", "Segmentation fault", "AddressSanitizer", "Illegal instruction")

PASSWORD = "correct horse battery staple 42"


def wait_until(condition, timeout, what):
    """Polls until `condition()` is truthy and returns its value; fails the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.01)


# Addresses


# Which of the processes that run tests side by side this is.
_RUNNER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_addresses = itertools.count(1 + 500_000 * _RUNNER)


def client_address():
    """A loopback address no other test has used: what the server counts per source starts at zero."""
    number = next(_addresses)
    return f"127.{20 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


def free_port(*hosts):
    """A port free for UDP and for TCP at all of these, or at 127.0.0.1.

    It lies below those that the kernel gives away by itself, and each of the processes that run tests side by side has
    a range of its own, so nobody takes it before the server does.
    """
    return _free(_ports, hosts, 1)


def free_pair(*hosts):
    """The first of two such ports that follow each other, of which `free_port` never names either.

    coturn's programs take the one they are given and the one above it, as RTP and RTCP would.
    """
    return _free(_pairs, hosts, 2)


def _free(candidates, hosts, count):
    while True:
        first = next(candidates)
        if all(_is_free(host, first + more) for host in hosts or ("127.0.0.1",) for more in range(count)):
            return first


def _is_free(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe, socket.socket(family, socket.SOCK_STREAM) as other:
        try:
            probe.bind((host, port))
            other.bind((host, port))
        except OSError as error:
            # An address that is not there yet has no ports that somebody could have.
            return error.errno != errno.EADDRINUSE
        return True


# Of each process's range, the last ports are given away two by two.
_FIRST, _SINGLE, _ALL = 10_000 + 1_000 * _RUNNER, 800, 1_000


def _shuffled(numbers):
    # Two runs on one machine begin at different places.
    return itertools.cycle(random.sample(numbers, len(numbers)))


_ports = _shuffled(range(_FIRST, _FIRST + _SINGLE))
_pairs = _shuffled(range(_FIRST + _SINGLE, _FIRST + _ALL, 2))


def endpoint(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# Configuration


def yaml(value, indent=0):
    """Plain block YAML for nested dictionaries; every leaf is JSON, which YAML reads."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [" " * indent + f"{key}:", yaml(item, indent + 2)]
        else:
            lines.append(" " * indent + f"{key}: {json.dumps(item)}")
    return "\n".join(lines)


def merged(base, overrides):
    result = dict(base)
    for key, value in overrides.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result


# The server


class Server:
    """One `turnpike serve` with its own data directory."""

    def __init__(self, directory, config=None, users=None, secrets=None, hosts=("127.0.0.1",), port=None,
                 namespace=None, environment=None, relays_loopback=True, descriptors=None):
        self.directory = Path(directory)
        self.data = self.directory / "data"
        self.config_path = self.directory / "turnpike.yml"
        self.namespace = namespace
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), **(environment or {})}
        self.users = {"alice": PASSWORD} if users is None else users
        self.hosts = hosts
        self.dtls_port = DTLS_PORT
        self.descriptor_limit = descriptors
        with inside(namespace):
            self.port = port or free_port(*hosts)
        base = {
            "realm": "turnpike",
            "workers": 2,
            "listen": {"udp": [endpoint(host, self.port) for host in hosts]},
            "log": {"level": "info", "format": "json"},
        }
        if relays_loopback:
            base["relay"] = {"allow_loopback_peers": True}
        self.config = merged(base, config or {})
        self.process = None
        self.directory.mkdir(parents=True, exist_ok=True)
        for name, password in self.users.items():
            self.cli("user", "add", name, "--password-stdin", input=password + "\n")
        for name, secret in (secrets or {}).items():
            self.cli("secret", "add", name, "--stdin", input=secret + "\n")
        self.write_config()

    # Commands

    def command(self, *arguments):
        inside = ("ip", "netns", "exec", self.namespace) if self.namespace else ()
        return [*inside, str(BINARY), *arguments]

    def cli(self, *arguments, input=None, check=True):
        """A subcommand with this server's data directory."""
        done = subprocess.run(
            self.command(*arguments, "--data-dir", str(self.data)),
            input=input, capture_output=True, text=True, timeout=60, env=self.environment,
        )
        if check:
            assert done.returncode == 0, f"{arguments}: exit {done.returncode}: {done.stderr}"
        return done

    def write_config(self, overrides=None):
        self.config = merged(self.config, overrides or {})
        self.config_path.write_text(yaml(self.config) + "\n")

    # Life

    def launch(self):
        """Starts the process without waiting."""
        self.output = open(self.directory / "output.log", "ab")
        self.process = subprocess.Popen(
            self.command("serve", "--config", str(self.config_path), "--data-dir", str(self.data)),
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, env=self.environment,
            preexec_fn=lambda: _set_descriptor_limit(self.descriptor_limit),
        )
        return self

    def start(self):
        self.launch()
        return self.wait_ready()

    def wait_ready(self):
        for host in self.hosts:
            wait_until(lambda: self.answers(host), START_SECONDS, f"a Binding answered at {host}:{self.port}")
        return self

    def answers(self, host):
        assert self.process.poll() is None, f"serve ended with {self.process.returncode}:\n{self.log()}"
        # A wildcard is reached by the loopback, and answers from there.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        with self.wire(host=host) as wire:
            try:
                wire.request(stun.BINDING, timeout=0.1)
                return True
            except (stunclient.Silence, OSError):
                return False

    def stop(self, sign=signal.SIGTERM):
        """A clean stop: exit status 0 and no trace of a crash."""
        if self.process is None:
            return
        alive = self.process.poll() is None
        if alive:
            self.process.send_signal(sign)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"serve did not stop in {STOP_SECONDS} s:\n{self.log()[-4000:]}") from None
        finally:
            self.output.close()
            self.process = None
        assert alive, f"serve was gone before the test ended, with {status}:\n{self.log()[-4000:]}"
        assert status == 0, f"serve ended with {status}:\n{self.log()[-4000:]}"
        self.assert_no_crash_in_log()

    def kill(self):
        """SIGKILL, and the end awaited."""
        self.process.kill()
        self.process.wait()
        self.output.close()
        self.process = None

    def discard(self):
        """Ends it whatever its state; for tests that have failed already."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def assert_no_crash_in_log(self):
        text = self.log()
        for mark in CRASH_MARKS:
            assert mark not in text, f"the log has {mark!r}:\n{text[-4000:]}"

    def assert_alive(self):
        assert self.process.poll() is None, f"serve ended with {self.process.returncode}:\n{self.log()[-4000:]}"

    # What it says

    def log(self):
        path = self.directory / "output.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def log_entries(self):
        """The JSON log lines."""
        entries = []
        for line in self.log().splitlines():
            if line.startswith("{"):
                entries.append(json.loads(line))
        return entries

    # What it uses

    @property
    def pid(self):
        return self.process.pid

    def resident_kib(self):
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(match[1])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def has_relay_port(self, port):
        """Whether some UDP socket in the server's namespace holds this port."""
        for table in ("udp", "udp6"):
            for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                if int(line.split()[1].rsplit(":", 1)[1], 16) == port:
                    return True
        return False

    def udp_ports(self):
        """The ports of this process's own UDP sockets, once for each socket."""
        inodes = set()
        for number in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                target = os.readlink(f"/proc/{self.pid}/fd/{number}")
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
        ports = []
        for table in ("udp", "udp6"):
            for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] in inodes:
                    ports.append(int(fields[1].rsplit(":", 1)[1], 16))
        return ports

    def relay_sockets(self):
        return [port for port in self.udp_ports() if port not in (self.port, self.dtls_port)]

    # Clients

    @property
    def address(self):
        return (self.hosts[0], self.port)

    def _local(self, host, local, namespace):
        if local is not None:
            return local if isinstance(local, tuple) else (local, 0)
        if namespace is None and self.namespace is None and ":" not in host:
            return (client_address(), 0)
        return ("::" if ":" in host else "0.0.0.0", 0)

    def wire(self, host=None, local=None, namespace=None):
        """A bare client, from a loopback address of its own unless told otherwise."""
        host = host or self.hosts[0]
        where = namespace or self.namespace
        with inside(where):
            return stunclient.Wire((host, self.port), self._local(host, local, namespace))

    def stream(self, host=None, local=None, namespace=None, sock=None):
        """`wire` by TCP: a connection."""
        host = host or self.hosts[0]
        with inside(namespace or self.namespace):
            return stunclient.Stream((host, self.port), self._local(host, local, namespace), sock)

    def client(self, name="alice", password=None, host=None, local=None, namespace=None,
               kind=stunclient.TurnClient, **options):
        host = host or self.hosts[0]
        password = self.users.get(name, PASSWORD) if password is None else password
        with inside(namespace or self.namespace):
            return kind(
                (host, self.port), name, password, self._local(host, local, namespace), **options
            )

    def stream_client(self, name="alice", **options):
        """`client` by TCP."""
        return self.client(name, kind=stunclient.StreamClient, **options)

    def peer(self, local=None, namespace=None):
        with inside(namespace or self.namespace):
            return stunclient.Peer((local or "127.0.0.1", 0))


def fill_with_users(server, count, name):
    """Users in numbers that commands would need an hour for. Each has alice's password."""
    database = sqlite3.connect(server.data / "turnpike.sqlite3")
    with database:
        for number in range(count):
            user = name(number)
            database.execute(
                "INSERT INTO users (name, realm, md5_key, sha256_key, userhash, enabled, created_at)"
                " VALUES (?, 'turnpike', ?, ?, ?, 1, 0)",
                (user, stun.md5_key(user, "turnpike", PASSWORD), stun.sha256_key(user, "turnpike", PASSWORD),
                 stun.userhash(user, "turnpike")),
            )
    database.close()


def _raise_descriptor_limit():
    _set_descriptor_limit(None)


def _set_descriptor_limit(limit):
    """The soft and the hard limit; None leaves the hard one as it is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit or hard, limit or hard))


class Background:
    """Runs a function on a thread; `result()` re-raises what it raised."""

    def __init__(self, function):
        self.value = self.failure = None
        self.thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self.thread.start()

    def _run(self, function):
        try:
            self.value = function()
        except BaseException as failure:
            self.failure = failure

    def result(self, timeout=60):
        self.thread.join(timeout)
        assert not self.thread.is_alive(), f"still running after {timeout} s"
        if self.failure is not None:
            raise self.failure
        return self.value
