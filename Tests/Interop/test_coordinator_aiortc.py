"""The client library and aiortc, whose offers and answers are a browser's: data channels over ICE and DTLS."""

import asyncio
import subprocess

import harness
import pytest
import signaling
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp
from test_coordinator import environment

LIMIT_SECONDS = 30


@pytest.fixture(scope="module")
def server(serve_module):
    server = signaling.start(serve_module, {"relay": {"allow_loopback_peers": True}})
    yield server
    server.assert_alive()


class Foreign:
    """A peer of aiortc's, with the signaling of any client."""

    def __init__(self, server, name, other):
        self.other = other
        self.signaling = signaling.Peer(server)
        self.signaling.register(name)
        relay = RTCIceServer(
            f"turn:127.0.0.1:{server.port}?transport=udp", username="alice", credential=harness.PASSWORD
        )
        self.connection = RTCPeerConnection(RTCConfiguration([relay]))

    async def tell(self, kind, description):
        payload = {"type": description.type, "sdp": description.sdp}
        await asyncio.to_thread(self.signaling.send, type=kind, to=self.other, **{kind: payload})

    async def hear(self, kind):
        message = await asyncio.to_thread(self.signaling.take, kind)
        return RTCSessionDescription(message[kind]["sdp"], message[kind]["type"])

    async def trickle(self):
        """Takes candidates one by one, as they come."""
        while True:
            message = await asyncio.to_thread(self.signaling.take, "ice-candidate", LIMIT_SECONDS)
            candidate = message["candidate"]
            if not candidate["candidate"]:
                return await self.connection.addIceCandidate(None)
            parsed = candidate_from_sdp(candidate["candidate"].split(":", 1)[1])
            parsed.sdpMid, parsed.sdpMLineIndex = candidate["sdpMid"], candidate["sdpMLineIndex"]
            await self.connection.addIceCandidate(parsed)

    async def close(self):
        await self.connection.close()
        self.signaling.close()


class Ours:
    """A scene of `coordinator-pair`."""

    def __init__(self, server, scene):
        program = str(harness.BINARY.parent / "coordinator-pair")
        self.process = subprocess.Popen([program, scene], env=environment(server), stdout=subprocess.PIPE, text=True)

    async def says(self, beginning):
        while True:
            line = await asyncio.to_thread(self.process.stdout.readline)
            assert line, f"it ended without {beginning}"
            if line.startswith(beginning):
                return line

    def close(self):
        self.process.kill()
        self.process.communicate()


def play(scene):
    async def bounded():
        async with asyncio.timeout(LIMIT_SECONDS):
            await scene()

    asyncio.run(bounded())


def test_aiortc_calls_and_both_sides_speak(server):
    async def scene():
        ours = Ours(server, "listen")
        foreign = Foreign(server, "alice/aiortc", "alice/listener")
        try:
            await ours.says("listening")
            channel = foreign.connection.createDataChannel("chat")
            came = asyncio.Queue()
            opened = asyncio.Event()
            channel.on("open", opened.set)
            channel.on("message", came.put_nowait)
            await foreign.connection.setLocalDescription(await foreign.connection.createOffer())
            await foreign.tell("offer", foreign.connection.localDescription)
            await foreign.connection.setRemoteDescription(await foreign.hear("answer"))
            await opened.wait()
            await ours.says("connected")
            channel.send("a text")
            assert await came.get() == "a text"
            channel.send(bytes(range(256)) * 200)
            assert await came.get() == bytes(range(256)) * 200
        finally:
            await foreign.close()
            ours.close()

    play(scene)


def test_aiortc_is_called_and_both_sides_speak(server):
    async def scene():
        foreign = Foreign(server, "alice/listener", "alice/talker")
        ours = Ours(server, "talk")
        trickling = None
        try:
            offered = asyncio.Queue()
            foreign.connection.on("datachannel", offered.put_nowait)
            await foreign.connection.setRemoteDescription(await foreign.hear("offer"))
            await foreign.connection.setLocalDescription(await foreign.connection.createAnswer())
            await foreign.tell("answer", foreign.connection.localDescription)
            trickling = asyncio.create_task(foreign.trickle())
            channel = await offered.get()
            assert channel.label == "turnpike" and channel.ordered
            came = asyncio.Queue()

            def echo(message):
                channel.send(message)
                came.put_nowait(message)

            channel.on("message", echo)
            assert await came.get() == "ping"
            await ours.says("answered")
        finally:
            if trickling:
                trickling.cancel()
            await foreign.close()
            ours.close()

    play(scene)
