"""Ports that are guessed: two `turnpike-peer` behind NATs that ordinary checks do not get through."""

import pytest

from harness import PASSWORD, wait_until
from natlab import SERVER, NATLab
from peertool import peer, running

HTTPS = 8443


@pytest.mark.parametrize("kind", ["sequential", "random"])
def test_a_home_and_a_symmetric_nat_find_a_direct_path(serve, tmp_path, kind):
    with NATLab("port-restricted", kind) as lab:
        # What NATs do is found out with a second address of the server's.
        listen = {"alternate": [f"{SERVER[1]}:3479"], "https": [f"{SERVER[0]}:{HTTPS}"]}
        server = serve({"listen": listen}, hosts=(SERVER[0],), port=3478,
                       namespace=lab.server, relays_loopback=False)
        wait_until(lambda: (server.data / "admin.sock").exists(), 20, "the gateway")
        printed = server.cli("user", "passwd", "alice", "--password-stdin", "--format", "env", "--config",
                             str(server.config_path), input=PASSWORD + "\n").stdout
        environment = dict(line.split("=", 1) for line in printed.replace("'", "").splitlines())
        # Of two hundred searches among all ports one finds nothing, and is made again after 25 seconds.
        environment["P2P_CONNECTION_TIMEOUT"] = "50000"
        one, other = lab.sites
        with running(tmp_path, environment, "listen", "--id", "alice/home", ready="registered as",
                     namespace=one.client):
            done = peer("ping", "alice/home", "-c", 1, "--require-direct", environment=environment,
                        namespace=other.client)
        print(done.stdout, done.stderr)
        # A NAT that counts is met by TCP as well, at times sooner.
        ways = ("udp", "tcp") if kind == "sequential" else ("udp",)
        assert done.returncode == 0, done.stdout + done.stderr
        assert any(f", by {way}-hole-punch, " in done.stdout for way in ways), done.stdout + done.stderr
