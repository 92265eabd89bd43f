"""A server with signaling, and clients for it: well-behaved ones by `websockets`, others by hand."""

import asyncio
import base64
import hashlib
import http.client
import json
import os
import secrets
import socket
import ssl
import struct
import threading
import time

from websockets.asyncio.client import connect as connect_later

from harness import PASSWORD, free_port, wait_until

HOST = "127.0.0.1"
BOB_PASSWORD = "another long passphrase 43"
USERS = {"alice": PASSWORD, "bob": BOB_PASSWORD}


def start(serve, config=None, **options):
    """A server with `listen.https`; its port is `https_port`."""
    port = free_port()
    settings = {"listen": {"https": [f"{HOST}:{port}"]}, **(config or {})}
    server = serve(settings, start=False, users=options.pop("users", USERS), **options)
    server.https_port = port
    server.start()
    # STUN is answered a moment before the gateway listens.
    wait_until(lambda: is_open(port) and (server.data / "admin.sock").exists(), 20, f"a listener at {HOST}:{port}")
    return server


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def pinned(server, **options):
    """Trusts this server's own certificate and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(server.data / "certificate.pem")
    if "protocols" in options:
        context.set_alpn_protocols(options["protocols"])
    return context


_loop = asyncio.new_event_loop()
threading.Thread(target=_loop.run_forever, daemon=True).start()


def on_loop(coroutine, timeout=30):
    return asyncio.run_coroutine_threadsafe(coroutine, _loop).result(timeout)


class Socket:
    """A WebSocket for code without `await`.

    `websockets.sync` reads on a thread of its own, and before Python 3.13 an SSL object must not be read and written by
    two threads: now and then a request was never sent.
    """

    def __init__(self, uri, **options):
        async def open():
            return await connect_later(uri, ping_interval=None, max_size=None, open_timeout=20, **options)

        self._socket = on_loop(open())

    @property
    def subprotocol(self):
        return self._socket.subprotocol

    @property
    def response(self):
        return self._socket.response

    def send(self, text):
        on_loop(self._socket.send(text))

    def recv(self, timeout=10):
        return on_loop(asyncio.wait_for(self._socket.recv(), timeout), timeout + 20)

    def close(self):
        on_loop(self._socket.close())

    def cut(self):
        """The connection vanishes without a word."""

        async def abort():
            self._socket.transport.abort()

        on_loop(abort())

    def pause(self):
        """Nothing more is read."""

        async def pause():
            self._socket.transport.pause_reading()

        on_loop(pause())


class Peer:
    """A client of the protocol. `take` skips what nobody waits for."""

    def __init__(self, server, name="alice", password=None, hello=True, token=None, resume=None, received=None,
                 **options):
        self.server = server
        self.socket = Socket(
            f"wss://{HOST}:{server.https_port}/signal", ssl=pinned(server), compression=None, **options
        )
        self.skipped = []
        if not hello:
            return
        message = {"type": "hello"}
        if token:
            message["token"] = token
        else:
            message |= {"username": name, "password": password or USERS.get(name, PASSWORD)}
        if resume:
            message["resume"] = resume
        if received is not None:
            message["received"] = received
        self.send(**message)
        self.welcome = self.take("welcome")

    def send(self, **message):
        self.socket.send(json.dumps(message))

    def next(self, timeout=10):
        return json.loads(self.socket.recv(timeout))

    def take(self, kind, timeout=10):
        end = time.monotonic() + timeout
        while True:
            message = self.next(max(end - time.monotonic(), 0.01))
            if message["type"] == kind:
                return message
            self.skipped.append(message)

    def take_any(self, *kinds):
        while True:
            message = self.next()
            if message["type"] in kinds:
                return message

    def ask(self, answer, **message):
        self.send(**message)
        return self.take(answer)

    def register(self, peer, **metadata):
        return self.ask("registered", type="register", peerId=peer, metadata=metadata)

    def join(self, peer, room):
        return self.ask("room-joined", type="join-room", peerId=peer, roomId=room)

    def is_silent(self, seconds=0.3):
        """Whether nothing comes that was asked for before this."""
        marker = secrets.token_hex(8)
        self.send(type="ping", id=marker)
        while True:
            message = self.next()
            if message["type"] == "pong" and message.get("id") == marker:
                return True
            return False

    def closing(self, timeout=10):
        """Reads to the end: the close code, and the messages before it."""
        seen = []
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                seen.append(self.next(max(end - time.monotonic(), 0.01)))
            except TimeoutError:
                break
            except Exception as error:
                frame = getattr(error, "rcvd", None)
                return (frame.code if frame else None), seen
        raise AssertionError(f"still open after {timeout} s; saw {seen}")

    def cut(self):
        self.socket.cut()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.socket.close()
        except OSError:
            pass


class Raw:
    """A TLS connection on which anything can be sent."""

    def __init__(self, server, tls=True, **options):
        bare = socket.create_connection((HOST, server.https_port), timeout=10)
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = pinned(server, **options).wrap_socket(bare, server_hostname=HOST) if tls else bare
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def read(self, count):
        while len(self.buffer) < count:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(self.buffer)
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def head(self):
        """A response's status, fields and body."""
        while b"\r\n\r\n" not in self.buffer:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(self.buffer)
            self.buffer += more
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
        body = self.read(int(fields.get("content-length", 0)))
        return int(lines[0].split()[1]), fields, body

    def ends(self, timeout=10):
        """Whether the server closes, within that time."""
        self.socket.settimeout(timeout)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except (ConnectionError, ssl.SSLError):
            return True
        except TimeoutError:
            return False

    def request(self, line="GET /healthz HTTP/1.1", *fields, body=b""):
        lines = [line, f"Host: {HOST}", *fields]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
        return self.head()

    def upgrade(self, *fields, line="GET /signal HTTP/1.1", key=None, version="13", after=b""):
        key = key if key is not None else base64.b64encode(os.urandom(16)).decode()
        standing = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
                    f"Sec-WebSocket-Version: {version}"]
        lines = [line, f"Host: {HOST}", *standing, *fields]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode() + after)
        status, answered, body = self.head()
        if status == 101:
            digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            assert answered["sec-websocket-accept"] == base64.b64encode(digest).decode()
        return status, answered, body

    def frame(self, opcode, payload=b"", final=True, masked=True, reserved=0, length=None, announced=None):
        self.send(frame(opcode, payload, final, masked, reserved, length, announced))

    def receive(self):
        """A frame: opcode and payload."""
        first, second = self.read(2)
        length = second & 127
        if length == 126:
            length = struct.unpack(">H", self.read(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self.read(8))[0]
        return first & 15, self.read(length)

    def close_code(self):
        """Reads to the close frame."""
        while True:
            opcode, payload = self.receive()
            if opcode == 8:
                return struct.unpack(">H", payload[:2])[0] if payload else None

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def frame(opcode, payload=b"", final=True, masked=True, reserved=0, length=None, announced=None):
    """
    - length: the field's size in bits (7, 16, 64) where it is not the shortest.
    - announced: a length that the payload does not have.
    """
    size = len(payload) if announced is None else announced
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    mask = 0x80 if masked else 0
    if length == 64 or (length is None and size > 0xFFFF):
        head += bytes([mask | 127]) + struct.pack(">Q", size)
    elif length == 16 or (length is None and size > 125):
        head += bytes([mask | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mask | size])
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


class API:
    """The HTTP API, over TLS or over the admin socket."""

    def __init__(self, server, user=None, password=None, token=None, over_socket=False):
        self.server, self.over_socket = server, over_socket
        self.headers = {}
        if user:
            pair = f"{user}:{password or USERS.get(user, PASSWORD)}"
            self.headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        if token:
            self.headers["Authorization"] = "Bearer " + token

    def call(self, method, path, body=None, headers=None, text=None):
        """The status, the decoded body, and the fields."""
        if self.over_socket:
            connection = http.client.HTTPConnection("localhost", timeout=20)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(20)
            connection.sock.connect(str(self.server.data / "admin.sock"))
        else:
            connection = http.client.HTTPSConnection(
                HOST, self.server.https_port, timeout=20, context=pinned(self.server)
            )
        try:
            data = text if body is None else json.dumps(body)
            connection.request(method, path, data, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            answer = response.read()
            is_json = "json" in (response.getheader("Content-Type") or "")
            return response.status, json.loads(answer) if is_json else answer, dict(response.getheaders())
        finally:
            connection.close()

    def get(self, path):
        status, body, _ = self.call("GET", path)
        assert status == 200, (status, body)
        return body
