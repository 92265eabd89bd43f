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

The cables between the wan and what is on it are as fast as the machine, or, with `NATLab(..., delay_ms=25, loss=0.01)`,
links with those qualities in each direction (networkbox.py): `lab.sites[0].link` is cut, repaired and changed while
programs run, and "up" is from the site to the wan.

The kinds of kernelnats.py are nftables'. What those cannot make, a `network-box` does: any other kind is a profile of
the virtual lab (Tests/Lab/NATProfile.swift), such as "counting", "carrier-grade" or "many-addresses", and so is what
stands behind "box:", such as "box:full-cone"; words change it: "box:symmetric lifetime_s=20". Its router then is

    lan .1 ── all that comes from the lan ──> TUN in ┐
                                                     box    translates to .(100+N), and some also to .200 and up
    wan .(150+N) <── forwarded, ARP answered ── TUN out ┘

Of "chunked/port-restricted", the first stands behind the second, as a home does behind its carrier's NAT; the network
between them is 100.64.N.0/24.

Every box is a network namespace with this process's id in its name, so that runs do not meet and what a killed run
leaves behind is found.
"""

import itertools
import os

import kernelnats
from kernelnats import set_kernel
from namespaces import ip
from networkbox import NAT, Link

SERVER = ("203.0.113.10", "203.0.113.11")
_number = itertools.count()


class Site:
    """A client, and the router it is behind."""

    def __init__(self, kind, client, address, router=None, outside=None):
        self.kind, self.client, self.address, self.router = kind, client, address, router
        # Where the router is seen by the world; the client's own address where nothing is translated.
        self.outside = outside or address
        # The namespace that is on the wan.
        self.edge = client
        # Between it and the wan; None for a cable.
        self.link = None
        # The `networkbox.NAT`s on its way out, the next first; and the routers whose NAT is the kernel's.
        self.boxes, self.kernels = [], []

    def reboot(self):
        """All its NATs forget their mappings."""
        for box in self.boxes:
            box.reboot()
        for router in self.kernels:
            kernelnats.forget(router)


class NATLab:
    """`NATLab("full-cone", "symmetric")` has two sites; see the drawing above."""

    def __init__(self, *kinds, **qualities):
        self._stem = f"tpk{os.getpid()}x{next(_number)}"
        self._made, self._links, self._boxes = [], [], []
        self._qualities = qualities
        # Last bytes of addresses of the wan that nobody has.
        self._spare = itertools.count(200)
        try:
            self.server = self._namespace("s")
            ip("link", "add", "wan", "type", "bridge", namespace=self.server)
            for address in SERVER:
                ip("addr", "add", address + "/24", "dev", "wan", namespace=self.server)
            ip("link", "set", "wan", "up", namespace=self.server)
            self.sites = [self._site(number, kind) for number, kind in enumerate(kinds)]
            for site, link in zip(self.sites, self._links):
                site.link = link
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

    def _plug(self, number, namespace, host):
        """A cable, or a link, from the namespace's `wan` to the bridge."""
        if self._qualities:
            self._links.append(Link(namespace, "wan", self.server, f"port{number}", **self._qualities))
        else:
            self._cable(namespace, "wan", self.server, f"port{number}")
        ip("link", "set", f"port{number}", "master", "wan", namespace=self.server)
        address = f"203.0.113.{host + number}"
        ip("addr", "add", address + "/24", "dev", "wan", namespace=namespace)
        return address

    def _site(self, number, kind):
        client = self._namespace(f"c{number}")
        if kind == "none":
            return Site(kind, client, self._plug(number, client, 100))
        # From the world to the home.
        kinds = kind.split("/")[::-1]
        lan = "198.51.100" if kind == "firewall" else f"192.168.{100 + number}"
        boxes, kernels, above, edge, outside = [], [], None, None, f"203.0.113.{100 + number}"
        for depth, each in enumerate(kinds):
            router = self._namespace(f"r{number}" if depth == 0 else f"r{number}d{depth}")
            edge = edge or router
            is_box = each.split()[0] not in kernelnats.KINDS
            if above is None:
                own = self._plug(number, router, 150 if is_box else 100)
            else:
                between = f"100.64.{number}"
                self._cable(above, "lan", router, "wan")
                ip("addr", "add", between + ".1/24", "dev", "lan", namespace=above)
                own = f"{between}.{3 if is_box else 2}"
                ip("addr", "add", own + "/24", "dev", "wan", namespace=router)
                ip("route", "add", "default", "via", between + ".1", namespace=router)
            set_kernel(router, "net.ipv4.ip_forward", 1)
            if is_box:
                addresses = [outside if above is None else f"100.64.{number}.2"]
                if above is None and "many-addresses" in each:
                    addresses += [f"203.0.113.{next(self._spare)}" for _ in range(3)]
                boxes.append((router, each, addresses))
            else:
                kernelnats.make(router, each, own)
                kernels.append(router)
            above = router
        self._cable(above, "lan", client, "lan")
        ip("addr", "add", lan + ".1/24", "dev", "lan", namespace=above)
        for host in (2, 3):
            ip("addr", "add", f"{lan}.{host}/24", "dev", "lan", namespace=client)
        ip("route", "add", "default", "via", lan + ".1", namespace=client)
        if kind == "firewall":
            ip("route", "add", lan + ".0/24", "via", outside, namespace=self.server)
        site = Site(kind, client, lan + ".2", above, None if kind == "firewall" else outside)
        site.edge = edge
        # They need the lan that they translate for.
        site.boxes, site.kernels = [self._box(*box) for box in reversed(boxes)], kernels
        return site

    def _box(self, router, kind, addresses):
        """See the second drawing above."""
        profile, *changes = kind.removeprefix("box:").split()
        changes = dict(change.split("=", 1) for change in changes)
        box = NAT(profile, router, "in", "out", addresses, **changes)
        self._boxes.append(box)
        ip("rule", "add", "iif", "lan", "lookup", "100", namespace=router)
        ip("route", "add", "default", "dev", "in", "table", "100", namespace=router)
        for address in addresses:
            ip("route", "add", address, "dev", "out", namespace=router)
        set_kernel(router, "net.ipv4.conf.wan.proxy_arp", 1)
        # A home router would say of no packet that there is a shorter way.
        for setting in ("all", "wan", "lan"):
            set_kernel(router, f"net.ipv4.conf.{setting}.send_redirects", 0)
        return box

    def detour(self, one, other, delay_ms):
        """What two sites send to each other takes so much longer each way than what they send to the server: the relay
        is nearer to both than they are to each other.

            router ── wan ──> 203.0.113.90 far ── delay ── box ── near ── wan ──> the other router
        """
        box = self._namespace("x")
        self._links.append(Link(box, "far", self.server, "portfar"))
        self._links[-1].set("down", delay_ms=delay_ms)
        self._cable(box, "near", self.server, "portnear")
        for port in ("portfar", "portnear"):
            ip("link", "set", port, "master", "wan", namespace=self.server)
        # Each address is to be found at its own end alone.
        for setting, value in (("arp_ignore", 1), ("rp_filter", 0), ("send_redirects", 0), ("forwarding", 1)):
            set_kernel(box, f"net.ipv4.conf.all.{setting}", value)
        ip("addr", "add", "203.0.113.90/32", "dev", "far", namespace=box)
        ip("addr", "add", "203.0.113.91/24", "dev", "near", namespace=box)
        for site, there in ((one, other.outside), (other, one.outside)):
            # The way out of a site's last router.
            ip("route", "add", there, "via", "203.0.113.90", namespace=site.edge)

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

    def close(self):
        for box in self._links + self._boxes:
            box.close()
        self._links.clear()
        self._boxes.clear()
        for name in reversed(self._made):
            ip("netns", "del", name, check=False)
        self._made.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
