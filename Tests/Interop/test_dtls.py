"""TURN by DTLS: what is spoken, both ways, and the life of sessions."""

import shutil
import signal
import socket
import struct
import subprocess

import pytest

import stunwire as stun
from dtlsclient import DTLSClient, DTLSWire, Refused, dtls_context, records
from harness import PASSWORD, client_address, free_port, wait_until
from stunclient import Closed, Silence, TurnClient
from test_tls import new_pair
from totals import Totals

HOST = "127.0.0.1"
IDLE_SECONDS = 10


@pytest.fixture
def serve_dtls(serve):
    """A server with a port for DTLS alone, `dtls_port`, besides the one for all."""
    def start(config=None, host=HOST, **options):
        port = free_port(host)
        config = {**(config or {}), "listen": {"dtls": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]}}
        server = serve(config, start=False, **options)
        server.dtls_port = port
        return server.start()

    return start


def dtls_client(server, name="alice", port=None, host=HOST, local=None, **options):
    local = local or (("::1", 0) if ":" in host else (client_address(), 0))
    return DTLSClient((host, port or server.dtls_port), name, PASSWORD, local, **options)


def relays(client, server, text=b"sealed"):
    """Whether data passes both ways, by a permission and indications."""
    with server.peer("127.0.0.2") as peer:
        client.permitted(peer.address)
        client.send_to(peer.address, text)
        data, source = peer.receive()
        if data != text or source != client.relayed:
            return False
        peer.send(text[::-1], client.relayed)
        return client.receive_data() == (peer.address, text[::-1])


def test_a_client_relays_by_dtls_with_the_servers_own_certificate(serve_dtls):
    server = serve_dtls()
    context = dtls_context(server.data / "certificate.pem", protocols=["stun.turn"])
    with dtls_client(server, context=context) as client:
        assert client.handshake.connection.get_protocol_version_name() == "DTLSv1.2"
        assert client.handshake.connection.get_alpn_proto_negotiated() == b"stun.turn"
        assert client.binding() == client.local
        client.allocated()
        assert relays(client, server)


def test_dtls_is_told_from_stun_on_the_port_for_both(serve_dtls):
    server = serve_dtls()
    with dtls_client(server, port=server.port) as client, server.client() as plain:
        client.allocated()
        plain.allocated()
        assert relays(client, server)
        assert relays(plain, server)


def test_an_address_of_both_lists_is_one_port_for_both(serve):
    port = free_port()
    server = serve({"listen": {"dtls": [f"{HOST}:{port}"]}}, port=port)
    with dtls_client(server, port=port) as client, server.client() as plain:
        client.allocated()
        plain.allocated()
        assert relays(client, server)
    assert f"dtls {HOST}:{port}" in server.log()


def test_the_default_is_port_5349_beside_every_address_of_udp_unless_it_is_taken(serve):
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    host = client_address()
    with taken:
        taken.bind((host, 5349))
        server = serve(hosts=(host,))
        assert f"not listening on {host}:5349" in server.log()
        server.stop()
    server.start()
    with dtls_client(server, host=host, port=5349) as client:
        client.allocated()
        assert relays(client, server)


def test_an_address_that_was_asked_for_and_is_taken_stops_the_start(serve):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        place = f"{HOST}:{taken.getsockname()[1]}"
        server = serve({"listen": {"dtls": [place]}}, start=False)
        result = subprocess.run(
            server.command("serve", "--config", str(server.config_path), "--data-dir", str(server.data)),
            capture_output=True, text=True, timeout=20, env=server.environment,
        )
    assert result.returncode == 1
    assert place in result.stderr and "listen.dtls" in result.stderr


def test_an_empty_list_turns_dtls_off(serve):
    server = serve({"listen": {"dtls": []}})
    with server.wire() as wire:
        with pytest.raises(Silence):
            DTLSWire(server.address, (client_address(), 0), handshake=False).shake_hands(1.5)
        wire.binding()


def test_a_client_that_names_another_protocol_alone_is_refused(serve_dtls):
    server = serve_dtls()
    with pytest.raises(Refused):
        dtls_client(server, context=dtls_context(protocols=["h2"]))


def test_ciphers_without_authenticated_encryption_are_refused(serve_dtls):
    server = serve_dtls()
    with pytest.raises(Refused):
        dtls_client(server, context=dtls_context(ciphers="ECDHE-ECDSA-AES128-SHA:AES128-SHA"))


