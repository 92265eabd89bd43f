"""Coming back after a cut, whatever it looks like and whenever it comes: nothing lost, nothing doubled, order kept."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import socket
import struct
import subprocess

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import signaling
from harness import PASSWORD, free_port, wait_until
from namespaces import Namespaces, inside
from signaling import BOB_PASSWORD, HOST, USERS, Peer, Raw, frame, pinned

GENEROUS = {"messages_per_second": 5_000, "burst": 5_000}
# Longer than TCP may put an acknowledgement off: TCP_DELACK_MAX is 200 ms.
ACKNOWLEDGED_SECONDS = 0.3
# What is on its way at most, so that the server keeps all of it.
OUTSTANDING = 80
SWITCH = """
table inet cut {
    set deaf { type inet_service; }
    set mute { type inet_service; }
    chain in { type filter hook input priority 0; tcp dport @deaf drop; }
    chain out { type filter hook output priority 0; tcp sport @mute drop; }
}
"""


class Wire:
    """A server in one namespace and its clients in another, whose connections can be cut in each direction."""

    def __init__(self, serve, namespaces, listener):
        self.world = namespaces.world
        self.host = Namespaces.SERVER[0]
        with inside(namespaces.server):
            port = free_port(self.host)
        self.address = self.host, port
        self.server = serve(
            {"listen": {"https": [], listener: [f"{self.host}:{port}"]}, "signaling": GENEROUS}, users=USERS,
            hosts=(self.host,), namespace=namespaces.server, relays_loopback=False,
        )
        wait_until(lambda: self.connects(), 20, "the listener of signaling")
        self.nft("-f", "-", input=SWITCH)

    def connects(self):
        with inside(self.world), socket.socket() as probe:
            return probe.connect_ex(self.address) == 0

    def nft(self, *arguments, **options):
        command = ["ip", "netns", "exec", self.world, "nft", *arguments]
        subprocess.run(command, check=True, timeout=60, text=True, **options)

    async def drop(self, sock, *directions):
        """Nothing more comes to this socket (`deaf`), or from it (`mute`), from one packet on."""
        port = sock.getsockname()[1]
        commands = [f"add element inet cut {direction} {{ {port} }}" for direction in directions]
        await asyncio.to_thread(self.nft, "; ".join(commands))

    def socket(self):
        with inside(self.world):
            return socket.create_connection(self.address, timeout=20)


class Client:
    """A client in one process: it comes back with its token, and says how much it has received if it counts."""

    def __init__(self, server, name, password, make_socket, counts):
        self.server, self.make_socket, self.counts = server, make_socket, counts
        self.hello = {"type": "hello", "username": name, "password": password}
        self.numbers, self.received, self.resumptions = [], 0, 0
        self.registered, self.grown = asyncio.Event(), asyncio.Event()

    async def open(self, **members):
        self.socket = await asyncio.to_thread(self.make_socket)
        self.socket.setblocking(False)
        self.ws = await connect(
            f"wss://{HOST}/signal", sock=self.socket, ssl=pinned(self.server), server_hostname=HOST,
            compression=None, ping_interval=None, max_size=None, max_queue=None, open_timeout=30, close_timeout=1,
        )
        await self.send(**self.hello, **members)
        welcome = json.loads(await asyncio.wait_for(self.ws.recv(), 30))
        assert welcome["type"] == "welcome", welcome
        self.token, self.received = welcome["resumeToken"], 0
        self.reader = asyncio.create_task(self.read(self.ws))
        return welcome

    async def send(self, **message):
        await self.ws.send(json.dumps(message))

    async def read(self, ws):
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = json.loads(await ws.recv())
                self.received += 1
                if message["type"] == "registered":
                    self.registered.set()
                elif message["type"] == "signal":
                    self.numbers.append(message["signal"]["number"])
                    self.grown.set()

    async def resume(self):
        # What the library had taken before the end is received.
        await asyncio.wait_for(self.reader, 30)
        said = {"received": self.received} if self.counts else {}
        welcome = await self.open(resume=self.token, **said)
        assert welcome["resumed"] is True and welcome["missed"] == 0, welcome
        self.resumptions += 1

    def abort(self, resets=False):
        """Closes TCP, without a word of TLS or of the WebSocket."""
        if resets:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ws.transport.abort()

    async def reaches(self, number):
        while not self.numbers or max(self.numbers) < number:
            self.grown.clear()
            await asyncio.wait_for(self.grown.wait(), 60)


async def stream(sender, receiver, stop):
    """Numbered messages, now and then one of several records, as long as they arrive. Returns how many."""
    for number in itertools.count():
        if stop.is_set():
            return number
        while number - (max(receiver.numbers) if receiver.numbers else -1) > OUTSTANDING:
            await asyncio.sleep(0.01)
        size = 9_000 if number % 40 == 17 else random.randrange(200)
        await sender.send(type="signal", to="bob", signal={"number": number, "padding": "x" * size})
        await asyncio.sleep(0.002)


async def survives(server, make_socket, cuts, counts):
    """What a client has received behind all cuts, and what it was sent."""
    bob = Client(server, "bob", BOB_PASSWORD, make_socket, counts)
    alice = Client(server, "alice", PASSWORD, make_socket, True)
    await bob.open()
    await alice.open()
    for client, name in ((bob, "bob"), (alice, "alice")):
        await client.send(type="register", peerId=name)
        await asyncio.wait_for(client.registered.wait(), 30)
    stop = asyncio.Event()
    sending = asyncio.create_task(stream(alice, bob, stop))
    for cut in cuts:
        await bob.reaches(len(bob.numbers) + 20)
        await asyncio.sleep(random.random() * 0.1)
        await cut(bob)
        await bob.resume()
    stop.set()
    count = await sending
    await bob.reaches(count - 1)
    # What would come twice would come before the answer to this.
    await bob.send(type="signal", to="bob", signal={"number": count})
    await bob.reaches(count)
    for client in (alice, bob):
        await client.ws.close()
    assert bob.resumptions == len(cuts)
    return bob.numbers, list(range(count + 1))


@pytest.fixture(scope="module", params=["https", "shared"])
def wire(request, serve_module, namespaces_module):
    """On a shared port, the handshake is made before the connection is signaling's."""
    made = Wire(serve_module, namespaces_module, request.param)
    yield made
    made.server.assert_alive()


