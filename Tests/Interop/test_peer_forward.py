"""`turnpike-peer forward` and `listen`: TCP connections over one peer connection, each by itself."""

import hashlib
import itertools
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from forwarding import CHUNK, Service, dial, echo, forwarding, pour, read_all, reset
from harness import free_port, wait_until
from peertool import PATIENCE_SECONDS, of_a_server, peer, running

_names = (f"alice/machine{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def environment(serve_module):
    return of_a_server(serve_module)


def listening(directory, environment, name, *arguments):
    return running(directory, environment, "listen", "--id", name, *arguments, ready="registered as")


@pytest.fixture(scope="module")
def listener(tmp_path_factory, environment):
    name = next(_names)
    with listening(tmp_path_factory.mktemp("listen"), environment, name) as program:
        program.name = name
        yield program


def test_fifty_connections_at_once_carry_both_directions_and_their_ends(tmp_path, environment, listener):
    def exchange(port):
        data = os.urandom(300_000)
        with dial(port) as connection:
            sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
            sender.start()
            came = read_all(connection)
            sender.join()
        return came == data

    with Service(echo) as service, forwarding(tmp_path, environment, f"{listener.name}:{service.port}") as program:
        with ThreadPoolExecutor(50) as pool:
            assert all(pool.map(exchange, program.ports * 50))
        text = program.wait_for(" is connected by ")
        assert f"leads to {listener.name}, port {service.port} there" in text
        assert listener.said().count(f" is forwarded to localhost:{service.port}") >= 20


def test_a_server_that_ends_first_still_hears_the_client(tmp_path, environment, listener):
    heard = []

    def serve(connection):
        connection.sendall(b"goodbye")
        connection.shutdown(socket.SHUT_WR)
        heard.append(hashlib.sha256(read_all(connection)).hexdigest())

    with Service(serve) as service, forwarding(tmp_path, environment, f"{listener.name}:{service.port}") as program:
        data = os.urandom(3_000_000)
        with dial(*program.ports) as connection:
            assert read_all(connection) == b"goodbye"
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            wait_until(lambda: heard, PATIENCE_SECONDS, "the server has read it")
        assert heard == [hashlib.sha256(data).hexdigest()]


def test_what_was_sent_before_the_end_arrives_at_a_slow_reader(tmp_path, environment, listener):
    data = os.urandom(2_000_000)

    def serve(connection):
        connection.sendall(data)

    with Service(serve) as service, forwarding(tmp_path, environment, f"{listener.name}:{service.port}") as program:
        with dial(*program.ports, receive_bytes=16_384) as connection:
            connection.shutdown(socket.SHUT_WR)
            came = b""
            while piece := connection.recv(1000 if len(came) < 100_000 else 65_536):
                came += piece
        assert came == data


def test_a_reset_passes_as_a_reset_in_both_directions(tmp_path, environment, listener):
    outcomes = []

    def serve(connection):
        if connection.recv(1) == b"r":
            return reset(connection)
        try:
            connection.recv(1)
            outcomes.append("an end")
        except ConnectionResetError:
            outcomes.append("a reset")

    with Service(serve) as service, forwarding(tmp_path, environment, f"{listener.name}:{service.port}") as program:
        with dial(*program.ports) as connection:
            connection.sendall(b"r")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        connection = dial(*program.ports)
        connection.sendall(b"w")
        wait_until(lambda: len(service.open) == 2, PATIENCE_SECONDS, "it has come")
        reset(connection)
        assert wait_until(lambda: outcomes, PATIENCE_SECONDS, "the server sees it") == ["a reset"]


def test_a_connection_that_nobody_reads_holds_up_no_other_and_no_memory(tmp_path, environment, listener):
    size = 20_000_000

    def serve(connection):
        if connection.recv(1) == b"p":
            pour(connection)
        for _ in range(size // len(CHUNK)):
            connection.sendall(CHUNK)

    with Service(serve) as service, forwarding(tmp_path, environment, f"{listener.name}:{service.port}") as program:
        sleepers = [dial(*program.ports, receive_bytes=16_384) for _ in range(5)]
        for sleeper in sleepers:
            sleeper.sendall(b"p")
            assert sleeper.recv(1)
        before = program.resident_bytes(), listener.resident_bytes()
        for _ in range(3):
            with dial(*program.ports) as connection:
                connection.sendall(b"d")
                assert len(read_all(connection)) == size // len(CHUNK) * len(CHUNK)
        after = program.resident_bytes(), listener.resident_bytes()
        # 5 windows of a megabyte, as much for what TCP holds, and room for what an allocator does.
        assert all(new - old < 40_000_000 for old, new in zip(before, after)), (before, after)
        for sleeper in sleepers:
            sleeper.close()


def test_a_port_where_nothing_listens_is_told_with_the_mend(tmp_path, environment, listener):
    port = free_port()
    with forwarding(tmp_path, environment, f"{listener.name}:{port}") as program:
        with dial(*program.ports) as connection, pytest.raises(ConnectionResetError):
            connection.recv(1)
        text = program.wait_for("does not connect to")
        assert f"{listener.name} does not connect to localhost:{port}: nothing listens there; start the server" in text
        listener.wait_for(f"is not forwarded to localhost:{port}")


def test_a_peer_that_is_not_there_is_told_and_found_once_it_is(tmp_path, environment):
    name = next(_names)
    with Service(echo) as service, forwarding(tmp_path, environment, f"{name}:{service.port}") as program:
        text = program.wait_for(f"no connection to {name}")
        assert "registered" in text and "the next connection tries again" in text
        with listening(tmp_path, environment, name):
            with dial(*program.ports) as connection:
                connection.sendall(b"hello")
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection) == b"hello"


def test_when_the_other_side_starts_anew_connections_break_and_the_next_one_works(tmp_path, environment):
    name = next(_names)
    with Service(echo) as service, forwarding(tmp_path, environment, f"{name}:{service.port}") as program:
        with listening(tmp_path, environment, name):
            live = dial(*program.ports)
            live.sendall(b"a")
            assert live.recv(1) == b"a"
        with listening(tmp_path, environment, name), live:
            def answers():
                with dial(*program.ports) as connection:
                    try:
                        connection.sendall(b"b")
                        return connection.recv(1) == b"b"
                    except OSError:
                        return False

            wait_until(answers, PATIENCE_SECONDS, "a new connection is carried")
            with pytest.raises(ConnectionResetError):
                live.recv(1)


def test_listen_restricts_where_it_forwards_to(tmp_path, environment):
    name = next(_names)
    with Service(echo) as allowed, Service(echo) as other:
        rules = ("--forward", f"own-user,{allowed.port}")
        with listening(tmp_path, environment, name, *rules) as listener, \
                forwarding(tmp_path, environment, f"{name}:{allowed.port}", f"{name}:{other.port}",
                           f"{name}:192.0.2.1:80") as program:
            assert f"forwards peers of its own user to port {allowed.port} of" in listener.wait_for("forwards peers")
            with dial(program.ports[0]) as connection:
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"
            for port, target in ((program.ports[1], f"localhost:{other.port}"), (program.ports[2], "192.0.2.1:80")):
                with dial(port) as connection, pytest.raises(ConnectionResetError):
                    connection.recv(1)
                assert "started with --forward" in program.wait_for(f"does not connect to {target}")


def test_what_cannot_be_listened_on_or_read_is_one_line(environment):
    with Service(echo) as taken:
        done = peer("forward", "--listen", taken.port, "--to", "alice/x:80", environment=environment)
    assert done.returncode == 1 and "the port is taken; choose another" in done.stderr, done.stderr
    for arguments in (("--listen", "8080"), ("--listen", "x:y", "--to", "a:80"), ("--listen", "0", "--to", "a")):
        done = peer("forward", *arguments)
        assert done.returncode == 64 and done.stderr.count("\n") == 1, done.stderr
    done = peer("listen", "--forward", "none,80", environment=environment)
    assert done.returncode == 64 and "--forward none" in done.stderr, done.stderr
