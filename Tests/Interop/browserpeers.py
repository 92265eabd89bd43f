"""A tab and `turnpike-peer` on the networks that people have: behind one router, and behind one each.

The tab shows the page of docs/browser-peers.md as it stands there.
"""

import contextlib
import hashlib
import http.server
import re
import ssl
import subprocess
import threading

import harness
from certificates import issued_pair, trust_in_browser
from harness import wait_until
from namespaces import inside, run
from natlab import SERVER, NATLab
from peertool import BINARY
from signaling import USERS
from webpages import refuse

HOST = SERVER[0]
SIGNALING = f"wss://{HOST}:8443/signal"
HOME = f"https://{HOST}:9443/"
# More than anything takes, on a machine that does other things too.
PATIENCE_SECONDS = 60

PATHS = ("host", "reflexive", "relay")


def page():
    """The document's page."""
    text = (harness.REPOSITORY / "docs/browser-peers.md").read_text()
    return re.search(r"^```html\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]


def pieces(count, size):
    """Messages that differ, as `piece` in the page makes them."""
    base = bytes(range(256)) * (size // 256 + 2)
    return [base[number % 256:][:size] for number in range(count)]


def digest(messages):
    return hashlib.sha256(b"".join(messages)).hexdigest()


def is_path(path, program, pair, told="is (?:connected|reached)"):
    """Whether both sides have settled on such a path.

    An address that only the checks have shown is `prflx`, and a host's address that a tab keeps from its page is shown
    by nothing else. aiortc calls its own end behind a NAT by what is inside, `host`.

    - pair: what the foreign side sees, its own end first.
    - told: how the program begins to tell of a path.
    """
    seen = told_path(program, told)
    if not pair or not seen:
        return False
    method, near, far = seen
    if path == "relay":
        kept = (near, pair[1]) if "--require-relay" in program.arguments else (far, pair[0])
        return (method, *kept) == ("turn-relay", "relay", "relay")
    others = ("host", "prflx") if path == "host" else ("srflx", "prflx")
    return far in others and pair[1] in others and "relay" not in (near, pair[0])


def told_path(program, told):
    """The method, and the types of both ends, of the path that the program has told of last."""
    return next(reversed(re.findall(rf"\b{told} by (\S+), (\S+) to (\S+) ", program.said())), None)


def is_relayed(program, pair, told):
    """Whether both sides use a relay, whosever it is."""
    method, *ends = told_path(program, told) or (None,)
    return method == "turn-relay" and "relay" in ends and "relay" in (pair or ())


class Place:
    """A server, a site with the tab's machine and a neighbour of it, and a site elsewhere."""

    def __init__(self, serve, directory):
        self.lab = NATLab("port-restricted", "port-restricted")
        self._pages = None
        try:
            self._start(serve, directory)
        except BaseException:
            self.close()
            raise

    def _start(self, serve, directory):
        here, elsewhere = self.lab.sites
        self.here, self.elsewhere = here, elsewhere
        self.neighbour, self.neighbour_address = self.lab.neighbour(here)
        certificate, key, self.authority = issued_pair(directory / "certificates", [HOST])
        self.home = directory / "browser"
        trust_in_browser(self.home, self.authority)
        self.server = serve({
            "listen": {"https": [f"{HOST}:8443"], "tls": [f"{HOST}:5349"], "dtls": [f"{HOST}:5349"]},
            "tls": {"certificate": str(certificate), "private_key": str(key)},
            "external_address": HOST, "signaling": {"allowed_origins": [HOME.rstrip("/")]},
        }, users=USERS, port=3478, namespace=self.lab.server, hosts=(HOST,), relays_loopback=False)
        wait_until(lambda: (self.server.data / "admin.sock").exists(), PATIENCE_SECONDS, "the gateway")
        self._serve_page(certificate, key)

    def _serve_page(self, certificate, key):
        body = page().encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        with inside(self.lab.server):
            self._pages = http.server.ThreadingHTTPServer((HOST, 9443), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._pages.socket = context.wrap_socket(self._pages.socket, server_side=True)
        threading.Thread(target=self._pages.serve_forever, daemon=True).start()

    def environment(self, name="alice"):
        """All that a peer is told: its servers come by signaling."""
        return {"SIGNALING_SERVER": SIGNALING, "TURN_USERNAME": name, "TURN_PASSWORD": USERS[name],
                "TURNPIKE_CA_FILE": str(self.authority), "P2P_CONNECTION_TIMEOUT": "40000"}

    def machine(self, path):
        """The namespace of a `turnpike-peer` that is reached that way."""
        return self.elsewhere.client if path == "reflexive" else self.neighbour

    @contextlib.contextmanager
    def without_a_direct_path(self):
        """What the two sites send to each other's routers is lost there. What they send to the server is not."""
        rules = "\n ".join(f"ip {end} {self.here.outside} drop" for end in ("saddr", "daddr"))
        wall = f"table inet cut {{\n chain forward {{\n type filter hook forward priority 0;\n {rules}\n }}\n}}\n"
        enter = ("ip", "netns", "exec", self.elsewhere.router, "nft")
        run(*enter, "-f", "-", input=wall)
        try:
            yield
        finally:
            run(*enter, "delete", "table", "inet", "cut")

    @contextlib.contextmanager
    def without_relaying(self):
        """What comes to a relay goes no further. Allocations are made as ever."""
        refuse(self.lab.server, "udp sport 49152-65535 drop")
        try:
            yield
        finally:
            run("ip", "netns", "exec", self.lab.server, "nft", "delete", "table", "inet", "wall")

    def close(self):
        if self._pages:
            self._pages.shutdown()
            self._pages.server_close()
        self.lab.close()


class Program:
    """A `turnpike-peer` that runs in a namespace. Its standard input stays open."""

    def __init__(self, directory, place, namespace, *arguments):
        directory.mkdir(parents=True, exist_ok=True)
        self.arguments = arguments
        self.output, self.messages = directory / "output", directory / "messages"
        with open(self.output, "wb") as output, open(self.messages, "wb") as messages:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, str(BINARY), *arguments], stdout=output, stderr=messages,
                stdin=subprocess.PIPE, env=place.environment())

    def said(self):
        return self.messages.read_text()

    def wait_for(self, pattern, after=0):
        """The first match in what it has said behind the place `after`."""

        def found():
            text = self.said()
            match = re.compile(pattern).search(text, after)
            assert match or self.process.poll() is None, text
            return match

        return wait_until(found, PATIENCE_SECONDS, f"{pattern}: {self.said()}")

    def wait_for_output(self, count):
        def is_there():
            assert self.output.stat().st_size >= count or self.process.poll() is None, self.said()
            return self.output.stat().st_size >= count

        wait_until(is_there, PATIENCE_SECONDS, f"{count} bytes of output")
        return self.output.read_bytes()

    def ends(self):
        """Its exit status."""
        status = self.process.wait(PATIENCE_SECONDS)
        assert not any(mark in self.said() for mark in harness.CRASH_MARKS), self.said()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