def test_SG_17_a_client_that_counts_gets_everything_once_whenever_and_however_it_is_cut(wire):
    async def reset(bob):
        bob.abort(resets=True)

    async def end(bob):
        bob.abort()

    async def silence(bob):
        await wire.drop(bob.socket, "deaf", "mute")
        bob.abort()

    cuts = [reset, end, silence] * 3
    got, sent = asyncio.run(survives(wire.server, wire.socket, cuts, counts=True))
    assert got == sent


def test_SG_17_a_client_that_does_not_count_goes_on_behind_what_its_kernel_acknowledged(wire):
    """Nothing comes to the client any more, at a random moment and so in the midst of messages; its acknowledgements
    still reach the server. Then the connection ends, or only another one tells of the cut."""

    def behind_silence(resets=False, tells=True):
        async def cut(bob):
            await wire.drop(bob.socket, "deaf")
            await asyncio.sleep(ACKNOWLEDGED_SECONDS)
            if not tells:
                await wire.drop(bob.socket, "mute")
            bob.abort(resets)

        return cut

    cuts = [behind_silence(resets=True), behind_silence(), behind_silence(tells=False)] * 3
    got, sent = asyncio.run(survives(wire.server, wire.socket, cuts, counts=False))
    assert got == sent


def test_SG_17_of_a_client_that_does_not_count_nothing_is_lost_where_acknowledgements_are(wire):
    """Both directions die at once: what came and was not acknowledged comes again, and only that, in order."""

    async def silence(bob):
        await wire.drop(bob.socket, "deaf", "mute")
        await asyncio.sleep(0.05)
        bob.abort()

    got, sent = asyncio.run(survives(wire.server, wire.socket, [silence] * 3, counts=False))
    first = list(dict.fromkeys(got))
    assert first == sent
    # No more than was on its way.
    assert len(got) - len(first) <= 3 * OUTSTANDING


class Swallower:
    """A proxy that takes everything, and from some byte on passes nothing to the client."""

    def __init__(self, target):
        self.target = target
        self.left = None

    async def serve(self):
        self.listener = await asyncio.start_server(self.accept, HOST, 0)
        self.address = self.listener.sockets[0].getsockname()

    async def accept(self, reader, writer):
        there, back = await asyncio.open_connection(*self.target)
        self.left = None
        with contextlib.suppress(OSError):
            await asyncio.gather(self.pump(reader, back, False), self.pump(there, writer, True))

    async def pump(self, source, target, swallows):
        while data := await source.read(65536):
            if swallows and self.left is not None:
                data = data[:self.left]
                self.left -= len(data)
            target.write(data)
        target.close()


