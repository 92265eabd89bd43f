"""A lab of NATs: one server with two addresses, and clients behind routers of every kind that the kernel can make.

                       server   203.0.113.10, 203.0.113.11
                          │
                         wan    203.0.113.0/24, a bridge in the server's namespace
              ┌───────────┼───────────┐
    wan .100 router 0  router 1 …   client N   of kind "none": its address is on the bridge, 203.0.113.(100+N)
    lan .1    │           │
              │           │             lan N is 192.168.(100+N).0/24; 198.51.100.0/24 behind a "firewall", which
    lan .2 client 0    client 1         translates nothing
         (and .3)

Every box is a network namespace with this process's id in its name, so that runs do not meet and what a killed run
leaves behind is found. A router drops whatever comes to itself from outside, as a home router does: if it answered, or
only took note, the kernel would hold a mapping for the flow from outside, and the client's own packets would collide
with it.
"""

import itertools
import os
import subprocess

from namespaces import ip, run

SERVER = ("203.0.113.10", "203.0.113.11")
_number = itertools.count()

# What nftables is told for each kind, beside the rules that all have. `snat` without a range keeps the client's port
# where it is free; with one and no random flag, the kernel goes on using a client's port for new destinations if it
# lies in the range.
_FULL_CONE = {
    "nat": "map inside { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 300s; }",
    "pre": 'iifname "wan" meta l4proto udp dnat ip to udp dport map @inside',
    "post": 'oifname "wan" meta l4proto udp update @inside { udp sport timeout 300s : ip saddr . udp sport }\n'
            'oifname "wan" snat to WAN',
}
KINDS = {
    # Mapping endpoint-independent; filtering endpoint-independent, by address, by address and port.
    "full-cone": {**_FULL_CONE, "forward": 'iifname "wan" ct status dnat accept'},
    "address-restricted": {
        **_FULL_CONE,
        "filter": "set seen { type ipv4_addr . inet_service . ipv4_addr; flags dynamic,timeout; timeout 300s; }",
        "outward": "meta l4proto udp update @seen { ip saddr . udp sport . ip daddr timeout 300s }",
        "forward": 'iifname "wan" meta l4proto udp ip daddr . udp dport . ip saddr @seen accept',
    },
    "port-restricted": {"post": 'oifname "wan" snat to WAN'},
    # The same with ports of its own choice.
    "remapping": {"post": 'oifname "wan" meta l4proto { tcp, udp } snat to WAN:40000-59999'},
    # Mapping by destination address: a range of ports for each.
    "address-dependent": {
        "post": "".join(
            f'oifname "wan" ip daddr {address} meta l4proto {{ tcp, udp }} snat to WAN:{low}-{low + 4999}\n'
            for address, low in zip(SERVER, (40000, 50000))
        ),
    },
    # Mapping by destination address and port, at random.
    "symmetric": {"post": 'oifname "wan" masquerade fully-random'},
    # No translation; only what was asked for comes in.
    "firewall": {},
}

_RULES = """
table ip filter {{
    {filter}
    chain input {{
        type filter hook input priority 0; policy drop;
        iifname {{ "lo", "lan" }} accept
        ct state established,related accept
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        iifname "lan" jump outward
        iifname "lan" accept
        iifname "wan" ct state established,related accept
        {forward}
    }}
    chain outward {{
        {outward}
    }}
}}
table ip nat {{
    {nat}
    chain pre {{ type nat hook prerouting priority dstnat; {pre}; }}
    chain post {{
        type nat hook postrouting priority srcnat;
        {post}
    }}
}}
"""


class Site:
    """A client, and the router it is behind."""

    def __init__(self, kind, client, address, router=None, outside=None):
        self.kind, self.client, self.address, self.router = kind, client, address, router
        # Where the router is seen by the world; the client's own address where nothing is translated.
        self.outside = outside or address


