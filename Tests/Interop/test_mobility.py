"""Mobility (RFC 8016): an allocation follows its client to another address, port and transport, and to another
worker."""

import contextlib
import random
import signal

import pytest

import stunwire as stun
from harness import PASSWORD, free_port, wait_until
from stunclient import Silence
from test_tls import tls_client
from totals import Totals

USERS = {"alice": PASSWORD, "bob": "another long passphrase 43"}
BUSY = {"unauthenticated_replies_per_second": 100_000, "allocations_per_user": 1000}
ASKED = (stun.MOBILITY_TICKET, b"")


def ticket_of(answer):
    assert answer.is_success, answer
    ticket = answer.get(stun.MOBILITY_TICKET)
    assert ticket, answer
    return ticket


def moved(old, new, ticket, lifetime=600, *extra):
    """`new` takes over what `old` has; gives the next ticket."""
    answer = new.refresh(lifetime, (stun.MOBILITY_TICKET, ticket), *extra)
    fresh = ticket_of(answer)
    assert fresh != ticket and answer.lifetime == lifetime
    new.relayed = old.relayed
    return fresh


def relays(client, peer, number=None):
    """Data passes both ways."""
    payload = random.randbytes(40)
    if number is None:
        client.send_to(peer.address, payload)
    else:
        client.send_channel(number, payload)
    assert peer.receive() == (payload, client.relayed)
    peer.send(payload[::-1], client.relayed)
    assert client.receive_data() == (peer.address if number is None else number, payload[::-1])


@pytest.fixture(scope="module", params=[1, 2, 4], ids=lambda workers: f"{workers}-workers")
def mobile(request, serve_module):
    port = free_port()
    server = serve_module(
        {"workers": request.param, "listen": {"tls": [f"127.0.0.1:{port}"]}, "relay": {"mobility": True},
         "limits": BUSY},
        start=False, users=USERS,
    )
    server.tls_port = port
    return server.start()


@pytest.fixture
def server(mobile):
    yield mobile
    mobile.assert_alive()


@pytest.fixture
def peer(server):
    with server.peer("127.0.0.2") as peer:
        yield peer


def test_a_ticket_is_for_those_who_ask(server):
    with server.client() as client:
        assert stun.MOBILITY_TICKET not in client.allocate().kinds()
        assert stun.MOBILITY_TICKET not in client.refresh(600).kinds()
        client.refresh(0)
    with server.client() as client:
        transaction = stun.transaction_id()
        answer = client.allocate(ASKED, transaction=transaction)
        ticket = ticket_of(answer)
        assert 16 <= len(ticket) <= 64
        # The same request again gets the same answer, ticket and all.
        assert client.allocate(ASKED, transaction=transaction).raw == answer.raw
        assert stun.MOBILITY_TICKET not in client.refresh(600).kinds()
        client.refresh(0)


def test_an_allocation_follows_its_client_from_port_to_port(server, peer):
    first = server.client()
    ticket = ticket_of(first.allocate(ASKED))
    first.permitted(peer.address).bound(0x4001, peer.address)
    relays(first, peer, 0x4001)
    client = first
    for _ in range(24):
        new = server.client()
        ticket = moved(client, new, ticket)
        relays(new, peer, 0x4001)
        # Who has left has nothing there any more.
        assert client.refresh(600).error == 437
        client.send_channel(0x4001, b"from where nobody is")
        assert not client.drain_until_fence()
        client.close()
        client = new
    relays(client, peer, 0x4001)
    with server.peer("127.0.0.3") as other:
        client.permitted(other.address)
        relays(client, other)
    assert client.refresh(0).is_success
    assert client.relayed[1] not in server.udp_ports()
    client.close()


def test_an_allocation_follows_its_client_from_transport_to_transport(server, peer):
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(server.client())
        ticket = ticket_of(client.allocate(ASKED))
        client.permitted(peer.address)
        kinds = [server.stream_client, lambda: tls_client(server), server.client, lambda: tls_client(server),
                 server.stream_client, server.client]
        for make in kinds:
            new = stack.enter_context(make())
            ticket = moved(client, new, ticket)
            relays(new, peer)
            assert client.refresh(600).error == 437
            client = new
        client.refresh(0)


