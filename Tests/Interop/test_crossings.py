"""Where parts of the server meet that know nothing of each other: DTLS and ICMP, DTLS and mobility, streams and
memory."""

import contextlib
import os
import signal
import sqlite3
import time

import pytest

import stunwire as stun
from harness import PASSWORD, wait_until
from namespaces import Namespaces
from stunclient import Closed, Silence
from test_dtls import IDLE_SECONDS, dtls_client, serve_dtls  # noqa: F401
from test_icmp import icmp_of
from tcprelay import TCPPeer, control, data, relaying
from test_mobility import ASKED, moved, relays, ticket_of

MOBILE = {"relay": {"mobility": True}}


@pytest.fixture(params=[1, 2], ids=lambda workers: f"{workers}-workers")
def server(request, serve_dtls):  # noqa: F811
    server = serve_dtls({"workers": request.param, **MOBILE})
    yield server
    server.assert_alive()


@pytest.fixture
def peer(server):
    with server.peer("127.0.0.2") as peer:
        yield peer


def test_a_client_by_dtls_is_told_what_icmp_says_of_its_peers(server):
    with server.peer("127.0.0.2") as gone:
        closed = gone.address
    with dtls_client(server) as client:
        client.allocated().bound(0x4000, closed)
        for _ in range(3):
            client.send_channel(0x4000, b"to a closed port")
            assert icmp_of(client.receive()) == (closed, 3, 3, 0)
        # What is too long for any path is told by the kernel, in the middle of the datagram's own way out.
        client.send_to(closed, bytes(9000), (stun.DONT_FRAGMENT, b""))
        assert icmp_of(client.receive())[:2] == (closed, 3)


def test_an_allocation_moves_into_dtls_and_out_of_it(server, peer):
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(server.client())
        ticket = ticket_of(client.allocate(ASKED))
        client.permitted(peer.address)
        for make in [lambda: dtls_client(server), lambda: dtls_client(server), server.client,
                     lambda: dtls_client(server, port=server.port), server.stream_client] * 3:
            new = stack.enter_context(make())
            ticket = moved(client, new, ticket)
            relays(new, peer)
            assert client.refresh(600).error == 437
            client = new
        client.refresh(0)


def test_a_client_by_dtls_may_be_silent_after_it_has_moved(server, peer):
    with server.client() as old, dtls_client(server) as new:
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        moved(old, new, ticket)
        with pytest.raises(Silence):
            new.receive(IDLE_SECONDS + 3)
        relays(old, peer)
        relays(new, peer)
        new.refresh(0)


def test_a_session_that_ends_leaves_the_allocation_to_where_its_client_has_moved(server, peer):
    with dtls_client(server) as old, dtls_client(server) as new:
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        moved(old, new, ticket)
        old.finish()
        with pytest.raises(Closed):
            old.receive()
        relays(new, peer)
        new.finish()
        with pytest.raises(Closed):
            new.receive()
    assert new.relayed[1] not in server.udp_ports()


def test_RE_16_relayed_streams_are_held_to_the_memory_there_is(serve):
    """A client's connection leaves those of the listeners when it carries data, and must not leave the count with
    it."""
    server = relaying(serve)({"limits": {"memory_bytes": 112 << 20}})
    allowed = 96
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(control(server)).allocated_tcp()
        peer, carriers = None, []
        while len(carriers) < 64:
            peer = stack.enter_context(TCPPeer())
            answer = client.connect(peer.address)
            if answer.error:
                break
            carrier = stack.enter_context(data(server)).bound(answer.get(stun.CONNECTION_ID))
            carriers.append((carrier, stack.enter_context(peer.accept()[0])))
        assert answer.error == 447
        assert allowed // 3 <= len(carriers) <= allowed // 2
        for carrier, accepted in carriers[:4]:
            carrier.close()
            accepted.close()
        wait_until(lambda: client.connect(peer.address).is_success, 10, "there is room again")
    server.assert_alive()


def test_when_everything_may_have_changed_those_who_are_in_no_table_keep_what_they_have(serve):
    secret = "a shared secret, long enough"
    server = serve(users={"alice": PASSWORD, "bob": PASSWORD}, secrets={"web": secret})
    limited = stun.time_limited(secret, "carol", int(time.time()) + 3600)
    with server.client() as alice, server.client("bob") as bob, server.client(*limited) as carol:
        for client in (alice, bob, carol):
            client.allocated()
        database = sqlite3.connect(server.data / "turnpike.sqlite3", timeout=10)
        with contextlib.closing(database), database:
            database.execute("DELETE FROM users WHERE name = 'bob'")
            database.execute("DELETE FROM changes")
            database.execute("INSERT INTO changes (sequence, kind, name) VALUES (1000000, 'user', 'nobody')")
        wait_until(lambda: bob.relayed[1] not in server.udp_ports(), 10, "who is a user no more loses his relay")
        assert alice.refresh(600).is_success
        assert carol.refresh(600).is_success


@pytest.mark.parametrize("workers", [1, 2])
def test_the_last_words_of_a_relay_that_is_given_back_reach_another(serve, namespaces, workers):
    """A worker may read them when the other client's relay is closed already: here it comes to both at once."""
    server = serve({"workers": workers}, hosts=Namespaces.SERVER[:1], namespace=namespaces.server,
                   relays_loopback=False)
    world = {"namespace": namespaces.world}
    with server.client(**world) as stays:
        stays.allocated()
        for number in range(10):
            with server.client(**world) as goes:
                goes.allocated().permitted(stays.relayed)
                stays.permitted(goes.relayed)
                farewell = goes.signed(stun.REFRESH, [(stun.LIFETIME, bytes(4))])
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    goes.send_to(stays.relayed, b"last words %d" % number)
                    goes.send(farewell)
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                assert stays.receive_data() == (goes.relayed, b"last words %d" % number)