class NATLab:
    """`NATLab("full-cone", "symmetric")` has two sites; see the drawing above."""

    def __init__(self, *kinds):
        self._stem = f"tpk{os.getpid()}x{next(_number)}"
        self._made = []
        try:
            self.server = self._namespace("s")
            ip("link", "add", "wan", "type", "bridge", namespace=self.server)
            for address in SERVER:
                ip("addr", "add", address + "/24", "dev", "wan", namespace=self.server)
            ip("link", "set", "wan", "up", namespace=self.server)
            self.sites = [self._site(number, kind) for number, kind in enumerate(kinds)]
        except BaseException:
            self.close()
            raise

    def _namespace(self, suffix):
        name = self._stem + suffix
        ip("netns", "add", name)
        self._made.append(name)
        ip("link", "set", "lo", "up", namespace=name)
        return name

    def _cable(self, one, one_end, other, other_end):
        ip("link", "add", one_end, "type", "veth", "peer", "name", other_end, "netns", other, namespace=one)
        ip("link", "set", one_end, "up", namespace=one)
        ip("link", "set", other_end, "up", namespace=other)

    def _plug(self, number, namespace):
        """A cable from the namespace's `wan` to the bridge."""
        self._cable(namespace, "wan", self.server, f"port{number}")
        ip("link", "set", f"port{number}", "master", "wan", namespace=self.server)
        address = f"203.0.113.{100 + number}"
        ip("addr", "add", address + "/24", "dev", "wan", namespace=namespace)
        return address

    def _site(self, number, kind):
        client = self._namespace(f"c{number}")
        if kind == "none":
            return Site(kind, client, self._plug(number, client))
        router = self._namespace(f"r{number}")
        outside = self._plug(number, router)
        lan = "198.51.100" if kind == "firewall" else f"192.168.{100 + number}"
        self._cable(router, "lan", client, "lan")
        ip("addr", "add", lan + ".1/24", "dev", "lan", namespace=router)
        for host in (2, 3):
            ip("addr", "add", f"{lan}.{host}/24", "dev", "lan", namespace=client)
        ip("route", "add", "default", "via", lan + ".1", namespace=client)
        if kind == "firewall":
            ip("route", "add", lan + ".0/24", "via", outside, namespace=self.server)
        set_kernel(router, "net.ipv4.ip_forward", 1)
        self._translate(router, KINDS[kind], outside)
        return Site(kind, client, lan + ".2", router, None if kind == "firewall" else outside)

    def neighbour(self, site):
        """Another host on the network of a site that has a router: its namespace, and its address."""
        number = self.sites.index(site)
        client = self._namespace(f"n{number}")
        # The router's end becomes a port of a bridge that has its place and its name.
        ip("link", "set", "lan", "down", namespace=site.router)
        ip("link", "set", "lan", "name", "port0", namespace=site.router)
        ip("link", "add", "lan", "type", "bridge", namespace=site.router)
        gateway = site.address.rsplit(".", 1)[0] + ".1"
        ip("addr", "flush", "dev", "port0", namespace=site.router)
        ip("addr", "add", gateway + "/24", "dev", "lan", namespace=site.router)
        self._cable(site.router, "port1", client, "lan")
        for port in ("port0", "port1"):
            ip("link", "set", port, "up", "master", "lan", namespace=site.router)
        ip("link", "set", "lan", "up", namespace=site.router)
        address = site.address.rsplit(".", 1)[0] + ".4"
        ip("addr", "add", address + "/24", "dev", "lan", namespace=client)
        ip("route", "add", "default", "via", gateway, namespace=client)
        return client, address

    def _translate(self, router, rules, outside):
        parts = dict.fromkeys(("filter", "forward", "outward", "nat", "pre", "post"), "") | rules
        text = _RULES.format(**parts).replace("WAN", outside)
        done = subprocess.run(["ip", "netns", "exec", router, "nft", "-f", "-"], input=text, capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 0, f"{done.stderr}\n{text}"

    def close(self):
        for name in reversed(self._made):
            ip("netns", "del", name, check=False)
        self._made.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def set_kernel(namespace, key, value):
    """A setting of the kernel that each namespace has of its own."""
    run("ip", "netns", "exec", namespace, "sysctl", "-qw", f"{key}={value}")
