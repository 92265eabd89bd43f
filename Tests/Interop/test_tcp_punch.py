"""Peers behind NATs that let no datagram out: `turnpike-peer` meets its like over TCP, on real kernels."""

import contextlib

import pytest

from harness import PASSWORD, wait_until
from namespaces import run
from natlab import SERVER, NATLab
from peertool import peer, report, running

HOST, HTTPS = SERVER[0], 8443


@contextlib.contextmanager
def without_udp(serve, tmp_path, *kinds):
    """The lab, in which no router passes UDP, and the environment of a peer."""
    with NATLab(*kinds, delay_ms=15) as lab:
        for site in lab.sites:
            run("ip", "netns", "exec", site.router, "nft", "insert", "rule", "ip", "filter", "forward", "meta",
                "l4proto", "udp", "drop")
        listen = {"https": [f"{HOST}:{HTTPS}"], "tcp": [f"{HOST}:3478"], "alternate": [f"{SERVER[1]}:3479"]}
        server = serve({"listen": listen}, namespace=lab.server, hosts=(HOST,), port=3478, relays_loopback=False)
        wait_until(lambda: (server.data / "admin.sock").exists(), 20, "the gateway")
        printed = server.cli("user", "passwd", "alice", "--password-stdin", "--format", "env", "--config",
                             str(server.config_path), input=PASSWORD + "\n").stdout
        yield lab, dict(line.split("=", 1) for line in printed.replace("'", "").splitlines())


@pytest.mark.parametrize("kinds", [("port-restricted", "port-restricted"), ("remapping", "port-restricted")])
def test_two_that_are_kept_from_udp_meet_over_tcp(serve, tmp_path, kinds):
    with without_udp(serve, tmp_path, *kinds) as (lab, environment):
        one, other = lab.sites
        with running(tmp_path, environment, "listen", "--id", "alice/web", ready="registered as", namespace=one.client):
            done = peer("connect", "alice/web", "--id", "alice/desk", "--require-direct", "--explain",
                        environment=environment, namespace=other.client, input="hello\n")
        assert done.returncode == 0, done.stderr
        assert "by tcp-hole-punch" in done.stderr and "over TCP" in done.stderr, done.stderr


def test_what_a_router_does_with_tcp_is_told(serve, tmp_path):
    with without_udp(serve, tmp_path, "port-restricted") as (lab, environment):
        site = lab.sites[0]
        found, _ = report("netcheck", environment=environment, namespace=site.client)
        assert found["tcp"]["mapping"] == "endpoint-independent", found
        assert found["tcp"]["unsolicited"] == "dropped", found
        assert found["tcp"]["publicAddress"].rsplit(":", 1)[0] == site.outside
