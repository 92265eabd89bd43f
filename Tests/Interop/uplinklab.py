"""A machine with two uplinks, another machine, and a server that both reach by IPv4 and IPv6.

                  server   203.0.113.10, 2001:db8::10, a bridge "wan" in its namespace
                     │
           ┌─────────┼──────────────┐
        router 0   router 1      router 2     203.0.113.(100+N), NAT; 2001:db8::(100+N), a firewall
           │         │              │
          up0       up1            up2        192.168.(100+N).0/24, 2001:db8:(100+N)::/64
           └─ mover ─┘            other
"""

import itertools
import os
import shutil
from pathlib import Path

from namespaces import ip, run
from natlab import set_kernel

NAME = "turnpike.test"
SERVER = ("203.0.113.10", "2001:db8::10")
_number = itertools.count()

_RULES = """
table inet filter {
    chain input { type filter hook input priority 0; policy drop; iifname { "lo", "lan" } accept
        ct state established,related accept; meta l4proto ipv6-icmp accept; }
    chain forward { type filter hook forward priority 0; policy drop; iifname "lan" accept
        iifname "wan" ct state established,related accept; }
}
table ip nat {
    chain pre { type nat hook prerouting priority dstnat; }
    chain post { type nat hook postrouting priority srcnat; oifname "wan" snat to WAN; }
}
"""


class UplinkLab:
    def __init__(self):
        self._stem = f"tpk{os.getpid()}x{next(_number)}u"
        self._made = []
        try:
            self.server = self._namespace("s")
            ip("link", "add", "wan", "type", "bridge", namespace=self.server)
            for address in (SERVER[0] + "/24", SERVER[1] + "/64"):
                self._address(self.server, address, "wan")
            ip("link", "set", "wan", "up", namespace=self.server)
            self.mover, self.other = self._namespace("m"), self._namespace("o")
            for number, client in enumerate((self.mover, self.mover, self.other)):
                self._router(number, client)
            self.uplink = 1
            self.plug(self.other, 2, "dual")
            self.move("dual")
        except BaseException:
            self.close()
            raise

    def _namespace(self, suffix):
        name = self._stem + suffix
        ip("netns", "add", name)
        self._made.append(name)
        ip("link", "set", "lo", "up", namespace=name)
        # Addresses of the links are there at once as well.
        for part in ("all", "default"):
            set_kernel(name, f"net.ipv6.conf.{part}.accept_dad", 0)
        # `ip netns exec` puts it in the place of /etc/hosts.
        directory = Path("/etc/netns") / name
        directory.mkdir(parents=True)
        (directory / "hosts").write_text("".join(f"{address} {NAME}\n" for address in SERVER))
        return name

    @staticmethod
    def _address(namespace, address, device):
        ip("addr", "add", address, "dev", device, *(("nodad",) if ":" in address else ()), namespace=namespace)

    def _router(self, number, client):
        router = self._namespace(f"r{number}")
        for here, end, there, other_end in ((router, "wan", self.server, f"port{number}"),
                                            (client, f"up{number}", router, "lan")):
            ip("link", "add", end, "type", "veth", "peer", "name", other_end, "netns", there, namespace=here)
        ip("link", "set", f"port{number}", "master", "wan", "up", namespace=self.server)
        for device in ("wan", "lan"):
            ip("link", "set", device, "up", namespace=router)
        host = 100 + number
        for address, device in ((f"203.0.113.{host}/24", "wan"), (f"2001:db8::{host}/64", "wan"),
                                (f"192.168.{host}.1/24", "lan"), (f"2001:db8:{host}::1/64", "lan")):
            self._address(router, address, device)
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            set_kernel(router, key, 1)
        run("ip", "netns", "exec", router, "nft", "-f", "-", input=_RULES.replace("WAN", f"203.0.113.{host}"))
        # The rest of the internet knows the way to the network behind it.
        ip("-6", "route", "add", f"2001:db8:{host}::/64", "via", f"2001:db8::{host}", namespace=self.server)
        for other in range(number):
            name, its_host = f"{self._stem}r{other}", 100 + other
            ip("-6", "route", "add", f"2001:db8:{host}::/64", "via", f"2001:db8::{host}", namespace=name)
            ip("-6", "route", "add", f"2001:db8:{its_host}::/64", "via", f"2001:db8::{its_host}", namespace=router)

    def plug(self, namespace, number, families):
        """Gives the machine that uplink, with addresses of "v4", "v6" or both ("dual")."""
        host = 100 + number
        ip("link", "set", f"up{number}", "up", namespace=namespace)
        if families != "v6":
            self._address(namespace, f"192.168.{host}.2/24", f"up{number}")
            ip("route", "add", "default", "via", f"192.168.{host}.1", namespace=namespace)
        if families != "v4":
            self._address(namespace, f"2001:db8:{host}::2/64", f"up{number}")
            ip("-6", "route", "add", "default", "via", f"2001:db8:{host}::1", namespace=namespace)

    def move(self, families):
        """Unplugs the mover, and plugs it in at the other router."""
        ip("addr", "flush", "dev", f"up{self.uplink}", namespace=self.mover)
        ip("link", "set", f"up{self.uplink}", "down", namespace=self.mover)
        self.uplink = 1 - self.uplink
        self.plug(self.mover, self.uplink, families)

    def close(self):
        for name in reversed(self._made):
            ip("netns", "del", name, check=False)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        self._made.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
