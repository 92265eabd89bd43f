"""Two browser tabs, of a page on another origin, meet by the signaling and talk through the relay alone."""

import http.server
import json
import ssl
import threading

import pytest

import harness
from chromium import Chromium
from namespaces import Namespaces, inside
from signaling import BOB_PASSWORD
from webpages import ADDRESS, BASE, PORT, serve_pages

HOME = f"https://{Namespaces.WORLD[0]}:9443"

# What an application does: log in, take the ICE servers, meet in a room, call who is there, send and check what comes
# back.
PAGE = """
async function meet(address, username, password, payload) {
  const socket = new WebSocket(address, "turnpike.v1");
  const say = message => socket.send(JSON.stringify(message));
  const candidates = [], pending = [];
  let connection, partner, isReady = false;
  let opened;
  const open = new Promise(resolve => opened = resolve);
  const prepare = iceServers => {
    connection = new RTCPeerConnection({iceServers, iceTransportPolicy: "relay"});
    connection.onicecandidate = ({candidate}) => {
      if (!candidate || !candidate.candidate) return;
      candidates.push(candidate.candidate);
      if (partner) say({type: "ice-candidate", from: username, to: partner, candidate});
    };
    connection.ondatachannel = ({channel}) => opened(channel);
  };
  const settle = async description => {
    await connection.setRemoteDescription(description);
    isReady = true;
    for (const candidate of pending.splice(0)) await connection.addIceCandidate(candidate);
  };
  const take = {
    welcome: ({iceServers}) => {
      prepare(iceServers);
      globalThis.iceServers = iceServers;
      say({type: "register", peerId: username});
      say({type: "join-room", peerId: username, roomId: "tabs"});
    },
    "room-joined": async ({peers}) => {
      globalThis.isThere = true;
      if (peers.length === 0) return;
      partner = peers[0].peerId;
      const channel = connection.createDataChannel("talk");
      channel.onopen = () => opened(channel);
      await connection.setLocalDescription();
      say({type: "offer", from: username, to: partner, offer: connection.localDescription});
    },
    offer: async ({from, offer}) => {
      partner = from;
      await settle(offer);
      await connection.setLocalDescription();
      say({type: "answer", from: username, to: partner, answer: connection.localDescription});
    },
    answer: ({answer}) => settle(answer),
    "ice-candidate": async ({candidate}) => {
      if (isReady) await connection.addIceCandidate(candidate); else pending.push(candidate);
    },
  };
  let fail;
  const failed = new Promise((_, reject) => fail = reject);
  setTimeout(() => fail(new Error(`no talk: ice ${connection?.iceConnectionState}, ${candidates.join("; ")}`)), 40000);
  // One after the other: a candidate must not overtake the description that it belongs to.
  let order = Promise.resolve();
  socket.onmessage = ({data}) => {
    const message = JSON.parse(data);
    if (message.type === "error") fail(new Error(message.error));
    order = order.then(() => take[message.type]?.(message)).catch(fail);
  };
  socket.onopen = () => say({type: "hello", username, password});
  socket.onclose = ({code}) => fail(new Error(`signaling closed with ${code}`));
  const channel = await Promise.race([open, failed]);
  const parts = [];
  const heard = new Promise(resolve => channel.onmessage = ({data}) => {
    if (data === "over") resolve(parts.join("")); else parts.push(data);
  });
  for (let at = 0; at < payload.length; at += 1000) channel.send(payload.slice(at, at + 1000));
  channel.send("over");
  const text = await Promise.race([heard, failed]);
  const report = await connection.getStats();
  const transport = [...report.values()].find(one => one.type === "transport");
  const pair = report.get(transport.selectedCandidatePairId);
  return {text, candidates, pair: [pair.localCandidateId, pair.remoteCandidateId]
    .map(id => report.get(id).candidateType)};
}
"""


