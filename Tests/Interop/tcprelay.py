"""RFC 6062 for tests: a client's control connection, its data connections, and peers by TCP."""

import contextlib
import hashlib
import select
import socket
import ssl
import struct
import time

import harness
import stunclient
import stunwire as stun
from harness import PASSWORD, client_address, free_port
from test_tls import tls_context

HOSTS = ("127.0.0.1", "::1")
TRANSPORTS = ("tcp", "tls")
CONFIG = {"relay": {"tcp": True}, "limits": {"allocations_per_user": 200, "unauthenticated_replies_per_second": 1000}}
USERS = {"alice": PASSWORD, "bob": "another long passphrase 43"}
PATIENCE_SECONDS = 10
PIECE = 1 << 16
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ControlClient(stunclient.StreamClient):
    """A TURN client by TCP that wants TCP relayed."""

    def allocate_tcp(self, *extra):
        answer = self.call(stun.ALLOCATE, [(stun.REQUESTED_TRANSPORT, stun.TCP), *extra])
        if answer.is_success:
            self.relayed = answer.address(stun.XOR_RELAYED_ADDRESS)
        return answer

    def allocated_tcp(self, *extra):
        answer = self.allocate_tcp(*extra)
        assert answer.is_success, f"Allocate refused: {answer}"
        return self

    def connect(self, peer):
        """Connect, and its answer, which may take as long as the peer does."""
        transaction = stun.transaction_id()
        return self.call(stun.CONNECT, [self.peer_attribute(peer, transaction)], transaction)

    def begin_connecting(self, peer):
        transaction = stun.transaction_id()
        self.send(self.signed(stun.CONNECT, [self.peer_attribute(peer, transaction)], transaction))

    def connected(self, peer):
        """The CONNECTION-ID of a new connection to the peer."""
        answer = self.connect(peer)
        assert answer.is_success, f"Connect to {peer} refused: {answer}"
        return answer.get(stun.CONNECTION_ID)

    def attempt(self, timeout=None):
        """The next ConnectionAttempt: (CONNECTION-ID, the peer's address)."""
        message = stun.Message.parse(self.receive(timeout))
        assert (message.method, message.cls) == (stun.CONNECTION_ATTEMPT, stun.INDICATION), message
        return message.get(stun.CONNECTION_ID), message.address(stun.XOR_PEER_ADDRESS)


class DataClient(stunclient.StreamClient):
    """A connection that is to carry data."""

    def bind(self, connection_id, behind=b"", nonce_of=None):
        """ConnectionBind and its answer; `behind` follows the request at once, `nonce_of` lends its nonce."""
        if nonce_of is not None:
            self.realm, self.nonce, self.algorithms = nonce_of.realm, nonce_of.nonce, nonce_of.algorithms
        request = self.signed(stun.CONNECTION_BIND, [(stun.CONNECTION_ID, connection_id)])
        self.write(request + behind)
        return stun.Message.parse(self.receive())

    def bound(self, connection_id, behind=b""):
        answer = self.bind(connection_id, behind)
        assert answer.is_success, f"ConnectionBind refused: {answer}"
        assert answer.verify(self.key, self.integrity)
        return self

    def challenge(self):
        """Asks for a challenge by a request that changes nothing."""
        answer = self.request(stun.REFRESH)
        assert answer.error == 401, answer
        self.learn(answer)
        return answer

    # Data

    def read(self, size, timeout=PATIENCE_SECONDS):
        self._fill(size, time.monotonic() + timeout)
        data = bytes(self.unread[:size])
        del self.unread[:size]
        return data


def relaying(server_maker):
    """`start(config)` for servers that relay TCP, on both loopbacks and by TLS; made of the fixture `serve`."""

    def start(config=None, start=True, **options):
        port = free_port()
        config = harness.merged(CONFIG, config or {})
        server = server_maker({**config, "listen": {"tls": [f"127.0.0.1:{port}"]}}, start=False, users=USERS,
                              **{"hosts": HOSTS, **options})
        server.tls_port = port
        return server.start() if start else server

    return start


def context(server, transport):
    return tls_context(server) if transport == "tls" else None


@contextlib.contextmanager
def joined(server, transport="tcp", name="alice"):
    """(control connection, data connection, the peer's socket) of an established relayed connection."""
    tls = context(server, transport)
    with control(server, name, tls=tls) as client, TCPPeer() as peer, data(server, name, tls=tls) as carrier:
        client.allocated_tcp()
        number = client.connected(peer.address)
        accepted, _ = peer.accept()
        with accepted:
            yield client, carrier.bound(number), accepted


def control(server, name="alice", host=None, tls=None):
    """`tls`: a context, for a client by TLS."""
    return _client(ControlClient, server, name, host, tls)


