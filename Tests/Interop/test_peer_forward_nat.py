"""`turnpike-peer forward` between machines behind port-restricted NATs, over links with delay and loss."""

import contextlib
import hashlib
import os
import socket
import threading
import time

import pytest

from forwarding import forwarding
from harness import PASSWORD, wait_until
from namespaces import inside, ip, run
from natlab import SERVER, NATLab
from peertool import running

HOST, HTTPS, WEB_PORT = SERVER[0], 8443, 8000
# More than any of them takes, on a machine that does other things too.
DOWNLOAD_SECONDS = 200


class Download:
    """An HTTP server in one namespace, and a client in another that reads one body by way of a forward."""

    def __init__(self, size, server_namespace):
        self.body = os.urandom(1 << 20) * (size >> 20)
        with inside(server_namespace):
            self.listener = socket.create_server(("127.0.0.1", WEB_PORT))
        threading.Thread(target=self._serve, daemon=True).start()
        self.received = 0
        self.digest = None
        self.error = None

    def _serve(self):
        with contextlib.suppress(OSError):
            connection = self.listener.accept()[0]
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.body) + self.body)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)

    def start(self, namespace, port):
        with inside(namespace):
            self.client = socket.create_connection(("127.0.0.1", port))
        self.client.settimeout(DOWNLOAD_SECONDS)
        self.began = time.monotonic()
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        try:
            with self.client:
                self.client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = self.client.makefile("rb")
                while answer.readline() not in (b"\r\n", b""):
                    pass
                digest = hashlib.sha256()
                while piece := answer.read1(1 << 16):
                    digest.update(piece)
                    self.received += len(piece)
                self.digest = digest.hexdigest()
        except OSError as error:
            self.error = error

    def wait(self):
        self.thread.join(DOWNLOAD_SECONDS)
        assert not self.thread.is_alive() and self.error is None, (self.received, self.error)
        assert self.digest == hashlib.sha256(self.body).hexdigest(), self.received
        return time.monotonic() - self.began


@contextlib.contextmanager
def carried(serve, tmp_path, size, delay_ms):
    """The lab, a download of so many bytes that is to be started, and the forward that carries it, with so much delay
    between the NATs each way."""
    with NATLab("port-restricted", "port-restricted", delay_ms=delay_ms / 2) as lab:
        config = {"listen": {"https": [f"{HOST}:{HTTPS}"]}, "external_address": HOST}
        server = serve(config, namespace=lab.server, hosts=(HOST,), relays_loopback=False)
        wait_until(lambda: (server.data / "admin.sock").exists(), 20, "the gateway")
        printed = server.cli("user", "passwd", "alice", "--password-stdin", "--format", "env", "--config",
                             str(server.config_path), input=PASSWORD + "\n").stdout
        environment = dict(line.split("=", 1) for line in printed.replace("'", "").splitlines())
        one, other = lab.sites
        download = Download(size, one.client)
        with running(tmp_path, environment, "listen", "--id", "alice/web", ready="forwards", namespace=one.client), \
                forwarding(tmp_path, environment, f"alice/web:{WEB_PORT}", namespace=other.client) as program:
            program.wait_for("by udp-hole-punch")
            yield lab, download, program
        download.listener.close()


def test_an_http_download_of_100_mb_between_nats_arrives_whole(serve, tmp_path):
    with carried(serve, tmp_path, 100 << 20, delay_ms=25) as (lab, download, program):
        download.start(lab.sites[1].client, *program.ports)
        seconds = download.wait()
        print(f"100 MiB in {seconds:.1f} s, {len(download.body) * 8 / seconds / 1e6:.0f} Mbit/s")
        assert "by turn-relay" not in program.said()[program.said().index("by udp-hole-punch"):]


def test_a_download_with_loss_goes_on_over_the_relay_when_the_direct_path_is_cut(serve, tmp_path):
    with carried(serve, tmp_path, 8 << 20, delay_ms=2) as (lab, download, program):
        for site in lab.sites:
            # Two links, 1 % together in each direction.
            site.link.set(loss=0.005)
        download.start(lab.sites[1].client, *program.ports)
        wait_until(lambda: download.received > 2 << 20, DOWNLOAD_SECONDS, "a quarter has come")
        said, before = len(program.said()), download.received
        one, other = lab.sites
        ip("route", "add", "blackhole", one.outside, namespace=other.router)
        ip("route", "add", "blackhole", other.outside, namespace=one.router)
        program.wait_for("by turn-relay", after=said)
        seconds = download.wait()
        print(f"8 MiB in {seconds:.1f} s, cut at {before}")
        assert "is gone" not in program.said()


# What is longer than 1,400 bytes and forwarded, and what the router says of packets that are too long.
WATCH = """
table ip watch {
    counter long { }
    counter told { }
    chain forward { type filter hook forward priority -200; ip length > 1400 meta l4proto udp counter name long; }
    chain output {
        type filter hook output priority -200;
        icmp type destination-unreachable icmp code frag-needed counter name told VERDICT;
    }
}
"""


def packets(router, counter):
    said = run("ip", "netns", "exec", router, "nft", "list", "counter", "ip", "watch", counter).stdout
    return int(said.split("packets")[1].split()[0])


@pytest.mark.parametrize("verdict", ["drop", "accept"])
def test_a_download_outlives_a_link_that_becomes_narrower(serve, tmp_path, verdict):
    with carried(serve, tmp_path, 8 << 20, delay_ms=10) as (lab, download, program):
        # Of the home that sends. It forwards nothing longer, and its own word of that is dropped, or is not.
        router = lab.sites[0].router
        run("ip", "netns", "exec", router, "nft", "-f", "-", input=WATCH.replace("VERDICT", verdict))
        download.start(lab.sites[1].client, *program.ports)
        wait_until(lambda: download.received > 2 << 20, DOWNLOAD_SECONDS, "a quarter has come")
        assert packets(router, "long") > 100 and packets(router, "told") == 0
        ip("link", "set", "wan", "mtu", "1300", namespace=router)
        before, narrowed = download.received, time.monotonic()
        wait_until(lambda: download.received > before + (1 << 19), DOWNLOAD_SECONDS, "it goes on")
        again = time.monotonic() - narrowed
        seconds = download.wait()
        print(f"8 MiB in {seconds:.1f} s, narrowed at {before}; half a megabyte more {again:.1f} s later")
        assert packets(router, "told") > 0
        assert "by turn-relay" not in program.said()[program.said().index("by udp-hole-punch"):]
        assert "is gone" not in program.said()