def test_the_old_path_serves_until_data_comes_by_the_new_one(server, peer):
    with server.client() as old, server.client() as new:
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        moved(old, new, ticket)
        for number in range(5):
            relays(old, peer)
        # The first datagram by the new path turns everything over to it.
        relays(new, peer)
        old.send_to(peer.address, b"too late")
        assert not old.drain_until_fence()
        relays(new, peer)
        new.refresh(0)


def test_a_request_by_the_new_path_turns_over_too(server, peer):
    with server.client() as old, server.client() as new:
        ticket = ticket_of(old.allocate(ASKED))
        moved(old, new, ticket)
        new.permitted(peer.address)
        assert old.create_permission(peer.address).error == 437
        relays(new, peer)
        new.refresh(0)


def test_nothing_is_lost_while_a_client_moves(server, peer):
    client = server.client()
    ticket = ticket_of(client.allocate(ASKED))
    client.permitted(peer.address).bound(0x4000, peer.address)
    number = 0
    for _ in range(10):
        new = server.client()
        for _ in range(20):
            client.send_channel(0x4000, b"%d" % number)
            number += 1
        client.drain_until_fence()
        ticket = moved(client, new, ticket)
        # All at once: what comes before the allocation is there waits for it.
        for _ in range(50):
            new.send_channel(0x4000, b"%d" % number)
            number += 1
        client.close()
        client = new
    for expected in range(number):
        assert peer.receive()[0] == b"%d" % expected
    for count in range(100):
        peer.send(b"%d" % count, client.relayed)
        assert client.receive_data() == (0x4000, b"%d" % count)
    client.refresh(0)
    client.close()


@pytest.mark.parametrize("has_arrived", [False, True], ids=["before", "after"])
def test_a_retransmitted_refresh_gets_the_same_ticket(server, peer, has_arrived):
    with server.client() as old, server.client() as new:
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        new.challenge()
        request = new.signed(stun.REFRESH, [(stun.MOBILITY_TICKET, ticket)])
        answer = new.exchange(request)
        new.relayed = old.relayed
        if has_arrived:
            relays(new, peer)
        for _ in range(3):
            assert new.exchange(request).raw == answer.raw
        # The answer may have been lost for good: a new transaction with the old ticket gets the next ticket as well.
        again = new.refresh(600, (stun.MOBILITY_TICKET, ticket))
        assert ticket_of(again) == ticket_of(answer)
        relays(new, peer)
        with server.client() as third:
            moved(new, third, ticket_of(answer))
            relays(third, peer)
            third.refresh(0)


def test_a_ticket_is_good_once(server, peer):
    with server.client() as old, server.client() as new, server.client() as third:
        first = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        second = moved(old, new, first)
        assert third.refresh(600, (stun.MOBILITY_TICKET, first)).error == 400
        relays(new, peer)
        assert third.refresh(600, (stun.MOBILITY_TICKET, first)).error == 400
        # Where the client is, a ticket is out of place (RFC 8016 section 3.2.2).
        assert new.refresh(600, (stun.MOBILITY_TICKET, second)).error == 400
        relays(new, peer)
        assert new.refresh(0).is_success
        assert third.refresh(600, (stun.MOBILITY_TICKET, second)).error == 437


def test_a_ticket_that_was_not_given_out_is_refused(server):
    with server.client() as client, server.client() as other:
        ticket = ticket_of(client.allocate(ASKED))
        forged = [b"", b"\x80" * 4, bytes(255), bytes(len(ticket)), ticket[:-1], ticket + b"\0"]
        forged += [bytes(byte ^ (bit == index) for index, byte in enumerate(ticket)) for bit in range(len(ticket))]
        for wrong in forged:
            assert other.refresh(600, (stun.MOBILITY_TICKET, wrong)).error == 400, wrong.hex()
        with server.client() as fresh:
            assert fresh.allocate((stun.MOBILITY_TICKET, ticket)).error == 400
        client.refresh(0)