def data(server, name="alice", host=None, tls=None, wrap=None):
    """`wrap(socket, context, host)`: makes a TLS socket in another way than Python does."""
    return _client(DataClient, server, name, host, tls, wrap)


def _client(kind, server, name, host, tls, wrap=None):
    host = host or server.hosts[0]
    password = server.users.get(name, PASSWORD)
    local = ("::1", 0) if ":" in host else (client_address(), 0)
    if tls is None:
        return kind((host, server.port), name, password, local)
    bare = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    secured = wrap(bare, tls, host) if wrap else tls.wrap_socket(bare, server_hostname=host)
    return kind((host, server.tls_port), name, password, local, sock=secured)


class HalfClosingTLS:
    """A TLS socket that can say close_notify and go on reading (RFC 8446 section 6.1), which Python's own cannot."""

    def __init__(self, bare, context, host):
        self.bare = bare
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)

    def __getattr__(self, name):
        return getattr(self.bare, name)

    def connect(self, address):
        self.bare.connect(address)
        self._until_done(self.session.do_handshake)

    def sendall(self, data):
        self._until_done(lambda: self.session.write(data))

    def recv(self, size):
        try:
            return self._until_done(lambda: self.session.read(size))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def say_close(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.session.unwrap()
        self._flush()

    def _flush(self):
        if pending := self.outgoing.read():
            self.bare.sendall(pending)

    def _until_done(self, action):
        while True:
            try:
                result = action()
                self._flush()
                return result
            except ssl.SSLWantReadError:
                self._flush()
                received = self.bare.recv(PIECE)
                if received:
                    self.incoming.write(received)
                else:
                    self.incoming.write_eof()


class TCPPeer:
    """A peer that listens."""

    def __init__(self, host="127.0.0.2", backlog=64):
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((host, 0))
        self.socket.listen(backlog)
        self.address = self.socket.getsockname()[:2]

    def accept(self, timeout=PATIENCE_SECONDS):
        self.socket.settimeout(timeout)
        accepted, source = self.socket.accept()
        accepted.settimeout(PATIENCE_SECONDS)
        return accepted, source[:2]

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def dial(relayed, host="127.0.0.2"):
    """A peer's connection to a relayed address."""
    if ":" in relayed[0]:
        host = "::1"
    return socket.create_connection(tuple(relayed), PATIENCE_SECONDS, source_address=(host, 0))


def is_turned_away(relayed, timeout=PATIENCE_SECONDS):
    """Whether a relayed address closes a peer's connection, be it while that is made."""
    try:
        with dial(relayed) as peer:
            return ends(peer, timeout)
    except ConnectionResetError:
        return True


def read_exactly(sock, size):
    sock.settimeout(PATIENCE_SECONDS)
    parts = bytearray()
    while len(parts) < size:
        piece = sock.recv(min(PIECE, size - len(parts)))
        assert piece, f"the stream ended after {len(parts)} of {size} bytes"
        parts += piece
    return bytes(parts)


def read_to_end(sock):
    """All until the other side's end. A reset raises."""
    sock.settimeout(PATIENCE_SECONDS)
    parts = bytearray()
    while piece := sock.recv(PIECE):
        parts += piece
    return bytes(parts)


def ends(sock, timeout):
    """Whether the connection ends within that time, one way or the other."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            if not sock.recv(PIECE):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False


def stream_of(size, seed):
    """Bytes that tell where they stand: no piece of them is equal to another."""
    block = hashlib.sha256(seed.encode()).digest()
    return b"".join(hashlib.sha256(block + struct.pack("!I", n)).digest() for n in range(size // 32 + 1))[:size]


def exchange(one, other, outward, inward, timeout=60):
    """Sends both ways at once over two plain sockets or TLS ones, and wants both to arrive whole."""
    deadline = time.monotonic() + timeout
    pending = {one: memoryview(outward), other: memoryview(inward)}
    wanted = {one: len(inward), other: len(outward)}
    digests = {one: hashlib.sha256(), other: hashlib.sha256()}
    for sock in (one, other):
        sock.setblocking(False)
    while any(wanted.values()):
        assert time.monotonic() < deadline, f"not within {timeout} s; missing {list(wanted.values())}"
        select.select([s for s in wanted if wanted[s]], [s for s in pending if pending[s]], [], 1)
        for sock in (one, other):
            if wanted[sock]:
                try:
                    while piece := sock.recv(PIECE):
                        wanted[sock] -= len(piece)
                        digests[sock].update(piece)
                except NOT_NOW:
                    pass
            if pending[sock]:
                try:
                    pending[sock] = pending[sock][sock.send(pending[sock][:PIECE]) :]
                except NOT_NOW:
                    pass
    for sock in (one, other):
        sock.setblocking(True)
    assert digests[one].digest() == hashlib.sha256(inward).digest(), "what came to the client differs"
    assert digests[other].digest() == hashlib.sha256(outward).digest(), "what came to the peer differs"