@pytest.fixture
def home_page(tmp_path, namespaces):
    """An application's own web server, on the browser's host."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = f"<!doctype html><title>tabs</title><link rel=icon href=data:,><script>{PAGE}</script>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    servers = []

    def start():
        with inside(namespaces.world):
            server = http.server.ThreadingHTTPServer((Namespaces.WORLD[0], 9443), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "certificates/leaf.pem", tmp_path / "certificates/leaf-key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_two_tabs_find_each_other_and_talk_through_the_relay(serve, namespaces, tmp_path, home_page):
    server, home = serve_pages(serve, namespaces.server, tmp_path, {"signaling": {"allowed_origins": [HOME]}})
    home_page()
    address = f"wss://{ADDRESS}:{PORT}/signal"
    from_alice, from_bob = "a" * 50_000 + "!", "b" * 70_000 + "?"
    with Chromium(home, namespaces.world) as browser:
        alice, bob = browser.page, browser.tab()
        for tab in (alice, bob):
            tab.open(HOME + "/")
        bob.evaluate(f"""globalThis.outcome = meet("{address}", "bob", "{BOB_PASSWORD}", "{from_bob}"); 1""")
        harness.wait_until(lambda: bob.evaluate("globalThis.isThere"), 20, "bob is in the room")
        one = alice.evaluate(f"""meet("{address}", "alice", "{harness.PASSWORD}", "{from_alice}")""", timeout=90)
        two = bob.evaluate("globalThis.outcome", timeout=90)
        assert (one["text"], two["text"]) == (from_bob, from_alice)
        for outcome in (one, two):
            assert outcome["pair"] == ["relay", "relay"]
            assert all(" typ relay" in candidate for candidate in outcome["candidates"]), outcome
        urls = [url for entry in alice.evaluate("globalThis.iceServers") for url in entry["urls"]]
        assert [url.split(":")[0] for url in urls] == ["stun", "turn", "turn", "turns", "turns"], urls
        for tab in (alice, bob):
            assert not tab.complaints(), tab.complaints()


# A client that counts what it has heard, as docs/signaling.md has it. Once it is deaf, what comes is lost to it, like
# what is on its way when a network goes.
CUT = """
async function comeBack(address, passwords) {
  const connect = (hello, heard) => new Promise((resolve, reject) => {
    const socket = new WebSocket(address, "turnpike.v1");
    const client = {socket, count: 0, isDeaf: false, say: (message) => socket.send(JSON.stringify(message))};
    client.ended = new Promise((end) => socket.onclose = ({code}) => { reject(new Error(code)); end(code); });
    socket.onopen = () => client.say({type: "hello", ...hello});
    socket.onmessage = ({data}) => {
      const message = JSON.parse(data);
      if (client.isDeaf) return;
      if (message.type === "welcome") { client.welcome = message; client.count = 0; resolve(client); return; }
      client.count += 1;
      heard(message, client);
    };
  });
  const all = [];
  let enough, isOver;
  const deaf = new Promise((resolve) => enough = resolve), over = new Promise((resolve) => isOver = resolve);
  const inbox = [];
  const alice = await connect({username: "alice", password: passwords[0]}, (message) => inbox.push(message.type));
  const bob = await connect({username: "bob", password: passwords[1]}, (message, client) => {
    if (message.type === "signal" || message.type === "broadcast") all.push(message.signal ?? message.data);
    if (all.length === 10) { client.isDeaf = true; enough(); }
  });
  for (const [client, peerId] of [[alice, "alice"], [bob, "bob"]]) {
    client.say({type: "register", peerId, metadata: {page: true}});
    client.say({type: "join-room", peerId, roomId: "page"});
  }
  const at = (n) => n % 2 ? {type: "signal", to: "bob", signal: n} : {type: "broadcast", roomId: "page", data: n};
  while (!inbox.includes("peer-joined")) await new Promise((resolve) => setTimeout(resolve, 10));
  for (let n = 0; n < 40; n += 1) alice.say(at(n));
  await deaf;
  const again = await connect({resume: bob.welcome.resumeToken, received: bob.count}, (message) => {
    if (message.type === "signal" || message.type === "broadcast") all.push(message.signal ?? message.data);
    if (all.length >= 60) isOver();
  });
  for (let n = 40; n < 60; n += 1) alice.say(at(n));
  await over;
  const oldEnded = await bob.ended;
  // What comes twice would come now.
  await new Promise((resolve) => { again.socket.addEventListener("message", resolve); again.say({type: "ping"}); });
  const {resumed, peers} = again.welcome;
  return {all, oldEnded, resumed, peers, missed: again.welcome.missed, told: inbox};
}
"""


def test_a_page_broadcasts_and_comes_back_after_a_cut(serve, namespaces, tmp_path):
    _, home = serve_pages(serve, namespaces.server, tmp_path)
    with Chromium(home, namespaces.world) as browser:
        tab = browser.page
        tab.open(BASE + "/")
        passwords = json.dumps([harness.PASSWORD, BOB_PASSWORD])
        outcome = tab.evaluate(f"""{CUT}; comeBack("wss://{ADDRESS}:{PORT}/signal", {passwords})""", timeout=60)
        assert outcome["all"] == list(range(60)), "nothing is lost, nothing comes twice, and in order"
        assert outcome["resumed"] is True and outcome["missed"] == 0
        assert outcome["peers"] == [{"peerId": "bob", "rooms": ["page"]}]
        assert outcome["oldEnded"] == 1008
        assert "peer-left" not in outcome["told"] and "error" not in outcome["told"], "nobody saw him go"
        assert not tab.complaints(), tab.complaints()


def test_a_page_of_an_origin_that_is_not_allowed_gets_no_socket(serve, namespaces, tmp_path, home_page):
    server, home = serve_pages(serve, namespaces.server, tmp_path)
    home_page()
    with Chromium(home, namespaces.world) as browser:
        tab = browser.page
        tab.open(HOME + "/")
        outcome = f"""meet("wss://{ADDRESS}:{PORT}/signal", "alice", "{harness.PASSWORD}", "x")
            .then(() => "talked", (error) => error.message)"""
        assert tab.evaluate(outcome) == "signaling closed with 1006"
        # The server's own page may.
        tab.open(BASE + "/")
        assert tab.evaluate(f"""new Promise((resolve) => {{
            const socket = new WebSocket("wss://{ADDRESS}:{PORT}/signal");
            socket.onopen = () => resolve("open");
            socket.onclose = ({{code}}) => resolve(code);
        }})""") == "open"