def test_another_users_ticket_is_worth_nothing(server, peer):
    with server.client() as old, server.client("bob") as thief:
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        assert thief.refresh(600, (stun.MOBILITY_TICKET, ticket)).error == 441
        thief.relayed = old.relayed
        thief.send_to(peer.address, b"stolen")
        assert not thief.drain_until_fence()
        relays(old, peer)
        old.refresh(0)


def test_a_client_that_moves_on_before_it_has_arrived(server, peer):
    with contextlib.ExitStack() as stack:
        old, *ways = [stack.enter_context(server.client()) for _ in range(12)]
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        for way in ways:
            ticket = moved(old, way, ticket)
        for way in ways[:-1]:
            way.send_to(peer.address, b"given up")
            assert not way.drain_until_fence()
            assert way.refresh(600).error == 437
        relays(old, peer)
        relays(ways[-1], peer)
        ways[-1].refresh(0)


def test_an_allocation_ends_from_where_its_client_has_moved(server, peer):
    with server.client() as old, server.client() as new:
        ticket = ticket_of(old.allocate(ASKED))
        new.challenge()
        request = new.signed(stun.REFRESH, [(stun.LIFETIME, bytes(4)), (stun.MOBILITY_TICKET, ticket)])
        answer = new.exchange(request)
        assert answer.is_success and answer.lifetime == 0
        assert new.exchange(request).raw == answer.raw
        assert old.refresh(600).error == 437
        assert old.relayed[1] not in server.udp_ports()
        # Both 5-tuples are free.
        new.allocated()
        old.allocated()
        new.refresh(0)
        old.refresh(0)


def test_the_old_connection_may_close_before_data_comes(server, peer):
    with server.stream_client() as old, server.stream_client() as new:
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        moved(old, new, ticket)
        old.abort()

        def comes():
            peer.send(b"by the new one", new.relayed)
            with contextlib.suppress(Silence):
                return new.receive_data(0.2) == (peer.address, b"by the new one")

        wait_until(comes, 10, "data comes by the new connection")
        new.refresh(0)


def test_the_new_connection_may_close_before_data_comes(server, peer):
    with server.stream_client() as old, server.client() as third:
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        with server.stream_client() as new:
            ticket = moved(old, new, ticket)
            new.abort()
        relays(old, peer)
        ticket = moved(old, third, ticket)
        relays(third, peer)
        # The connection it had left is of no account.
        old.abort()
        relays(third, peer)
        third.refresh(0)


def test_a_moved_allocation_ends_with_its_new_connection(server, peer):
    with server.client() as old, server.stream_client() as new:
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        moved(old, new, ticket)
        relays(new, peer)
        new.abort()
        wait_until(lambda: old.relayed[1] not in server.udp_ports(), 10, "the relay closes")


def test_what_a_client_has_moves_whole(server):
    v6 = server.peer("::1")
    with server.client() as old, server.client() as new, server.peer("127.0.0.2") as four, v6 as six:
        answer = old.allocate(ASKED, (stun.ADDITIONAL_ADDRESS_FAMILY, stun.IPV6))
        ticket = ticket_of(answer)
        if stun.ADDRESS_ERROR_CODE in answer.kinds():
            six = None
        peers = [four] + ([six] if six else [])
        for number, peer in enumerate(peers):
            old.bound(0x4000 + number, peer.address)
        for number in range(50):
            old.permitted((f"127.9.{number}.1", 9))
        moved(old, new, ticket)
        new.send_channel(0x4000, b"here")
        assert four.receive()[0] == b"here"
        four.send(b"there", new.relayed)
        assert new.receive_data() == (0x4000, b"there")
        # A channel keeps its peer, and a peer its channel.
        assert new.channel_bind(0x4000, ("127.0.0.9", 9)).error == 400
        assert new.channel_bind(0x4005, four.address).error == 400
        assert new.channel_bind(0x4000, four.address).is_success
        new.refresh(0)


def test_a_user_at_the_quota_can_move_and_the_quota_is_given_back_once(serve):
    server = serve({"workers": 4, "relay": {"mobility": True}, "limits": {**BUSY, "allocations_per_user": 1}})
    with server.peer("127.0.0.2") as peer, server.client() as another:
        for _ in range(5):
            client = server.client()
            ticket = ticket_of(client.allocate(ASKED))
            client.permitted(peer.address)
            for _ in range(5):
                new = server.client()
                ticket = moved(client, new, ticket)
                assert another.allocate().error == 486
                relays(new, peer)
                assert another.allocate().error == 486
                client.close()
                client = new
            assert client.refresh(0).is_success
            client.close()
        another.allocated()
        with server.client() as third:
            assert third.allocate().error == 486
        another.refresh(0)


