"""Every packet is accounted for, and every drop under the reason it deserves: known numbers in, the same numbers
out."""

import stunwire as stun
from harness import client_address
from totals import Totals


def test_each_kind_of_drop_is_counted_under_its_reason(serve):
    server = serve()
    wrong_cookie = bytearray(stun.build(stun.BINDING))
    wrong_cookie[4] ^= 0xFF
    wrong_fingerprint = bytearray(stun.build(stun.BINDING, fingerprint=True))
    wrong_fingerprint[-1] ^= 0xFF
    data = (stun.DATA_ATTRIBUTE, b"data")
    with server.client() as client, server.wire() as wire, server.peer("127.0.0.2") as peer, \
            server.peer("127.0.0.3") as stranger, server.wire(local=(client_address(), 53)) as resolver:
        client.allocated().permitted(peer.address)

        def send(times, sender, datagram):
            for _ in range(times):
                sender.send(bytes(datagram))

        send(1, wire, b"")
        send(2, wire, bytes(19))
        send(5, wire, b"\x50" * 40)
        send(3, wire, wrong_cookie)
        send(4, wire, stun.build(stun.BINDING)[:-1] + b"xyz")
        send(2, wire, wrong_fingerprint)
        send(6, wire, stun.build(stun.BINDING, stun.SUCCESS))
        send(7, wire, stun.build(0x0FF))
        send(2, resolver, stun.build(stun.BINDING))
        send(8, wire, stun.channel_data(0x4000, b"nobody's"))
        send(9, client, stun.channel_data(0x4000, b"short", 500))
        send(10, client, stun.channel_data(0x4000, b"unbound"))
        for _ in range(11):
            client.send_to(stranger.address, b"no permission")
        for _ in range(3):
            client.send_to((peer.address[0], 53), b"denied port")
        transaction = stun.transaction_id()
        for _ in range(4):
            client.send(stun.build(stun.SEND, stun.INDICATION, [client.peer_attribute(peer.address, transaction)],
                                   transaction))
        send(5, client, stun.build(stun.SEND, stun.INDICATION, [data]))
        for _ in range(12):
            stranger.send(b"not permitted", client.relayed)
        for number in range(13):
            client.send_to(peer.address, b"out")
            assert peer.receive()[0] == b"out"
            peer.send(b"in", client.relayed)
            assert client.receive_data()[1] == b"in"
        assert not wire.drain_until_fence() and not client.drain_until_fence()
        with server.wire() as greedy:
            send(40, greedy, stun.build(stun.ALLOCATE))
            answered = len(greedy.drain_until_fence())
        assert 10 <= answered <= 20
        client.refresh(0)
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    expected = {
        "too_short": 3, "unknown_first_byte": 5, "wrong_cookie": 3, "malformed": 4, "wrong_fingerprint": 2,
        "unexpected_class": 6, "unknown_method": 7, "unwanted_source": 2, "no_allocation": 8, "bad_channel_data": 9,
        "unbound_channel": 10, "no_permission": 11, "denied_peer": 3, "bad_indication": 9, "peer_not_permitted": 12,
        "reply_budget": 40 - answered,
    }
    assert {reason: count for reason, count in totals.dropped.items() if count} == expected
    assert totals.outcomes["packets_relayed"] == 26
