"""A TURN client for tests, on raw sockets. Nothing is retried or repaired unless a test asks.

`Wire` is a socket with a server's address, `Stream` the same by TCP; `TurnClient` and `StreamClient` add long-term
credentials and an allocation; `Peer` is the far side of the relay.
"""

import select
import socket
import struct
import time

from stunwire import (
    ALLOCATE, BINDING, CHANNEL_BIND, CHANNEL_NUMBER, CREATE_PERMISSION, DATA, DATA_ATTRIBUTE, INDICATION, LIFETIME,
    Message, NONCE, PASSWORD_ALGORITHM, PASSWORD_ALGORITHMS, REALM, REFRESH, REQUEST, REQUESTED_TRANSPORT, SEND,
    SHA256_ALGORITHM, UDP, USERHASH, USERNAME, XOR_MAPPED_ADDRESS, XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS, build,
    channel_data, encode_address, is_ipv6, md5_key, sha256_key, transaction_id, userhash,
)


class Silence(AssertionError):
    """No answer came."""


class Closed(AssertionError):
    """The server ended the connection."""


class Wire:
    """A UDP socket and the server it talks to."""

    # How long to wait for an answer that must come. Generous: two cores carry the whole suite.
    PATIENCE_SECONDS = 5.0

    def __init__(self, server, local=("127.0.0.1", 0), sock=None):
        self.server = server
        if sock is None:
            sock = socket.socket(socket.AF_INET6 if is_ipv6(server[0]) else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket = sock
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(local)
        self.local = self.socket.getsockname()[:2]

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, datagram):
        self.socket.sendto(datagram, self.server)

    def receive(self, timeout=None):
        """The next datagram from the server, raw. Raises Silence."""
        deadline = time.monotonic() + (self.PATIENCE_SECONDS if timeout is None else timeout)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Silence(f"nothing came from {self.server} to {self.local}")
            self.socket.settimeout(left)
            try:
                datagram, source = self.socket.recvfrom(65535)
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                continue
            # The link of a link-local address stands in the fourth part of a source.
            assert source[:2] == (self.server[0].split("%")[0], self.server[1]), f"a datagram from {source}"
            return datagram

    def exchange(self, datagram, timeout=None):
        """Sends one request and returns the parsed answer to it. Anything else that comes is an error."""
        self.send(datagram)
        answer = Message.parse(self.receive(timeout))
        assert answer.transaction == datagram[8:20], "an answer to another transaction"
        return answer

    def request(self, method, attributes=(), timeout=None, **options):
        return self.exchange(build(method, REQUEST, attributes, **options), timeout)

    def binding(self):
        answer = self.request(BINDING)
        assert answer.is_success, answer
        return answer.address(XOR_MAPPED_ADDRESS)

    def drain_until_fence(self):
        """Everything that came before the answer to a Binding sent now: the server keeps a socket's order."""
        fence = build(BINDING)
        self.send(fence)
        seen = []
        while True:
            datagram = self.receive()
            if datagram[8:20] == fence[8:20] and datagram[:2] == b"\x01\x01":
                return seen
            seen.append(datagram)

    def assert_silence_after(self, *datagrams):
        """Sends the datagrams, then a Binding, and wants the answer to the Binding alone."""
        for datagram in datagrams:
            self.send(datagram)
        seen = self.drain_until_fence()
        assert not seen, f"wanted silence, got {[s.hex() for s in seen]}"