def test_two_refreshes_race_for_one_ticket(server, peer):
    for _ in range(20):
        with server.client() as old, server.client() as left, server.client() as right:
            ticket = ticket_of(old.allocate(ASKED))
            old.permitted(peer.address)
            for racer in (left, right):
                racer.challenge()
                racer.relayed = old.relayed
            requests = [racer.signed(stun.REFRESH, [(stun.MOBILITY_TICKET, ticket)]) for racer in (left, right)]
            for racer, request in zip((left, right), requests):
                racer.send(request)
            answers = [stun.Message.parse(racer.receive()) for racer in (left, right)]
            assert sorted(answer.error or 0 for answer in answers) == [0, 400]
            winner, loser = (left, right) if answers[0].is_success else (right, left)
            relays(winner, peer)
            assert loser.refresh(600).error == 437
            assert winner.refresh(0).is_success


def test_a_user_who_is_disabled_loses_what_has_moved(serve):
    server = serve({"workers": 4, "relay": {"mobility": True}, "limits": BUSY}, users=USERS)
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(server.peer("127.0.0.2"))
        clients = []
        for number in range(8):
            old, new = (stack.enter_context(server.client("bob")) for _ in range(2))
            ticket = ticket_of(old.allocate(ASKED))
            old.permitted(peer.address)
            moved(old, new, ticket)
            if number % 2:
                relays(new, peer)
            clients.append(new)
        server.cli("user", "disable", "bob")
        wait_until(lambda: not server.relay_sockets(), 3, "all relays are closed")
        for client in clients:
            client.send_to(peer.address, b"after the end")
            assert not client.drain_until_fence()


def test_tickets_are_refused_once_mobility_is_switched_off(serve):
    server = serve({"workers": 2, "relay": {"mobility": True}, "limits": BUSY})
    with server.client() as old, server.client() as new, server.peer("127.0.0.2") as peer:
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        server.write_config({"relay": {"mobility": False}})
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: new.refresh(600, (stun.MOBILITY_TICKET, ticket)).error == 405, 3, "405")
        relays(old, peer)
        assert old.refresh(600).is_success
        with server.client() as fresh:
            answer = fresh.allocate(ASKED)
            assert answer.is_success and stun.MOBILITY_TICKET not in answer.kinds()
            fresh.refresh(0)
        old.refresh(0)


def test_a_client_by_tcp_may_be_silent_after_it_has_moved(server, peer):
    """The deadline of connections without an allocation is for those that have none anywhere."""
    with server.client() as old, server.stream_client() as new:
        ticket = ticket_of(old.allocate(ASKED))
        old.permitted(peer.address)
        moved(old, new, ticket)
        with contextlib.suppress(Silence):
            new.receive(13)
            assert False, "something came"
        relays(old, peer)
        relays(new, peer)
        new.refresh(0)


def test_a_thousand_moves_leak_nothing_and_every_packet_is_accounted_for(serve):
    server = serve({"workers": 4, "relay": {"mobility": True}, "limits": {**BUSY, "allocations_per_user": 1}})
    with server.peer("127.0.0.2") as peer:
        client = server.client()
        ticket = ticket_of(client.allocate(ASKED))
        client.permitted(peer.address)
        port = client.relayed[1]

        def move(times):
            nonlocal client, ticket
            for _ in range(times):
                new = server.client()
                ticket = moved(client, new, ticket)
                relays(new, peer)
                client.close()
                client = new

        move(300)
        memory, descriptors = server.resident_kib(), server.descriptors()
        move(1000)
        assert server.resident_kib() - memory < 512
        assert server.descriptors() == descriptors
        assert server.relay_sockets() == [port]
        assert client.refresh(0).is_success
        client.close()
        assert not server.relay_sockets()
    server.stop()
    Totals(server).assert_balanced()
