"""Mapped ports: the peer and Debian's miniupnpd, by PCP, NAT-PMP and UPnP-IGD."""

import contextlib
import signal
import socket
import struct
import time

import pytest

from harness import PASSWORD, wait_until
from mappinglab import SERVER, MappingLab, Miniupnpd
from namespaces import inside
from peertool import Running, peer, report, running

HTTPS = 8443
# So that one protocol is left: what the gateway does not hear (the first byte behind UDP's head is PCP's version).
LEFT = {
    "PCP": None,
    "NAT-PMP": "udp dport 5351 @th,64,8 2",
    "UPnP": "udp dport 5351",
}
# What the daemon says of a request.
REQUEST = {
    "PCP": "60bytes",
    "NAT-PMP": "NAT-PMP port mapping request",
    "UPnP": "AddPortMapping: ext port",
}


@pytest.fixture(scope="module")
def lab():
    with MappingLab() as lab:
        yield lab


@pytest.fixture(scope="module")
def environment(lab, serve_module):
    config = {"listen": {"https": [f"{SERVER}:{HTTPS}"]}, "external_address": SERVER}
    server = serve_module(config, namespace=lab.server, hosts=(SERVER,), relays_loopback=False)
    wait_until(lambda: (server.data / "admin.sock").exists(), 20, "the gateway")
    printed = server.cli("user", "passwd", "alice", "--password-stdin", "--format", "env", "--config",
                         str(server.config_path), input=PASSWORD + "\n").stdout
    return dict(line.split("=", 1) for line in printed.replace("'", "").splitlines())


def arrives(lab, outer, inner):
    """Whether a datagram from the world comes to the client's network, at that port."""
    with inside(lab.clients[0]):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        wire.bind(("lan", 0))
    with inside(lab.server):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with wire, sender:
        wire.settimeout(0.2)
        word = b"from the world"

        def seen():
            sender.sendto(word, ("45.0.0.2", outer))
            # What else is on the network comes by as well.
            with contextlib.suppress(TimeoutError):
                for _ in range(100):
                    frame = wire.recv(2048)
                    if frame.endswith(word):
                        return struct.unpack("!H", frame[36:38])[0] == inner
            return False

        return wait_until(seen, 20, f"{outer} leads to {inner}; there is {lab.mappings()}")


@pytest.mark.parametrize("protocol", LEFT)
def test_a_port_is_mapped_renewed_mapped_again_after_a_reboot_and_given_back(lab, environment, tmp_path, protocol):
    if LEFT[protocol]:
        lab.refuse(LEFT[protocol])
    # It is renewed at half of that; the daemon keeps to its limit for PCP alone.
    lifetime = 8 if protocol == "PCP" else 86400
    gateway = Miniupnpd(tmp_path, lab, lifetime=lifetime)
    program = Running(tmp_path, environment, "listen", "--id", "alice/desk", namespace=lab.clients[0])
    try:
        [(outer, address, inner)] = wait_until(lab.mappings, 20, "a mapping")
        mapped_at = time.monotonic()
        program.wait_for("alice/desk")
        assert address == "192.168.0.2" and REQUEST[protocol] in gateway.log(), gateway.log()
        assert arrives(lab, outer, inner)
        if protocol == "PCP":
            asked = gateway.log().count(REQUEST[protocol])
            wait_until(lambda: gateway.log().count(REQUEST[protocol]) > asked, 20, "it is renewed")
        if protocol != "UPnP":
            # In the first seconds an epoch does not tell a start from a slow clock (RFC 6886 section 3.6).
            wait_until(lambda: time.monotonic() - mapped_at > 5, 20, "the gateway has run for a while")
            # The power goes, and nobody says so before it is back.
            gateway.stop(signal.SIGKILL)
            lab.forget()
            gateway = Miniupnpd(tmp_path, lab, lifetime=lifetime)
            assert wait_until(lab.mappings, 60, "it is mapped again") == [(outer, address, inner)]
            assert arrives(lab, outer, inner)
        program.stop()
        assert lab.mappings() == []
    finally:
        program.process.kill()
        program.process.wait()
        gateway.close()
        lab.forget()
        lab.allow()


def test_netcheck_tells_what_the_gateway_maps_and_leaves_nothing_behind(lab, environment, tmp_path):
    with Miniupnpd(tmp_path, lab):
        found, status = report("netcheck", environment=environment, namespace=lab.clients[0])
        mapping = found["portMapping"]
        assert status == 0 and mapping["gateway"] == "192.168.0.1", found
        assert [mapping[name] for name in ("pcp", "natPMP", "upnp")] == ["available"] * 3, mapping
        assert (mapping["mappedBy"], mapping["externalAddress"]) == ("PCP", "45.0.0.2"), mapping
        assert mapping["problem"] is None and not mapping["isBehindAnotherNAT"]
        assert "maps a port" in found["verdict"], found["verdict"]
        assert lab.mappings() == []
        text = peer("netcheck", environment=environment, namespace=lab.clients[0]).stdout
        assert "Port mapping  PCP yes, NAT-PMP yes, UPnP yes at 192.168.0.1" in text, text
        assert "  mapped      45.0.0.2:" in text and " by PCP, for " in text, text


def test_a_gateway_that_maps_nothing_is_told_with_the_mend(lab, environment):
    found, status = report("netcheck", environment=environment, namespace=lab.clients[1])
    mapping = found["portMapping"]
    assert status == 0 and [mapping[name] for name in ("pcp", "natPMP", "upnp")] == ["silent"] * 3, mapping
    assert mapping["mappedBy"] is None and "router's settings" in mapping["problem"]
    off = environment | {"P2P_PORT_MAPPING": "false"}
    assert report("netcheck", environment=off, namespace=lab.clients[1])[0]["portMapping"] is None


def test_a_symmetric_nat_that_maps_ports_is_reached_directly_from_a_port_restricted_one(lab, environment, tmp_path):
    with Miniupnpd(tmp_path, lab), running(tmp_path, environment, "listen", "--id", "alice/desk", ready="alice/desk",
                                           namespace=lab.clients[0]):
        wait_until(lab.mappings, 20, "a mapping")
        done = peer("ping", "alice/desk", "-c", "2", "--require-direct", environment=environment | {
            "PEER_ID": "alice/lap"}, namespace=lab.clients[1])
        assert done.returncode == 0 and "turn-relay" not in done.stdout, done.stdout + done.stderr
    assert lab.mappings() == []
