"""NATs and firewalls that the kernel makes by itself, with nftables: a second implementation of the virtual lab's
profiles (Tests/Lab/NATProfile.swift) by the same names, as far as nftables can express them.

A router drops whatever comes to itself from outside, as a home router does: if it answered, or only took note, the
kernel would hold a mapping for the flow from outside, and the client's own packets would collide with it. The kind
"remembering" is the router that does so.
"""

import socket
import struct
import subprocess

from namespaces import inside, run

_SERVER = ("203.0.113.10", "203.0.113.11")

# What nftables is told for each kind, beside the rules that all have. `snat` without a range keeps the client's port
# where it is free; with one and no random flag, the kernel goes on using a client's port for new destinations if it
# lies in the range.
_KEEP_PORT = 'oifname "wan" snat to WAN'
_FULL_CONE = {
    "nat": "map inside { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 300s; }",
    "pre": 'iifname "wan" meta l4proto udp dnat ip to udp dport map @inside',
    "post": f'oifname "wan" meta l4proto udp update @inside {{ udp sport timeout 300s : ip saddr . udp sport }}\n'
            f'{_KEEP_PORT}',
    "forward": 'iifname "wan" ct status dnat accept',
}
# Ports that are counted through. A flow finds one port to choose from, so that none is used for a second destination.
_COUNTED = 4096
_COUNTING = (f"snat to WAN : numgen inc mod {_COUNTED} map {{ "
             + ", ".join(f"{number} : {20000 + number}" for number in range(_COUNTED)) + " }")
KINDS = {
    # Mapping endpoint-independent; filtering endpoint-independent, by address, by address and port.
    "full-cone": _FULL_CONE,
    "address-restricted": {
        **_FULL_CONE,
        "filter": "set seen { type ipv4_addr . inet_service . ipv4_addr; flags dynamic,timeout; timeout 300s; }",
        "outward": "meta l4proto udp update @seen { ip saddr . udp sport . ip daddr timeout 300s }",
        "forward": 'iifname "wan" meta l4proto udp ip daddr . udp dport . ip saddr @seen accept',
    },
    "port-restricted": {"post": _KEEP_PORT},
    # The same with ports of its own choice.
    "remapping": {"post": 'oifname "wan" meta l4proto { tcp, udp } snat to WAN:40000-59999'},
    # Mapping by destination address: a range of ports for each.
    "address-dependent": {
        "post": "".join(
            f'oifname "wan" ip daddr {address} meta l4proto {{ tcp, udp }} snat to WAN:{low}-{low + 4999}\n'
            for address, low in zip(_SERVER, (40000, 50000))
        ),
    },
    # Mapping by destination address and port: at random, in a carrier's block of ports, or one port after the other.
    "symmetric": {"post": 'oifname "wan" masquerade fully-random'},
    "chunked": {"post": 'oifname "wan" meta l4proto { tcp, udp } snat to WAN:20480-20991 random'},
    "sequential": {"post": f'oifname "wan" meta l4proto {{ tcp, udp }} {_COUNTING}'},
    # Full cone, and packets from inside to its own public address come back in, from the sender's public one.
    "turning-round": {
        **_FULL_CONE,
        "pre": 'ip daddr WAN meta l4proto udp dnat ip to udp dport map @inside',
        "post": 'iifname "lan" oifname "lan" ct status dnat snat to WAN\n' + _FULL_CONE["post"],
    },
    # Forgets a mapping after 30 s.
    "short-lived": {"post": _KEEP_PORT, "seconds": 30},
    # Answers what nobody asked for, with a reset or by ICMP.
    "rejecting": {
        "post": _KEEP_PORT,
        "input": 'iifname "wan" meta l4proto tcp reject with tcp reset\niifname "wan" meta l4proto udp reject',
    },
    # Lets in what is for itself, and takes note of it.
    "remembering": {"post": _KEEP_PORT, "input": 'iifname "wan" accept'},
    # Port-restricted, and no datagram gets out; nothing but TCP to port 443.
    "no-udp": {"post": _KEEP_PORT, "outward": "meta l4proto udp drop"},
    "https-only": {"post": _KEEP_PORT, "outward": "meta l4proto udp drop\ntcp dport != 443 drop"},
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
        {input}
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
# NFNL_SUBSYS_CTNETLINK and IPCTNL_MSG_CT_DELETE of <linux/netfilter/nfnetlink_conntrack.h>.
_NETLINK_NETFILTER, _CONNTRACK_DELETE = 12, 1 << 8 | 2
_PARTS = ("filter", "input", "forward", "outward", "nat", "pre", "post")


def make(router, kind, outside):
    """Makes a NAT of a namespace that has a `lan` and a `wan`, with `outside` on the latter.

    Words change it: `short-lived lifetime_s=5` lives for 5 s, and of `symmetric udp=no` no datagram gets out.
    """
    name, *words = kind.split()
    parts = dict.fromkeys(_PARTS, "") | KINDS[name]
    changes = dict(word.split("=", 1) for word in words)
    assert changes.keys() <= {"lifetime_s", "udp"} and changes.get("udp", "no") == "no", kind
    if "udp" in changes:
        parts["outward"] = KINDS["no-udp"]["outward"]
    text = _RULES.format(**{part: parts[part] for part in _PARTS}).replace("WAN", outside)
    done = subprocess.run(["ip", "netns", "exec", router, "nft", "-f", "-"], input=text, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, f"{done.stderr}\n{text}"
    seconds = int(changes.get("lifetime_s", parts.get("seconds", 0)))
    for flow in ("", "_stream") if seconds else ():
        set_kernel(router, f"net.netfilter.nf_conntrack_udp_timeout{flow}", seconds)


def forget(router):
    """Forgets all mappings, as after a restart."""
    with inside(router):
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    with made:
        made.settimeout(10)
        # struct nlmsghdr with NLM_F_REQUEST and NLM_F_ACK, struct nfgenmsg: of no protocol, hence of all.
        made.send(struct.pack("=IHHII", 20, _CONNTRACK_DELETE, 1 | 4, 1, 0) + bytes(4))
        error = struct.unpack_from("=i", made.recv(4096), 16)[0]
        assert error == 0, error
    # Not every kind has them.
    for place in (("map", "ip", "nat", "inside"), ("set", "ip", "filter", "seen")):
        run("ip", "netns", "exec", router, "nft", "flush", *place, check=False)


def set_kernel(namespace, key, value):
    """A setting of the kernel that each namespace has of its own."""
    run("ip", "netns", "exec", namespace, "sysctl", "-qw", f"{key}={value}")
