"""TCP servers of every manner behind a `turnpike-peer forward`, and what a client sees of them."""

import contextlib
import re
import socket
import struct
import threading

from harness import wait_until
from peertool import PATIENCE_SECONDS, running

CHUNK = bytes(range(256)) * 256


class Service:
    """A TCP server on a port of this machine; each connection has a thread."""

    def __init__(self, serve):
        self.serve = serve
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.open = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, connection):
        self.open.add(connection)
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE_SECONDS)
            self.serve(connection)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        for connection in list(self.open):
            connection.close()


def echo(connection):
    """Sends back what comes, and ends when the other side has."""
    while piece := connection.recv(65536):
        connection.sendall(piece)
    connection.shutdown(socket.SHUT_WR)


def pour(connection):
    """Sends without end."""
    while True:
        connection.sendall(CHUNK)


def reset(connection):
    """Breaks the connection instead of ending it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def dial(port, receive_bytes=None):
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(PATIENCE_SECONDS)
    connection.connect(("127.0.0.1", port))
    return connection


def read_all(connection):
    pieces = []
    while piece := connection.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def forwarding(directory, environment, *routes, namespace=None):
    """A `turnpike-peer forward` for these, as `--to` has them, and the ports it listens on."""
    arguments = [word for route in routes for word in ("--listen", "0", "--to", route)]
    with running(directory, environment, "forward", *arguments, ready="leads to", namespace=namespace) as program:
        wait_until(lambda: program.said().count("; Ctrl-C ends it\n") == len(routes), PATIENCE_SECONDS, "all are open")
        program.ports = [int(port) for port in re.findall(r"^127\.0\.0\.1:(\d+) leads to", program.said(), re.M)]
        yield program
