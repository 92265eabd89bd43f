"""Data channels of ours with those of aiortc, over UDP in place of DTLS, on a path that loses packets."""

import asyncio
import random
import subprocess

import harness
from aiortc import RTCDataChannel
from aiortc.rtcdatachannel import RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpTransport

LIMIT_SECONDS = 30


class Path(asyncio.DatagramProtocol):
    """Stands where aiortc has its DTLS transport."""

    state = "connected"
    _role = "client"

    def __init__(self, loss):
        self.loss = loss
        self.random = random.Random(7)
        self.receiver = None
        self.tasks = set()

    def connection_made(self, transport):
        self.socket = transport

    @property
    def transport(self):
        return self

    role = "controlling"

    def _register_data_receiver(self, receiver):
        self.receiver = receiver

    def _unregister_data_receiver(self, receiver):
        self.receiver = None

    async def _send_data(self, data):
        if self.random.random() >= self.loss:
            self.socket.sendto(data)

    def datagram_received(self, data, source):
        if self.receiver and self.random.random() >= self.loss:
            task = asyncio.ensure_future(self.receiver._handle_data(data))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)


class Peer:
    """aiortc's end, and the process that is ours."""

    def __init__(self, loss=0.0):
        self.loss = loss

    async def __aenter__(self):
        program = str(harness.BINARY.parent / "data-channel-echo")
        self.process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
        port = int(self.process.stdout.readline())
        loop = asyncio.get_running_loop()
        self.socket, self.path = await loop.create_datagram_endpoint(
            lambda: Path(self.loss), remote_addr=("127.0.0.1", port)
        )
        self.sctp = RTCSctpTransport(self.path)
        self.announced = asyncio.Queue()
        self.sctp.on("datachannel", self.announced.put_nowait)
        await self.sctp.start(RTCSctpTransport.getCapabilities(), 5000)
        return self

    async def __aexit__(self, *_):
        await self.sctp.stop()
        self.socket.close()
        self.process.kill()
        self.process.wait()

    def open(self, **parameters):
        channel = RTCDataChannel(self.sctp, RTCDataChannelParameters(**parameters))
        channel.came = asyncio.Queue()
        channel.on("message", channel.came.put_nowait)
        return channel

    def said(self):
        """What our end printed until it ended."""
        return self.process.communicate(timeout=LIMIT_SECONDS)[0].splitlines()


async def opened(channel):
    while channel.readyState != "open":
        await asyncio.sleep(0.01)


async def closed(channel):
    while channel.readyState != "closed":
        await asyncio.sleep(0.01)


def run(scene, loss=0.0):
    async def bounded():
        async with asyncio.timeout(LIMIT_SECONDS), Peer(loss) as peer:
            return await scene(peer)

    return asyncio.run(bounded())


def test_every_kind_of_channel_is_understood_and_every_message_comes_back():
    async def scene(peer):
        channels = [
            peer.open(label="reliable", protocol="chat"),
            peer.open(label="unordered", ordered=False),
            peer.open(label="retransmits", ordered=False, maxRetransmits=3),
            peer.open(label="lifetime", maxPacketLifeTime=500),
        ]
        messages = ["hello", "", b"bytes", b"", "Grüße", bytes(range(256)) * 200]
        for channel in channels:
            await opened(channel)
            for message in messages:
                channel.send(message)
                assert await channel.came.get() == message
        channels[0].send("shutdown")
        await closed(channels[0])
        return peer.said()

    said = run(scene)
    assert said[0] == "opened"
    assert said[1:5] == [
        "channel 0 theirs reliable chat ordered reliable",
        "channel 2 theirs unordered  unordered reliable",
        "channel 4 theirs retransmits  unordered maxRetransmits(3)",
        "channel 6 theirs lifetime  ordered maxLifetime(500)",
    ]
    assert said[-1] == "closed shutdown"


def test_a_megabyte_comes_back_whole_over_a_path_that_loses_packets():
    async def scene(peer):
        channel = peer.open(label="bulk")
        await opened(channel)
        parts = [random.Random(number).randbytes(50_000) for number in range(20)]
        for part in parts:
            channel.send(part)
        return [await channel.came.get() for _ in parts] == parts

    assert run(scene, loss=0.02)


def test_both_ends_open_and_close_channels():
    async def scene(peer):
        first = peer.open(label="first")
        await opened(first)
        first.send("open ours")
        ours = await peer.announced.get()
        assert (ours.label, ours.id % 2 == first.id % 2) == ("ours", False)
        came = asyncio.Queue()
        ours.on("message", came.put_nowait)
        ours.send("ping")
        assert await came.get() == "ping"
        # By them, and by us.
        ours.close()
        await closed(ours)
        first.send("close")
        await closed(first)
        again = peer.open(label="again")
        await opened(again)
        again.send("shutdown")
        await closed(again)
        return peer.said()

    said = run(scene)
    assert sum(line.endswith("closed peer") for line in said) == 1
    assert sum(line.endswith("closed local") for line in said) == 1
    assert said[-1] == "closed shutdown"
