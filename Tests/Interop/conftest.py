"""Fixtures: servers on loopback and in network namespaces, compiled helpers, unique client addresses."""

import os
import subprocess
from pathlib import Path

import pytest

import harness
from harness import Server
from namespaces import Namespaces, ip, remove_stale_namespaces

TOOLS = Path(__file__).parent / "tools"
BENCH = Path(__file__).resolve().parents[1] / "Bench/signaling"


def pytest_configure(config):
    if os.geteuid() != 0:
        raise pytest.UsageError("the interop tests make network namespaces: run them as root")
    if not harness.BINARY.exists():
        raise pytest.UsageError(f"{harness.BINARY} is not there: build it with Tests/run, or set TURNPIKE_BIN")
    os.environ.setdefault("TURNPIKE_BIN", str(harness.BINARY))
    # A client of the memory tests holds thousands of sockets.
    harness._raise_descriptor_limit()


def pytest_sessionfinish(session):
    """Adds the names of the tests that failed where `Tests/run` wants them: it runs a few of them once more."""
    wanted = os.environ.get("FAILED_TESTS_FILE")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    # The process that the others report to says it once.
    if not wanted or reporter is None or "PYTEST_XDIST_WORKER" in os.environ:
        return
    reports = reporter.stats.get("failed", []) + reporter.stats.get("error", [])
    with open(wanted, "a") as file:
        # A test whose set-up and end have both failed counts twice there, and so it does here.
        file.writelines(f"{report.nodeid}\n" for report in reports)


@pytest.fixture(scope="session", autouse=True)
def no_stale_namespaces():
    remove_stale_namespaces()


class _Servers:
    """Starts servers and stops each of them cleanly; a server that has died fails its test."""

    def __init__(self, factory):
        self.factory = factory
        self.servers = []

    def __call__(self, config=None, start=True, **options):
        server = Server(self.factory.mktemp("server"), config, **options)
        self.servers.append(server)
        return server.start() if start else server

    def close(self):
        failures = []
        for server in self.servers:
            try:
                server.stop()
            except AssertionError as failure:
                failures.append(failure)
            finally:
                server.discard()
        if failures:
            raise failures[0]


def _serving(factory):
    servers = _Servers(factory)
    yield servers
    servers.close()


@pytest.fixture
def serve(tmp_path_factory):
    """`serve(config, …)` starts a server that ends with the test."""
    yield from _serving(tmp_path_factory)


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory):
    """`serve` for a server shared by one file's tests."""
    yield from _serving(tmp_path_factory)


@pytest.fixture(scope="session")
def _shared(tmp_path_factory):
    servers = _Servers(tmp_path_factory)
    limits = {"allocations_per_user": 1000}
    servers(config={"limits": limits}, users={"alice": harness.PASSWORD, "bob": "another long passphrase 43"})
    yield servers
    servers.close()


@pytest.fixture
def server(_shared):
    """The server most tests share: loopback relaying, users alice and bob. It has to be alive after every test."""
    server = _shared.servers[0]
    yield server
    server.assert_alive()


@pytest.fixture
def namespaces():
    with Namespaces() as made:
        yield made


@pytest.fixture
def cut_off():
    """A namespace with a loopback and no cable: whatever address a mutation names, nothing leaves."""
    with Namespaces() as made:
        ip("link", "del", "cable", namespace=made.server)
        yield made.server


@pytest.fixture(scope="module")
def namespaces_module():
    with Namespaces() as made:
        yield made


@pytest.fixture(scope="session")
def tool(tmp_path_factory):
    """`tool("flood")` compiles tools/flood.c once and returns the path of the result."""
    directory = tmp_path_factory.mktemp("tools")
    made = {}

    def compile(name):
        if name not in made:
            library = name.startswith("lib")
            target = directory / (name + (".so" if library else ""))
            shared = ["-shared", "-fPIC"] if library else []
            # The benchmark's generator is a client for tests as well.
            source = next(path for path in (TOOLS / f"{name}.c", BENCH / f"{name}.c") if path.exists())
            command = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", *shared, "-o", str(target),
                       str(source), "-lssl", "-lcrypto", "-lpthread"]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            made[name] = target
        return made[name]

    return compile
