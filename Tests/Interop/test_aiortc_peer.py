"""Data channels between aiortc and `turnpike-peer`, whoever calls, over every kind of path."""

import asyncio
import contextlib
import hashlib
import json
import signal
import ssl

import pytest
from aiortc import (RTCConfiguration, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnection, RTCSessionDescription)
from aiortc.sdp import candidate_from_sdp
from websockets.asyncio.client import connect as connect_later

import harness
from browserpeers import PATHS, PATIENCE_SECONDS, SIGNALING, Place, Program, digest, is_path, pieces
from namespaces import inside


@pytest.fixture(scope="module")
def place(serve_module, tmp_path_factory):
    place = Place(serve_module, tmp_path_factory.mktemp("place"))
    yield place
    place.close()


class Foreign:
    """A peer of aiortc's with the signaling of any client."""

    def __init__(self, authority, other, policy):
        self.authority, self.other, self.policy = authority, other, policy
        self.channels = asyncio.Queue()
        self.trickling = None

    async def __aenter__(self):
        trust = ssl.create_default_context(cafile=self.authority)
        self.socket = await connect_later(SIGNALING, ssl=trust)
        await self.say(type="hello", username="alice", password=harness.PASSWORD)
        servers = [RTCIceServer(**server) for server in (await self.hear("welcome"))["iceServers"]]
        await self.say(type="register", peerId="alice/aiortc")
        await self.hear("registered")
        self.connection = RTCPeerConnection(RTCConfiguration(servers, iceTransportPolicy=self.policy))
        self.connection.on("datachannel", self.channels.put_nowait)
        return self

    async def __aexit__(self, *_):
        if self.trickling:
            self.trickling.cancel()
        await self.connection.close()
        await self.socket.close()

    async def say(self, **message):
        await self.socket.send(json.dumps(message))

    async def hear(self, kind):
        while True:
            message = json.loads(await self.socket.recv())
            assert message["type"] != "error", message
            if message["type"] == kind:
                return message

    async def describe(self, kind):
        description = self.connection.localDescription
        await self.say(type=kind, to=self.other, **{kind: {"type": description.type, "sdp": description.sdp}})

    async def take(self, kind):
        message = await self.hear(kind)
        self.trickling = None
        await self.connection.setRemoteDescription(RTCSessionDescription(message[kind]["sdp"], message[kind]["type"]))

    async def _trickle(self):
        """Takes candidates as they come."""
        while True:
            candidate = (await self.hear("ice-candidate"))["candidate"]
            if not candidate["candidate"]:
                await self.connection.addIceCandidate(None)
                continue
            parsed = candidate_from_sdp(candidate["candidate"].split(":", 1)[1])
            parsed.sdpMid, parsed.sdpMLineIndex = candidate["sdpMid"], candidate["sdpMLineIndex"]
            await self.connection.addIceCandidate(parsed)

    async def call(self, label, **options):
        channel = self.connection.createDataChannel(label, **options)
        await self.connection.setLocalDescription(await self.connection.createOffer())
        await self.describe("offer")
        await self.take("answer")
        self.trickling = asyncio.create_task(self._trickle())
        await is_open(channel)
        return channel

    async def answer(self):
        await self.take("offer")
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        await self.describe("answer")
        self.trickling = asyncio.create_task(self._trickle())
        return await self.channels.get()

    @property
    def pair(self):
        """The kinds of the pair's ends, its own first."""
        ice = self.connection.sctp.transport.transport._connection
        pair = ice._nominated.get(1)
        return pair and (pair.local_candidate.type, pair.remote_candidate.type)


async def is_open(channel):
    opened = asyncio.Event()
    channel.on("open", opened.set)
    if channel.readyState != "open":
        await opened.wait()


async def pour(channel, messages):
    channel.bufferedAmountLowThreshold = 1 << 18
    low = asyncio.Event()
    channel.on("bufferedamountlow", low.set)
    for message in messages:
        while channel.bufferedAmount > 1 << 20:
            low.clear()
            await low.wait()
        channel.send(message)


async def gather(channel, count):
    """The next messages."""
    queue = asyncio.Queue()
    channel.on("message", queue.put_nowait)
    return [await queue.get() for _ in range(count)]


def play(namespace, scene):
    """Runs it on a thread whose sockets belong to the namespace."""

    def run():
        with inside(namespace):
            asyncio.run(asyncio.wait_for(scene(), PATIENCE_SECONDS))

    harness.Background(run).result(PATIENCE_SECONDS * 2)


async def settles(path, program, foreign, **options):
    while not is_path(path, program, foreign.pair, **options):
        await asyncio.sleep(0.02)


def policy(path):
    return RTCIceTransportPolicy.RELAY if path == "relay" else RTCIceTransportPolicy.ALL


@pytest.mark.parametrize("path", PATHS)
def test_aiortc_calls(place, tmp_path, path):
    async def scene():
        async with Foreign(place.authority, "alice/desk", policy(path)) as foreign:
            chat = await foreign.call("chat")
            echo = foreign.connection.createDataChannel("echo", protocol="turnpike.echo")
            await is_open(echo)
            coming = asyncio.create_task(gather(echo, 40))
            sent = [*pieces(20, 50_000), *(f"line {number} \u2713" for number in range(20))]
            await pour(echo, sent)
            assert await coming == sent
            await pour(chat, pieces(40, 50_000))
            written = await asyncio.to_thread(listener.wait_for_output, 40 * 50_000)
            assert hashlib.sha256(written).hexdigest() == digest(pieces(40, 50_000))
            await settles(path, listener, foreign)
        await asyncio.to_thread(listener.wait_for, "alice/aiortc is gone")

    # aiortc stays with the pair that was the first to answer, which is mostly a relay's.
    only_direct = place.without_relaying() if path == "reflexive" else contextlib.nullcontext()
    with only_direct, Program(tmp_path, place, place.machine(path), "listen", "--id", "alice/desk") as listener:
        listener.wait_for("registered as alice/desk")
        play(place.here.client, scene)
        listener.process.send_signal(signal.SIGINT)
        assert listener.ends() == 0, listener.said()


@pytest.mark.parametrize("path", PATHS)
def test_aiortc_is_called(place, tmp_path, path):
    options = ["--require-relay"] if path == "relay" else []

    async def scene():
        async with Foreign(place.authority, "alice/desk", RTCIceTransportPolicy.ALL) as foreign:
            with Program(tmp_path, place, place.machine(path), "connect", "alice/aiortc", "--id", "alice/desk",
                         "--explain", *options) as program:
                channel = await foreign.answer()
                closed = asyncio.Event()
                channel.on("close", closed.set)
                coming = asyncio.Queue()
                channel.on("message", coming.put_nowait)
                sent = bytes(range(256)) * 4096
                program.process.stdin.write(sent)
                program.process.stdin.flush()
                came = b""
                while len(came) < len(sent):
                    came += await coming.get()
                assert came == sent
                await pour(channel, pieces(40, 50_000))
                written = await asyncio.to_thread(program.wait_for_output, 40 * 50_000)
                assert hashlib.sha256(written).hexdigest() == digest(pieces(40, 50_000))
                await settles(path, program, foreign, told="(?:connected|now)")
                program.process.stdin.close()
                assert await asyncio.to_thread(program.ends) == 0, program.said()
                await closed.wait()

    play(place.here.client, scene)
