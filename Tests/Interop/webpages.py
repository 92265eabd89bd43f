"""A server with its web pages on another host than the browser, which trusts its certificate, and what tests ask of a
page."""

import json
import socket
import subprocess
import time

import harness
from certificates import issued_pair, trust_in_browser
from harness import wait_until
from namespaces import Namespaces, inside
from signaling import USERS

ADDRESS = Namespaces.SERVER[0]
PORT = 8443
BASE = f"https://{ADDRESS}:{PORT}"

PICTURES = harness.REPOSITORY / ".build-tests/pictures"


def serve_pages(serve, namespace, directory, config=None):
    """The server, and a home directory for a browser."""
    certificate, key, authority = issued_pair(directory / "certificates", [ADDRESS, Namespaces.WORLD[0]])
    home = directory / "browser"
    trust_in_browser(home, authority)
    server = serve(harness.merged({
        "listen": {"https": [f"{ADDRESS}:{PORT}"], "tls": [f"{ADDRESS}:5349"], "dtls": [f"{ADDRESS}:5349"]},
        "tls": {"certificate": str(certificate), "private_key": str(key)},
        "relay": {"allow_peers": ["10.0.0.0/8"]},
    }, config or {}), start=False, users=USERS, hosts=(ADDRESS,), namespace=namespace, relays_loopback=False)
    server.start()
    wait_until(lambda: is_open(namespace), 20, f"a listener at {ADDRESS}:{PORT}")
    return server, home


def is_open(namespace):
    with inside(namespace), socket.socket() as probe:
        return probe.connect_ex((ADDRESS, PORT)) == 0


def refuse(namespace, rule):
    """A firewall on the browser's host, which goes with the namespace."""
    text = f"table inet wall {{\n chain out {{\n type filter hook output priority 0;\n {rule}\n }}\n}}\n"
    subprocess.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=text, text=True, check=True,
                   capture_output=True, timeout=30)


def text_of(tab, selector):
    return tab.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")


def wait_for(tab, expression, timeout, what):
    return wait_until(lambda: _later(tab, expression), timeout, what)


def _later(tab, expression):
    value = tab.evaluate(f"Boolean({expression})")
    if not value:
        time.sleep(0.1)
    return value


def assert_clean(tab, forgiven=()):
    """Nothing on the console, nothing that the policy forbade, and no request to anybody else."""
    complaints = [text for text in tab.complaints() if not any(one in text for one in forgiven)]
    assert not complaints, complaints
    elsewhere = [url for url in tab.requested() if not url.startswith((BASE + "/", f"wss://{ADDRESS}:{PORT}/"))]
    assert not elsewhere, elsewhere


def pictures(tab, name, before=None):
    """The page in both colour schemes, on a desk and on a phone. None of them may be wider than its window."""
    for scheme in ("light", "dark"):
        for device, width in (("desk", 1200), ("phone", 390)):
            tab.look(scheme, width)
            if before:
                before()
            paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, paper[4:-1].split(","))) < 384) == (scheme == "dark"), (scheme, paper)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, (name, device)
            tab.picture(PICTURES / f"{name}-{scheme}-{device}.png")
    tab.look()
