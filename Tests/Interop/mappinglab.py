"""Two homes and a server, for gateways that map ports: Debian's miniupnpd is the gateway of the first.

                       server   45.0.9.9, and the router between the homes
                       │     │
         45.0.0.2  home 0   home 1  45.0.1.2     the first is "symmetric", the second "port-restricted"
    192.168.0.1  lan │         │ lan  192.168.1.1
    192.168.0.2   client 0   client 1  192.168.1.2

miniupnpd maps nothing where its outside address is of a range for documentation, so the world has others here; no
packet leaves the namespaces.
"""

import itertools
import os
import re
import signal
import subprocess

from harness import wait_until
from namespaces import ip, run

SERVER = "45.0.9.9"
MINIUPNPD = "/usr/sbin/miniupnpd"
_number = itertools.count()

_RULES = """
table ip filter {{
    chain input {{
        type filter hook input priority 0; policy drop;
        iifname {{ "lo", "lan" }} accept
        ct state established,related accept
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        iifname "lan" accept
        ct state established,related accept
        ct status dnat accept
    }}
    chain post {{
        type nat hook postrouting priority srcnat;
        oifname "wan" masquerade {flags}
    }}
}}
table inet upnp {{
    chain mapped_forward {{
    }}
    chain mapped_pre {{
    }}
    chain mapped_post {{
    }}
    chain forward {{
        type filter hook forward priority 10; policy accept;
        jump mapped_forward
    }}
    chain pre {{
        type nat hook prerouting priority dstnat;
        jump mapped_pre
    }}
}}
"""

_CONFIGURATION = """
ext_ifname=wan
listening_ip=lan
http_port={http_port}
enable_natpmp={datagrams}
enable_upnp={upnp}
min_lifetime=2
max_lifetime={lifetime}
secure_mode=yes
uuid=00000000-0000-4000-8000-000000000001
upnp_table_name=upnp
upnp_nat_table_name=upnp
upnp_forward_chain=mapped_forward
upnp_nat_chain=mapped_pre
upnp_nat_postrouting_chain=mapped_post
allow 1-65535 0.0.0.0/0 1-65535
"""


class MappingLab:
    def __init__(self):
        stem = f"tpk{os.getpid()}x{next(_number)}m"
        self.server, self.routers, self.clients = stem + "s", [stem + "r0", stem + "r1"], [stem + "c0", stem + "c1"]
        self._made = []
        try:
            for name in (self.server, *self.routers, *self.clients):
                ip("netns", "add", name)
                self._made.append(name)
                ip("link", "set", "lo", "up", namespace=name)
            ip("addr", "add", f"{SERVER}/32", "dev", "lo", namespace=self.server)
            for name in (self.server, *self.routers):
                run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            for number, flags in enumerate(("fully-random", "")):
                self._home(number, flags)
        except BaseException:
            self.close()
            raise

    def _home(self, number, flags):
        router, client = self.routers[number], self.clients[number]
        for one, device, other, end in ((self.server, f"home{number}", router, "wan"), (router, "lan", client, "lan")):
            ip("link", "add", device, "type", "veth", "peer", "name", end, "netns", other, namespace=one)
            ip("link", "set", device, "up", namespace=one)
            ip("link", "set", end, "up", namespace=other)
        ip("addr", "add", f"45.0.{number}.1/24", "dev", f"home{number}", namespace=self.server)
        ip("addr", "add", f"45.0.{number}.2/24", "dev", "wan", namespace=router)
        ip("route", "add", "default", "via", f"45.0.{number}.1", namespace=router)
        ip("addr", "add", f"192.168.{number}.1/24", "dev", "lan", namespace=router)
        ip("addr", "add", f"192.168.{number}.2/24", "dev", "lan", namespace=client)
        ip("route", "add", "default", "via", f"192.168.{number}.1", namespace=client)
        rules = _RULES.format(flags=flags)
        done = subprocess.run(["ip", "netns", "exec", router, "nft", "-f", "-"], input=rules, capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def refuse(self, rule):
        """Has the first router drop what its own hosts send to it, by a condition."""
        run("ip", "netns", "exec", self.routers[0], "nft", "insert", "rule", "ip", "filter", "input", *rule.split(),
            "drop")

    def allow(self):
        run("ip", "netns", "exec", self.routers[0], "nft", "flush", "chain", "ip", "filter", "input")
        for rule in ('iifname { "lo", "lan" } accept', "ct state established,related accept"):
            run("ip", "netns", "exec", self.routers[0], "nft", "add", "rule", "ip", "filter", "input", *rule.split())

    def mappings(self):
        """What is mapped: (external port, internal address, internal port) of every rule."""
        rules = run("ip", "netns", "exec", self.routers[0], "nft", "list", "chain", "inet", "upnp", "mapped_pre").stdout
        return [(int(outer), address, int(inner))
                for outer, address, inner in re.findall(r"th dport (\d+) dnat ip to ([\d.]+):(\d+)", rules)]

    def forget(self):
        """What a power cut does to the router's rules."""
        for chain in ("mapped_pre", "mapped_forward", "mapped_post"):
            run("ip", "netns", "exec", self.routers[0], "nft", "flush", "chain", "inet", "upnp", chain)

    def close(self):
        for name in reversed(self._made):
            ip("netns", "del", name, check=False)
        self._made.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Miniupnpd:
    """The daemon on the first router."""

    def __init__(self, directory, lab, datagrams="yes", upnp="yes", lifetime=86400, http_port=5000):
        self.log_path, configuration = directory / f"miniupnpd{next(_number)}.log", directory / "miniupnpd.conf"
        configuration.write_text(_CONFIGURATION.format(
            datagrams=datagrams, upnp=upnp, lifetime=lifetime, http_port=http_port))
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", lab.routers[0], MINIUPNPD, "-d", "-f", str(configuration), "-P",
                 str(directory / "miniupnpd.pid")], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        ready = "NAT-PMP/PCP traffic" if datagrams == "yes" else "HTTP listening"
        wait_until(lambda: ready in self.log(), 20, "miniupnpd listens")

    def log(self):
        assert self.process.poll() is None, self.log_path.read_text(errors="replace")
        return self.log_path.read_text(errors="replace")

    def stop(self, sign=signal.SIGTERM):
        self.process.send_signal(sign)
        self.process.wait(20)

    def close(self):
        if self.process.poll() is None:
            self.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
