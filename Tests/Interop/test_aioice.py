"""aioice, a Python ICE agent: a pair that may only use the relay exchanges data both ways."""

import asyncio
import hashlib
import os
import ssl

import aioice
import pytest

import harness


@pytest.fixture(scope="module")
def server(serve_module):
    """By UDP and TCP at one port, by TLS at another, with a certificate of its own."""
    port = harness.free_port()
    server = serve_module({"listen": {"tls": [f"127.0.0.1:{port}"]}})
    server.tls_address = ("127.0.0.1", port)
    return server


def relay_only(server, controlling, transport="udp", password=harness.PASSWORD):
    trusting = None
    if transport == "tls":
        trusting = ssl.create_default_context(cafile=server.data / "certificate.pem")
    return aioice.Connection(
        ice_controlling=controlling, turn_server=server.tls_address if trusting else server.address,
        turn_username="alice", turn_password=password, turn_transport="tcp" if trusting else transport,
        turn_ssl=trusting or False, use_ipv6=False, transport_policy=aioice.TransportPolicy.RELAY,
    )


async def connect(first, second):
    await asyncio.gather(first.gather_candidates(), second.gather_candidates())
    for here, there in ((first, second), (second, first)):
        assert here.local_candidates and all(c.type == "relay" for c in here.local_candidates), here.local_candidates
        there.remote_username, there.remote_password = here.local_username, here.local_password
        for candidate in here.local_candidates:
            await there.add_remote_candidate(candidate)
        await there.add_remote_candidate(None)
    await asyncio.gather(first.connect(), second.connect())


@pytest.mark.parametrize(
    "transports", [("udp", "udp"), ("tcp", "tcp"), ("tcp", "udp"), ("tls", "tls"), ("tls", "udp")], ids="-".join
)
def test_aioice_relay_only_pair_exchanges_data(server, transports):
    async def scenario():
        first, second = relay_only(server, True, transports[0]), relay_only(server, False, transports[1])
        try:
            await connect(first, second)
            for here, there in ((first, second), (second, first)):
                digest_sent, digest_received = hashlib.sha256(), hashlib.sha256()
                for _ in range(500):
                    payload = os.urandom(1100)
                    digest_sent.update(payload)
                    await here.send(payload)
                    digest_received.update(await there.recv())
                assert digest_sent.digest() == digest_received.digest()
        finally:
            await asyncio.gather(first.close(), second.close())

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_aioice_with_a_wrong_password_gathers_nothing(server, transport):
    async def scenario():
        agent = relay_only(server, True, transport, password="wrong")
        try:
            # aioice logs the refusal and goes on without the relay, which leaves it with nothing.
            await agent.gather_candidates()
            assert not agent.local_candidates
        finally:
            await agent.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