@pytest.mark.parametrize("size", [0, 1, 1400, 9000, 16_000])
def test_a_datagram_passes_both_ways_by_channel_and_by_indication(serve_dtls, size):
    server = serve_dtls()
    payload = bytes(number % 251 for number in range(size))
    with dtls_client(server) as client, server.peer() as peer:
        client.allocated().permitted(peer.address)
        client.send_to(peer.address, payload)
        assert peer.receive() == (payload, client.relayed)
        peer.send(payload, client.relayed)
        assert client.receive_data() == (peer.address, payload)
        client.bound(0x4000, peer.address)
        client.send_channel(0x4000, payload)
        assert peer.receive() == (payload, client.relayed)
        peer.send(payload, client.relayed)
        assert client.receive_data() == (0x4000, payload)


def test_a_peers_datagram_that_no_record_can_hold_is_dropped_and_counted(serve_dtls):
    server = serve_dtls()
    with dtls_client(server) as client, server.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        peer.send(bytes(16_381), client.relayed)
        peer.send(bytes(16_380), client.relayed)
        assert client.receive_data() == (0x4000, bytes(16_380))
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    assert totals.dropped["too_large"] == 1


def test_several_records_in_one_datagram_are_as_many_packets(serve_dtls):
    server = serve_dtls()
    with dtls_client(server) as client, server.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        client.put(b"".join(client.sealed(stun.channel_data(0x4000, bytes([number]) * 100)) for number in range(5)))
        assert [peer.receive()[0][:1] for _ in range(5)] == [bytes([number]) for number in range(5)]
    server.stop()
    Totals(server).assert_balanced()


def test_bursts_of_a_peer_come_in_order_with_odd_lengths(serve_dtls):
    """Equal datagrams are merged by the kernel on their way in, and cut again on their way out."""
    server = serve_dtls()
    with dtls_client(server) as client, server.peer() as peer, server.peer("127.0.0.2") as other:
        client.allocated().bound(0x4000, peer.address).permitted(other.address)
        for size in (1, 3, 21, 50, 1201):
            for number in range(40):
                peer.send(struct.pack("!B", number) * size, client.relayed)
            assert [client.receive_data() for _ in range(40)] == [
                (0x4000, struct.pack("!B", number) * size) for number in range(40)]
            for number in range(40):
                other.send(struct.pack("!B", number) * size, client.relayed)
            assert [client.receive_data() for _ in range(40)] == [
                (other.address, struct.pack("!B", number) * size) for number in range(40)]


def test_two_sessions_of_one_address_are_apart(serve_dtls):
    server = serve_dtls()
    local = client_address()
    with dtls_client(server, local=(local, 0)) as one, dtls_client(server, local=(local, 0)) as other:
        one.allocated()
        other.allocated()
        assert relays(one, server, b"one") and relays(other, server, b"other")
        one.finish()
        wait_until(lambda: len(server.relay_sockets()) == 1, 2, "the first one's relay is closed")
        assert relays(other, server, b"still there")


def test_close_notify_ends_the_session_and_its_allocation(serve_dtls):
    server = serve_dtls()
    with dtls_client(server) as client:
        client.allocated()
        assert len(server.relay_sockets()) == 1
        client.finish()
        wait_until(lambda: not server.relay_sockets(), 2, "the relay is closed")
        with pytest.raises(Closed):
            client.receive()


def test_a_client_that_begins_again_on_its_port_replaces_the_session_it_had(serve_dtls):
    server = serve_dtls()
    with dtls_client(server) as client:
        client.allocated()
        first = client.relayed
        client.begin()
        client.shake_hands()
        client.nonce = None
        # The old session is gone with all it held, so this is no mismatch (437).
        client.allocated()
        assert client.relayed != first
        assert len(server.relay_sockets()) == 1
        assert relays(client, server)


def test_a_hello_that_leads_to_nothing_leaves_the_session_there_is(serve_dtls):
    server = serve_dtls()
    with dtls_client(server) as client:
        client.allocated()
        old = client.handshake
        client.begin()
        client.put(client.handshake.advance())
        client.handshake.put(client.raw())
        # With the cookie: the server begins a handshake, and sends its flight.
        client.put(client.handshake.advance())
        client.raw()
        client.handshake = old
        for _ in range(3):
            assert relays(client, server)