def small_stream_socket():
    """A TCP socket, not connected yet, into which the kernel takes little that is not read."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return sock


class Stream(Wire):
    """A TCP connection. What is sent and received are whole frames; `write` and `read_to_end` know only bytes."""

    # Writes no more than so many bytes at a time.
    piece_bytes = None

    def __init__(self, server, local=("127.0.0.1", 0), sock=None):
        self.server = server
        if sock is None:
            sock = socket.socket(socket.AF_INET6 if is_ipv6(server[0]) else socket.AF_INET, socket.SOCK_STREAM)
        self.socket = sock
        self.unread = bytearray()
        sock.settimeout(self.PATIENCE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.bind(local)
            sock.connect(tuple(server[:2]))
        except OSError:
            sock.close()
            raise
        self.local = sock.getsockname()[:2]

    def abort(self):
        """Ends the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def finish(self):
        """Sends FIN, and goes on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def write(self, data):
        self.socket.settimeout(self.PATIENCE_SECONDS)
        step = self.piece_bytes or len(data) or 1
        for at in range(0, len(data), step):
            self.socket.sendall(data[at : at + step])

    def send(self, frame):
        """RFC 8656 section 12.5: ChannelData is padded to four bytes on a stream."""
        self.write(frame + bytes(-len(frame) % 4) if frame[0] & 0xC0 == 0x40 else frame)

    def _fill(self, size, deadline):
        while len(self.unread) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Silence(f"{len(self.unread)} of {size} bytes came from {self.server} to {self.local}")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 18)
            except TimeoutError:
                continue
            except ConnectionError as error:
                raise Closed(f"{self.server} ended the connection of {self.local}: {error}") from None
            if not data:
                raise Closed(f"{self.server} ended the connection of {self.local}, {len(self.unread)} bytes unread")
            self.unread += data

    def receive(self, timeout=None):
        """The next frame, with its padding, which has to be of zeros. Raises Silence or Closed."""
        deadline = time.monotonic() + (self.PATIENCE_SECONDS if timeout is None else timeout)
        self._fill(4, deadline)
        length = struct.unpack_from("!H", self.unread, 2)[0]
        if self.unread[0] & 0xC0 == 0x40:
            size = 4 + length + (-length % 4)
            self._fill(size, deadline)
            padding = self.unread[4 + length : size]
            assert not any(padding), f"padding of {length} bytes of ChannelData is not zero: {padding.hex()}"
        else:
            size = 20 + length
            self._fill(size, deadline)
        frame = bytes(self.unread[:size])
        del self.unread[:size]
        return frame

    def read_to_end(self, timeout=None):
        """All that comes before the server ends the connection, by FIN or RST. Raises Silence if it does not."""
        deadline = time.monotonic() + (self.PATIENCE_SECONDS if timeout is None else timeout)
        try:
            while True:
                self._fill(len(self.unread) + 1, deadline)
        except Closed:
            return bytes(self.unread)

    def has_ended(self):
        """Whether the server has ended the connection; nothing may lie unread."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if not poll.poll(0):
            return False
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            return True
        assert not data, f"{data[:64].hex()} came from {self.server}"
        return True


