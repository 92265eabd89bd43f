"""`turnpike-peer listen` and a peer that speaks the forwarding's protocol as it should not: aiortc, by hand."""

import asyncio

import pytest
import signaling
from forwarding import Service, echo
from peertool import running
from test_coordinator import environment
from test_coordinator_aiortc import Foreign

LIMIT_SECONDS = 40
OPEN, ACCEPT, REFUSE, DATA, CREDIT, END = range(1, 7)


@pytest.fixture(scope="module")
def server(serve_module):
    server = signaling.start(serve_module, {"relay": {"allow_loopback_peers": True}})
    yield server
    server.assert_alive()


def message(kind, number=None, body=b""):
    return bytes([kind]) + (b"" if number is None else number.to_bytes(4, "big")) + body


def misdeeds(port):
    """What each of so many channels says, one after the other."""
    target = f"127.0.0.1:{port}".encode()
    return [
        [b""], [b"\0"], [b"\xff" * 1000], ["a text"], [bytes(100_000)],
        [message(OPEN)], [message(OPEN, 0)], [message(OPEN, 0, b"x" * 260)], [message(OPEN, 0, b"\xff\xfe:80")],
        [message(OPEN, 0, b"\x1b[31m\r\nalice is connected:80")], [message(OPEN, 0, b"10.0.0.5:80")],
        [message(OPEN, 0xFFFFFFFF, target)], [message(OPEN, 0, target)] * 2,
        [message(ACCEPT, 0)], [message(REFUSE, body=b"\0")], [message(DATA, body=b"x")], [message(CREDIT, 1)],
        [message(END)], [message(OPEN, 0, target), message(DATA)],
        [message(OPEN, 0, target), message(DATA, body=bytes(16_385))],
        [message(OPEN, 0, target)] + [message(DATA, body=bytes(1000))] * 17,
        [message(OPEN, 0, target), message(END), message(END)],
        [message(OPEN, 0, target), message(END), message(DATA, body=b"x")],
        [message(OPEN, 0, target), message(CREDIT, 0xFFFFFFFF)],
        [message(OPEN, 0, target), message(CREDIT, 0)],
    ]


async def opened(connection, **options):
    channel = connection.createDataChannel("forward", protocol="turnpike-forward", **options)
    channel.came = asyncio.Queue()
    channel.on("message", channel.came.put_nowait)
    is_open = asyncio.Event()
    channel.on("open", is_open.set)
    if channel.readyState != "open":
        await is_open.wait()
    return channel


async def carries(connection, port):
    channel = await opened(connection)
    channel.send(message(OPEN, 1 << 20, f"localhost:{port}".encode()))
    channel.send(message(DATA, body=b"hello"))
    assert (await channel.came.get())[0] == ACCEPT
    assert await channel.came.get() == message(DATA, body=b"hello")
    channel.send(message(END))
    assert await channel.came.get() == message(END)


async def misbehave(foreign, port):
    foreign.connection.createDataChannel("turnpike")
    await foreign.connection.setLocalDescription(await foreign.connection.createOffer())
    await foreign.tell("offer", foreign.connection.localDescription)
    await foreign.connection.setRemoteDescription(await foreign.hear("answer"))
    await carries(foreign.connection, port)
    for words in misdeeds(port):
        channel = await opened(foreign.connection)
        for word in words:
            channel.send(word)
    for options in ({"ordered": False}, {"maxRetransmits": 0}):
        channel = await opened(foreign.connection, **options)
        channel.send(message(OPEN, 0, f"localhost:{port}".encode()))
    await carries(foreign.connection, port)


def test_a_peer_that_breaks_the_protocol_breaks_its_own_channels_alone(server, tmp_path):
    async def scene(port):
        async with asyncio.timeout(LIMIT_SECONDS):
            foreign = Foreign(server, "alice/hostile", "alice/listener")
            try:
                await misbehave(foreign, port)
            finally:
                await foreign.close()

    with Service(echo) as service, \
            running(tmp_path, environment(server), "listen", "--id", "alice/listener", ready="forwards") as listener:
        asyncio.run(scene(service.port))
        text = listener.wait_for("is gone")
        assert "was cut: the peer sent" in text and "\x1b" not in text and "\r" not in text, text
        assert listener.output.read_bytes() == b""