def test_SG_17_a_proxy_that_swallows_costs_a_client_that_counts_nothing(serve):
    server = signaling.start(serve, {"signaling": GENEROUS})

    async def run():
        proxy = Swallower((HOST, server.https_port))
        await proxy.serve()

        async def swallow(bob):
            proxy.left = random.randrange(3_000)
            await asyncio.sleep(random.random() * 0.3)
            bob.abort(resets=random.random() < 0.5)

        return await survives(
            server, lambda: socket.create_connection(proxy.address, timeout=20), [swallow] * 4, counts=True
        )

    got, sent = asyncio.run(run())
    assert got == sent


class RawClient(Raw):
    """A client that does nothing on its own: no pong, no acknowledgement of ours."""

    def __init__(self, server):
        super().__init__(server)
        self.socket.settimeout(30)
        assert self.upgrade()[0] == 101

    def say(self, **message):
        self.frame(1, json.dumps(message).encode())

    def next(self):
        while True:
            opcode, payload = self.receive()
            if opcode == 1:
                return json.loads(payload)

    def hello(self, **members):
        self.say(type="hello", username="bob", password=BOB_PASSWORD, **members)
        welcome = self.next()
        assert welcome["type"] == "welcome", welcome
        return welcome

    def signals(self, count):
        return [message["signal"]["number"] for message in itertools.islice(iter(self.next, None), count)
                if message["type"] == "signal"]

    def rest(self):
        """What comes before the end."""
        numbers = []
        with contextlib.suppress(EOFError, OSError):
            while True:
                numbers += self.signals(1)
        return numbers

    def finish(self):
        """A FIN, and no close_notify before it."""
        with socket.socket(fileno=os.dup(self.socket.fileno())) as same:
            same.shutdown(socket.SHUT_WR)


def test_SG_17_an_end_without_close_notify_is_a_cut_and_what_is_on_its_way_still_arrives(serve):
    server = signaling.start(serve, {"signaling": GENEROUS})
    api = signaling.API(server, user="alice")
    with Peer(server) as alice, RawClient(server) as bob:
        token = bob.hello()["resumeToken"]
        bob.say(type="register", peerId="bob")
        bob.say(type="join-room", peerId="bob", roomId="cut")
        assert [bob.next()["type"] for _ in range(2)] == ["registered", "room-joined"]
        alice.register("alice")
        alice.join("alice", "cut")
        assert bob.next()["type"] == "peer-joined"
        # More than the client's buffer takes: the others wait in the server's.
        for number in range(40):
            alice.send(type="signal", to="bob", signal={"number": number, "padding": "x" * 2_000})
        alice.ask("pong", type="ping")
        bob.finish()
        before = bob.rest()
        # Nobody saw it go: it may come back.
        assert {peer["peerId"] for peer in api.get("/api/v1/rooms/cut/peers")["peers"]} == {"alice", "bob"}
        for number in range(40, 45):
            alice.send(type="signal", to="bob", signal={"number": number})
        alice.ask("pong", type="ping")
        with RawClient(server) as again:
            welcome = again.hello(resume=token)
            assert welcome["resumed"] is True and welcome["peers"] == [{"peerId": "bob", "rooms": ["cut"]}]
            alice.send(type="signal", to="bob", signal={"number": 45})
            after = []
            while 45 not in after:
                after += again.signals(1)
        assert before + after == list(range(46))
        assert alice.skipped == []


def test_SG_17_half_a_message_before_the_end_is_nobodys(serve):
    server = signaling.start(serve)
    with Peer(server) as alice, RawClient(server) as bob:
        token = bob.hello()["resumeToken"]
        alice.register("alice")
        bob.say(type="register", peerId="bob")
        assert bob.next()["type"] == "registered"
        whole = frame(1, json.dumps({"type": "signal", "to": "alice", "signal": "half"}).encode())
        bob.send(whole[:-3])
        bob.finish()
        assert bob.rest() == []
        with RawClient(server) as again:
            assert again.hello(resume=token)["resumed"] is True
            again.say(type="signal", to="alice", signal="whole")
            assert alice.take("signal")["signal"] == "whole"
        assert alice.skipped == []
