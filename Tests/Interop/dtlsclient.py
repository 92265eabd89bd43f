"""A DTLS client for tests, over OpenSSL by way of pyOpenSSL. Datagrams go through the test's hands, so it can lose,
repeat or change them.

`DTLSWire` is a socket with a session to a server; `DTLSClient` adds long-term credentials and an allocation.
"""

import time

from OpenSSL import SSL

from stunclient import Closed, Silence, TurnClient, Wire

RECORD_HEADER = 13
HANDSHAKE, ALERT, CHANGE_CIPHER_SPEC, APPLICATION_DATA = 22, 21, 20, 23
HELLO_VERIFY_REQUEST = 3
MTU = 1200


def dtls_context(trust=None, protocols=(), minimum=None, maximum=None, ciphers=None):
    """Verifies the server by the certificate file `trust`, or not at all."""
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    if trust is not None:
        context.load_verify_locations(str(trust))
        context.set_verify(SSL.VERIFY_PEER, None)
    if protocols:
        context.set_alpn_protos([name.encode() for name in protocols])
    if minimum is not None:
        context.set_min_proto_version(minimum)
    if maximum is not None:
        context.set_max_proto_version(maximum)
    if ciphers is not None:
        context.set_cipher_list(ciphers.encode())
    return context


def records(datagram):
    """The records of a datagram, each with its header."""
    at = 0
    while at + RECORD_HEADER <= len(datagram):
        end = at + RECORD_HEADER + int.from_bytes(datagram[at + 11 : at + 13], "big")
        yield datagram[at:end]
        at = end


def is_hello_verify_request(datagram):
    return datagram[0] == HANDSHAKE and datagram[13] == HELLO_VERIFY_REQUEST


class Refused(AssertionError):
    """The server ended the handshake."""


class Handshake:
    """The client's side of one session, without a socket: datagrams out and in."""

    def __init__(self, context=None):
        self.connection = SSL.Connection(context or dtls_context(), None)
        self.connection.set_connect_state()
        self.connection.set_ciphertext_mtu(MTU)
        self.is_over = False

    def advance(self):
        """Goes on, and returns the bytes to send."""
        if not self.is_over:
            try:
                self.connection.do_handshake()
                self.is_over = True
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                raise Refused(str(error)) from None
        return self.take()

    def take(self):
        try:
            return self.connection.bio_read(1 << 16)
        except SSL.WantReadError:
            return b""

    def put(self, datagram):
        self.connection.bio_write(datagram)

    def again(self):
        """What is to be sent again because its time has come."""
        self.connection.DTLSv1_handle_timeout()
        return self.take()


class DTLSWire(Wire):
    """A UDP socket with a DTLS session. What is sent and received are messages, one in each record."""

    def __init__(self, server, local=("127.0.0.1", 0), sock=None, context=None, handshake=True):
        super().__init__(server, local, sock)
        self.context = context or dtls_context()
        self.begin()
        if handshake:
            try:
                self.shake_hands()
            except BaseException:
                self.close()
                raise

    def begin(self):
        """A new session on the same socket; the server hears nothing of the end of the old one."""
        self.handshake = Handshake(self.context)
        self.has_ended = False

    def shake_hands(self, timeout=None):
        deadline = time.monotonic() + (self.PATIENCE_SECONDS if timeout is None else timeout)
        self.put(self.handshake.advance())
        while not self.handshake.is_over:
            if time.monotonic() > deadline:
                raise Silence(f"{self.server} left the handshake of {self.local} unfinished")
            try:
                self.handshake.put(self.raw(0.25))
            except Silence:
                self.put(self.handshake.again())
                continue
            self.put(self.handshake.advance())
        return self

    def put(self, datagram):
        """A datagram as it is."""
        if datagram:
            self.socket.sendto(datagram, self.server)

    def raw(self, timeout=None):
        """The next datagram as it is."""
        return Wire.receive(self, timeout)

    def sealed(self, message):
        """The datagram of a message."""
        self.handshake.connection.send(message)
        return self.handshake.take()

    def send(self, message):
        self.put(self.sealed(message))

    def opened(self, datagram):
        """The message in a datagram; None where there is none, as in a flight that came again. Raises Closed."""
        self.handshake.put(datagram)
        return self.waiting()

    def waiting(self):
        try:
            return self.handshake.connection.recv(1 << 16)
        except SSL.WantReadError:
            return None
        except SSL.ZeroReturnError:
            self.has_ended = True
            raise Closed(f"{self.server} said close_notify to {self.local}") from None

    def receive(self, timeout=None):
        deadline = time.monotonic() + (self.PATIENCE_SECONDS if timeout is None else timeout)
        while True:
            message = self.waiting()
            if message is not None:
                return message
            left = deadline - time.monotonic()
            if left <= 0:
                raise Silence(f"nothing came from {self.server} to {self.local}")
            self.handshake.put(self.raw(left))

    def finish(self):
        """Says close_notify."""
        self.handshake.connection.shutdown()
        self.put(self.handshake.take())

    def certificate(self):
        """The server's, in DER."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.handshake.connection.get_peer_certificate(as_cryptography=True).public_bytes(Encoding.DER)


class DTLSClient(TurnClient, DTLSWire):
    """A TURN client by DTLS."""

    def __init__(self, server, username, password, local=("127.0.0.1", 0), context=None, **options):
        self.given = context
        super().__init__(server, username, password, local, **options)

    def begin(self):
        self.context = self.given or self.context
        super().begin()