def test_a_client_that_ends_its_session_while_it_begins_again_goes_on_with_the_new_one(serve_dtls):
    server = serve_dtls()
    with dtls_client(server) as client:
        client.allocated()
        old = client.handshake
        client.begin()
        client.put(client.handshake.advance())
        client.handshake.put(client.raw())
        client.put(client.handshake.advance())
        flight = client.raw()
        # Late on its way, as when the program that ended and the one that began share a port.
        old.connection.shutdown()
        client.put(old.take())
        wait_until(lambda: not server.relay_sockets(), 2, "what the old session held is closed")
        client.handshake.put(flight)
        client.shake_hands()
        client.nonce = None
        client.allocated()
        assert relays(client, server)


def test_a_session_without_an_allocation_ends_after_ten_seconds_and_one_with_lives_on(serve_dtls):
    server = serve_dtls()
    with dtls_client(server) as idle, dtls_client(server) as busy:
        busy.allocated()
        with pytest.raises(Closed):
            idle.receive(IDLE_SECONDS + 5)
        assert relays(busy, server)
        # With the allocation's end the idle time begins.
        busy.refresh(0)
        with pytest.raises(Closed):
            busy.receive(IDLE_SECONDS + 5)


def test_a_stop_says_close_notify(serve_dtls):
    server = serve_dtls()
    with dtls_client(server) as client:
        client.allocated()
        server.stop()
        with pytest.raises(Closed):
            client.receive()


def test_a_flight_that_was_lost_comes_again(serve_dtls):
    server = serve_dtls()
    with DTLSWire((HOST, server.dtls_port), (client_address(), 0), handshake=False) as client:
        client.put(client.handshake.advance())
        client.handshake.put(client.raw())
        client.put(client.handshake.advance())
        lost = client.raw()
        again = client.raw(4)
        while [record[13] for record in records(again)][:1] != [record[13] for record in records(lost)][:1]:
            again = client.raw(4)
        client.handshake.put(again)
        client.shake_hands()
        assert client.binding() == client.local


def test_a_refused_port_ends_nothing(serve_dtls):
    """What the server sends to a port that is closed for a moment comes back as an ICMP error."""
    server = serve_dtls()
    with dtls_client(server) as client, server.peer() as peer:
        client.allocated().bound(0x4000, peer.address)
        host, port = client.local
        client.socket.close()
        for _ in range(20):
            peer.send(b"into the void", client.relayed)
        client.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.socket.bind((host, port))
        client.send_channel(0x4000, b"back again")
        assert peer.receive()[0] == b"back again"
        client.send(client.signed(stun.REFRESH))
        while (answer := client.receive())[0] & 0xC0:
            # What had been on its way while the port was closed.
            pass
        assert stun.Message.parse(answer).is_success


def test_a_renewed_certificate_is_for_new_sessions_and_ends_no_old_one(serve_dtls, tmp_path):
    server = serve_dtls()
    clients = [dtls_client(server) for _ in range(10)]
    old = clients[0].certificate()
    for client in clients:
        client.allocated()
    certificate, key = new_pair(tmp_path, "renewed")
    shutil.copy(key, server.data / "private-key.pem")
    shutil.copy(certificate, server.data / "certificate.pem")
    server.process.send_signal(signal.SIGUSR2)

    def is_new():
        with dtls_client(server) as fresh:
            return fresh.certificate() != old

    wait_until(is_new, 5, "new sessions see the renewed certificate")
    for client in clients:
        assert relays(client, server)
        client.close()


def test_many_clients_at_once_all_get_in(serve_dtls):
    server = serve_dtls()
    clients = [DTLSWire((HOST, server.dtls_port), (client_address(), 0), handshake=False) for _ in range(200)]
    for client in clients:
        client.put(client.handshake.advance())
    for client in clients:
        client.shake_hands(10)
    for client in clients:
        assert client.binding() == client.local
        client.close()


def test_ipv6_is_served(serve_dtls):
    server = serve_dtls(host="::1", hosts=("127.0.0.1", "::1"))
    with dtls_client(server, host="::1") as client:
        client.allocated((stun.REQUESTED_ADDRESS_FAMILY, stun.IPV6))
        with server.peer("::1") as peer:
            client.bound(0x4000, peer.address)
            client.send_channel(0x4000, b"by six")
            assert peer.receive() == (b"by six", client.relayed)


def test_a_disabled_user_loses_the_allocation(serve_dtls):
    server = serve_dtls()
    with dtls_client(server) as client:
        client.allocated()
        server.cli("user", "disable", "alice")
        wait_until(lambda: not server.relay_sockets(), 3, "the relay is closed")
        assert isinstance(client, TurnClient) and client.binding() == client.local