class TurnClient(Wire):
    """A client with long-term credentials. `integrity` is "sha1" (MD5 key, as browsers do) or "sha256"."""

    def __init__(self, server, username, password, local=("127.0.0.1", 0), integrity="sha1", hashed=False, sock=None):
        super().__init__(server, local, sock)
        self.username, self.password, self.integrity, self.hashed = username, password, integrity, hashed
        self.realm = self.nonce = self.algorithms = None
        self.relayed = None

    @property
    def key(self):
        make = md5_key if self.integrity == "sha1" else sha256_key
        return make(self.username, self.realm, self.password)

    def learn(self, challenge):
        self.realm = challenge.get(REALM).decode()
        self.nonce = challenge.get(NONCE)
        self.algorithms = challenge.get(PASSWORD_ALGORITHMS)

    def challenge(self):
        """Asks for a challenge and keeps it."""
        answer = self.request(ALLOCATE, [(REQUESTED_TRANSPORT, UDP)])
        assert answer.error == 401, answer
        self.learn(answer)
        return answer

    def credentials(self):
        identity = (USERNAME, self.username.encode())
        if self.hashed:
            identity = (USERHASH, userhash(self.username, self.realm))
        attributes = [identity, (REALM, self.realm.encode()), (NONCE, self.nonce)]
        if self.integrity == "sha256":
            attributes += [(PASSWORD_ALGORITHMS, self.algorithms), (PASSWORD_ALGORITHM, SHA256_ALGORITHM)]
        return attributes

    def signed(self, method, attributes=(), transaction=None, fingerprint=False):
        """An authenticated request's bytes, after a challenge has been seen."""
        if self.nonce is None:
            self.challenge()
        return build(
            method, REQUEST, list(attributes) + self.credentials(), transaction, self.key, self.integrity, fingerprint
        )

    def call(self, method, attributes=(), transaction=None, fingerprint=False, renew=True):
        """An authenticated request and its answer, past a stale nonce when `renew`. A success has to be signed."""
        transaction = transaction_id() if transaction is None else transaction
        answer = self.exchange(self.signed(method, attributes, transaction, fingerprint))
        if answer.error == 438 and renew:
            self.learn(answer)
            answer = self.exchange(self.signed(method, attributes, transaction, fingerprint))
        if answer.is_success:
            assert answer.verify(self.key, self.integrity), f"the answer is not signed with {self.integrity}: {answer}"
        return answer

    def allocate(self, *extra, lifetime=None, transaction=None):
        attributes = [(REQUESTED_TRANSPORT, UDP), *extra]
        if lifetime is not None:
            attributes.append((LIFETIME, struct.pack("!I", lifetime)))
        answer = self.call(ALLOCATE, attributes, transaction)
        if answer.is_success:
            self.relayed = answer.address(XOR_RELAYED_ADDRESS)
        return answer

    def allocated(self, *extra, **options):
        """Allocates or fails the test; returns self."""
        answer = self.allocate(*extra, **options)
        assert answer.is_success, f"Allocate refused: {answer}"
        return self

    def refresh(self, lifetime=None, *extra):
        attributes = [] if lifetime is None else [(LIFETIME, struct.pack("!I", lifetime))]
        return self.call(REFRESH, attributes + list(extra))

    def peer_attribute(self, peer, transaction):
        return (XOR_PEER_ADDRESS, encode_address(peer, transaction))

    def create_permission(self, *peers):
        transaction = transaction_id()
        return self.call(CREATE_PERMISSION, [self.peer_attribute(p, transaction) for p in peers], transaction)

    def permitted(self, *peers):
        answer = self.create_permission(*peers)
        assert answer.is_success, f"CreatePermission {peers} refused: {answer}"
        return self

    def channel_bind(self, number, peer):
        transaction = transaction_id()
        attributes = [(CHANNEL_NUMBER, struct.pack("!HH", number, 0)), self.peer_attribute(peer, transaction)]
        return self.call(CHANNEL_BIND, attributes, transaction)

    def bound(self, number, peer):
        answer = self.channel_bind(number, peer)
        assert answer.is_success, f"ChannelBind {number:04x} {peer} refused: {answer}"
        return self

    def send_to(self, peer, payload, *extra):
        transaction = transaction_id()
        attributes = [self.peer_attribute(peer, transaction), (DATA_ATTRIBUTE, payload), *extra]
        self.send(build(SEND, INDICATION, attributes, transaction))

    def send_channel(self, number, payload):
        self.send(channel_data(number, payload))

    def receive_data(self, timeout=None):
        """The next relayed payload: (peer or channel number, bytes)."""
        datagram = self.receive(timeout)
        if datagram[0] & 0xC0 == 0x40:
            number, length = struct.unpack_from("!HH", datagram)
            assert len(datagram) - 4 - length in range(4), f"ChannelData of {len(datagram)} bytes says {length}"
            return number, datagram[4 : 4 + length]
        indication = Message.parse(datagram)
        assert (indication.method, indication.cls) == (DATA, INDICATION), indication
        return indication.address(XOR_PEER_ADDRESS), indication.get(DATA_ATTRIBUTE)


class StreamClient(TurnClient, Stream):
    """A TURN client by TCP."""


class Peer:
    """A plain UDP socket on the far side of the relay."""

    def __init__(self, local=("127.0.0.1", 0), sock=None):
        if sock is None:
            sock = socket.socket(socket.AF_INET6 if is_ipv6(local[0]) else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket = sock
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(local)
        self.address = self.socket.getsockname()[:2]

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, payload, to):
        self.socket.sendto(payload, to)

    def receive(self, timeout=Wire.PATIENCE_SECONDS):
        self.socket.settimeout(timeout)
        try:
            payload, source = self.socket.recvfrom(65535)
        except TimeoutError:
            raise Silence(f"nothing came to the peer at {self.address}") from None
        return payload, source[:2]
