"""Data channels between a Chromium tab and `turnpike-peer`, whoever calls, over every kind of path."""

import contextlib
import hashlib
import json
import signal

import pytest

import harness
from browserpeers import (
    HOME, PATHS, PATIENCE_SECONDS, SIGNALING, Place, Program, digest, is_path, is_relayed, pieces,
)
from chromium import Chromium
from peertool import peer

# How a test handles the page: what comes on a channel is kept, and much is sent as the channel takes it.
HELPERS = """
const came = new Map(), opened = [];
let connect, connection, count = 0;
// What happens between the arrival of an offer and the page's hearing of it; what comes behind the offer waits as well.
let beforeOffer, held;
const Socket = WebSocket;
WebSocket = function (...given) {
  const socket = new Socket(...given);
  socket.addEventListener("message", async (event) => {
    if (!event.isTrusted || !beforeOffer || (!held && JSON.parse(event.data).type !== "offer")) return;
    event.stopImmediatePropagation();
    if (held) return held.push(event.data);
    held = [event.data];
    await beforeOffer();
    const due = held;
    held = beforeOffer = undefined;
    for (const data of due) socket.dispatchEvent(new MessageEvent("message", {data}));
  });
  return socket;
};
const callMeanwhile = async () => {
  connect("alice/desk");
  keep(connection.createDataChannel("chat"));
  // Chromium that takes its offer back before this gathers nothing for the answer.
  await new Promise((resolve) => connection.addEventListener("icecandidate", resolve));
};
const Connection = RTCPeerConnection;
RTCPeerConnection = function (...given) { return connection = new Connection(...given); };
const keep = (channel) => {
  const name = channel.label + (came.has(channel.label) ? ++count : "");
  const kept = {channel, messages: [], isClosed: false};
  channel.binaryType = "arraybuffer";
  channel.onmessage = ({data}) => kept.messages.push(data);
  channel.onclose = () => kept.isClosed = true;
  came.set(name, kept);
  return channel;
};
const enter = async (user) => {
  connect = await join(user, (channel, peer) => {
    show(channel, peer);
    if (channel.protocol === "") opened.push(keep(channel));
  });
};
const isOpen = (channel) => channel.readyState === "open"
  || new Promise((resolve, reject) => {
    channel.addEventListener("open", resolve);
    channel.addEventListener("close", () => reject(new Error("closed before it opened")));
  });
const piece = (number, size) => Uint8Array.from({length: size}, (_, index) => (number + index) & 255);
const room = (channel) => channel.bufferedAmount < 1 << 20
  || new Promise((resolve) => channel.addEventListener("bufferedamountlow", resolve, {once: true}));
const pour = async (channel, count, size) => {
  channel.bufferedAmountLowThreshold = 1 << 18;
  for (let number = 0; number < count; number += 1) {
    await room(channel);
    channel.send(piece(number, size));
  }
};
const sum = async (messages) => {
  const hash = await crypto.subtle.digest("SHA-256", await new Blob(messages).arrayBuffer());
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
};
const pair = async () => {
  const report = await connection.getStats();
  const transport = [...report.values()].find((one) => one.type === "transport");
  const pair = report.get(transport?.selectedCandidatePairId);
  return pair && [report.get(pair.localCandidateId).candidateType, report.get(pair.remoteCandidateId).candidateType];
};
"""

@pytest.fixture(scope="module")
def place(serve_module, tmp_path_factory):
    place = Place(serve_module, tmp_path_factory.mktemp("place"))
    yield place
    place.close()


@pytest.fixture(scope="module")
def browser(place):
    with Chromium(place.home, place.here.client) as browser:
        yield browser


@pytest.fixture
def tab(browser):
    tab = browser.page
    enter(tab)
    yield tab
    assert not tab.complaints(), tab.complaints()


def enter(tab, policy="all", own="alice/tab"):
    tab.open(HOME)
    user = {"server": SIGNALING, "username": "alice", "password": harness.PASSWORD, "id": own, "policy": policy}
    tab.evaluate(HELPERS)
    tab.evaluate(f"enter({json.dumps(user)})")


def wait_for(tab, expression):
    return harness.wait_until(lambda: tab.evaluate(expression), PATIENCE_SECONDS, expression)


@contextlib.contextmanager
def listening(directory, place, path):
    with Program(directory, place, place.machine(path), "listen", "--id", "alice/desk") as program:
        program.wait_for("registered as alice/desk")
        yield program
        program.process.send_signal(signal.SIGINT)
        assert program.ends() == 0, program.said()


def call(tab, peer="alice/desk", label="chat", options="{}"):
    """The tab calls, and its channel opens."""
    tab.evaluate(f"connect('{peer}'); keep(connection.createDataChannel('{label}', {options})); 1")
    tab.evaluate(f"isOpen(came.get('{label}').channel)")


def assert_path(tab, program, path, **options):
    harness.wait_until(lambda: is_path(path, program, tab.evaluate("pair()"), **options), PATIENCE_SECONDS,
                       f"{path}: {tab.evaluate('pair()')}, {program.said()}")


def texts(count):
    return [f"line {number}: \u00e4\u00f6\u00fc \u2713\n" for number in range(count)]


@pytest.mark.parametrize("path", PATHS)
def test_a_tab_calls(place, tab, tmp_path, path):
    if path == "relay":
        enter(tab, "relay")
    with listening(tmp_path, place, path) as listener:
        call(tab)
        # To the peer, binary and text, in order.
        sent = pieces(40, 65_536)
        lines = "".join(texts(1000)).encode()
        tab.evaluate(f"pour(came.get('chat').channel, {len(sent)}, 65536)")
        tab.evaluate(f"{json.dumps(texts(1000))}.forEach((line) => came.get('chat').channel.send(line))")
        # There and back.
        tab.evaluate("keep(connection.createDataChannel('echo', {protocol: 'turnpike.echo'})); 1")
        tab.evaluate("isOpen(came.get('echo').channel)")
        tab.evaluate("pour(came.get('echo').channel, 40, 50000)")
        tab.evaluate(f"{json.dumps(texts(100))}.forEach((line) => came.get('echo').channel.send(line))")
        wait_for(tab, "came.get('echo').messages.length === 140")
        assert tab.evaluate("sum(came.get('echo').messages)") == digest(
            [*pieces(40, 50_000), *(line.encode() for line in texts(100))])
        assert tab.evaluate("came.get('echo').messages.slice(40)") == texts(100)
        written = listener.wait_for_output(sum(map(len, sent)) + len(lines))
        assert hashlib.sha256(written).hexdigest() == digest([*sent, lines])
        assert_path(tab, listener, path)
        if path == "host":
            # The tab hides its host's addresses; it takes a while to announce their names.
            wait_for(tab, r"/^a=candidate:.* \S+\.local \d+ typ host/m.test(connection.localDescription.sdp)")
        before = len(listener.said())
        tab.evaluate("connection.close()")
        listener.wait_for("alice/tab is gone", before)


@pytest.mark.parametrize("path", PATHS)
def test_turnpike_peer_calls(place, tab, tmp_path, path):
    options = ["--require-relay"] if path == "relay" else []
    with Program(tmp_path, place, place.machine(path), "connect", "alice/tab", "--id", "alice/desk", "--explain",
                 *options) as program:
        wait_for(tab, "opened.length === 1")
        sent = bytes(range(256)) * 8192
        program.process.stdin.write(sent)
        program.process.stdin.flush()
        wait_for(tab, f"came.get('turnpike').messages.reduce((sum, one) => sum + one.byteLength, 0) === {len(sent)}")
        assert tab.evaluate("sum(came.get('turnpike').messages)") == digest([sent])
        tab.evaluate("pour(opened[0], 40, 65536)")
        assert hashlib.sha256(program.wait_for_output(40 * 65_536)).hexdigest() == digest(pieces(40, 65_536))
        assert_path(tab, program, path, told="(?:connected|now)")
        program.process.stdin.close()
        assert program.ends() == 0, program.said()
        wait_for(tab, "came.get('turnpike').isClosed")


def test_a_visitor_uses_the_page(place, browser, tmp_path):
    tab = browser.page
    with listening(tmp_path, place, "host") as listener:
        tab.open(HOME)
        fields = {"server": SIGNALING, "username": "alice", "password": harness.PASSWORD, "peer": "alice/desk"}
        for name, value in fields.items():
            tab.evaluate(f"document.forms.call.{name}.value = {json.dumps(value)}")
        tab.evaluate("document.forms.call.requestSubmit()")
        wait_for(tab, "document.querySelector('pre').innerText.includes('alice/desk is there')")
        tab.evaluate("document.forms.say.line.value = 'by hand'; document.forms.say.requestSubmit()")
        assert listener.wait_for_output(8) == b"by hand\n"
    wait_for(tab, "document.querySelector('pre').innerText.includes('alice/desk is gone')")
    assert not tab.complaints(), tab.complaints()


def test_a_tab_ends_a_call_of_turnpike_peer(place, tab, tmp_path):
    with Program(tmp_path, place, place.neighbour, "connect", "alice/tab", "--explain") as program:
        wait_for(tab, "opened.length === 1")
        tab.evaluate("opened[0].send('goodbye'); opened[0].close()")
        assert program.ends() == 0, program.said()
        assert program.output.read_bytes() == b"goodbye"


def test_a_tab_answers_a_ping(place, tab):
    done = peer("ping", "alice/tab", "-c", 1, environment=place.environment(), namespace=place.neighbour)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("1 message, 0 lost; "), done.stdout


def test_a_reloaded_tab_connects_anew(place, tab, tmp_path):
    with listening(tmp_path, place, "reflexive") as listener:
        call(tab)
        tab.evaluate("came.get('chat').channel.send('before\\n')")
        listener.wait_for_output(7)
        before = len(listener.said())
        enter(tab)
        listener.wait_for("alice/tab is gone", before)
        call(tab)
        tab.evaluate("came.get('chat').channel.send('after\\n')")
        assert listener.wait_for_output(13) == b"before\nafter\n"


def test_channels_of_every_kind_and_the_longest_message(place, tab, tmp_path):
    with listening(tmp_path, place, "host") as listener:
        # One that names a subprotocol is not taken for the connection's own, even if it is the first.
        call(tab, label="first", options="{protocol: 'turnpike.echo'}")
        tab.evaluate("came.get('first').channel.send('to and fro')")
        wait_for(tab, "came.get('first').messages[0] === 'to and fro'")
        tab.evaluate("isOpen(keep(connection.createDataChannel('chat')))")
        kinds = {"unordered": {"ordered": False}, "once": {"ordered": False, "maxRetransmits": 0},
                 "brief": {"maxPacketLifeTime": 500}, "another": {}}
        written = 0
        for label, kind in kinds.items():
            for protocol, name in (("", label), ("turnpike.echo", label + "-echo")):
                options = json.dumps(kind | {"protocol": protocol})
                tab.evaluate(f"isOpen(keep(connection.createDataChannel('{name}', {options})))")
            # What a channel may lose is not lost where the path loses nothing.
            tab.evaluate(f"came.get('{label}').channel.send('{label} ')")
            written += len(label) + 1
            listener.wait_for_output(written)
            tab.evaluate(f"pour(came.get('{label}-echo').channel, 10, 1000)")
            wait_for(tab, f"came.get('{label}-echo').messages.length === 10")
        assert listener.output.read_text() == "".join(label + " " for label in kinds)
        # As long as Chromium takes a message.
        longest = tab.evaluate("connection.sctp.maxMessageSize")
        assert longest == 262_144
        tab.evaluate(f"came.get('unordered-echo').messages.length = 0; "
                     f"pour(came.get('unordered-echo').channel, 4, {longest})")
        wait_for(tab, "came.get('unordered-echo').messages.length === 4")
        sizes = tab.evaluate("came.get('unordered-echo').messages.map((one) => one.byteLength)")
        assert sizes == [longest] * 4
        # More than anybody would keep unread, on a channel beside the first, holds up nothing.
        tab.evaluate("pour(came.get('unordered').channel, 40, 65536)")
        listener.wait_for_output(written + 40 * 65_536)
        # A channel that is closed is closed alone.
        tab.evaluate("came.get('chat').channel.close()")
        wait_for(tab, "came.get('chat').isClosed")
        tab.evaluate("came.get('once').channel.send('still')")
        assert listener.wait_for_output(written + 40 * 65_536 + 5).endswith(b"still")


def test_a_tab_restarts_ice(place, tab, tmp_path):
    with listening(tmp_path, place, "reflexive") as listener:
        call(tab)
        assert_path(tab, listener, "reflexive")
        fragment = "connection.{}Description.sdp.match(/ice-ufrag:(.*)/)[1]"
        old = [tab.evaluate(fragment.format(side)) for side in ("local", "remote")]
        tab.evaluate("connection.restartIce()")
        wait_for(tab, f"connection.signalingState === 'stable' && {fragment.format('remote')} !== '{old[1]}'")
        assert tab.evaluate(fragment.format("local")) != old[0]
        wait_for(tab, "['connected', 'completed'].includes(connection.iceConnectionState)")
        tab.evaluate("pour(came.get('chat').channel, 40, 65536)")
        assert hashlib.sha256(listener.wait_for_output(40 * 65_536)).hexdigest() == digest(pieces(40, 65_536))
        assert_path(tab, listener, "reflexive")
        assert "gone" not in listener.said() and listener.said().count(" is connected ") == 1


# More than is under way while somebody reacts.
MUCH = 400


@contextlib.contextmanager
def cut_amid(place, tab, program, told, arrived):
    """The direct path goes while data come, of which `arrived()` tells how much of `MUCH`; in the end both sides are on
    the relay."""
    assert_path(tab, program, "reflexive", told=told)
    yield
    harness.wait_until(lambda: arrived() >= MUCH / 20, PATIENCE_SECONDS, "the first data")
    with place.without_a_direct_path():
        assert arrived() < MUCH
        harness.wait_until(lambda: arrived() == MUCH, PATIENCE_SECONDS, f"the last data; {program.said()}")
        harness.wait_until(lambda: is_relayed(program, tab.evaluate("pair()"), told), PATIENCE_SECONDS,
                           f"the relay: {tab.evaluate('pair()')}, {program.said()}")


def test_a_call_of_a_tab_goes_on_by_the_relay_when_the_direct_path_is_cut(place, tab, tmp_path):
    with listening(tmp_path, place, "reflexive") as listener:
        call(tab, label="echo", options="{protocol: 'turnpike.echo'}")
        arrived = "came.get('echo').messages.length"
        with cut_amid(place, tab, listener, "is (?:connected|reached)", lambda: tab.evaluate(arrived)):
            tab.evaluate(f"pour(came.get('echo').channel, {MUCH}, 50000); 1")
        assert tab.evaluate("sum(came.get('echo').messages)") == digest(pieces(MUCH, 50_000))
        assert listener.said().count(" is connected ") == 1 and "gone" not in listener.said(), listener.said()


def test_a_call_of_turnpike_peer_goes_on_by_the_relay_when_the_direct_path_is_cut(place, tab, tmp_path):
    with Program(tmp_path, place, place.machine("reflexive"), "connect", "alice/tab", "--id", "alice/desk",
                 "--explain") as program:
        wait_for(tab, "opened.length === 1")
        sent = b"".join(pieces(MUCH, 50_000))
        received = "came.get('turnpike').messages.reduce((sum, one) => sum + one.byteLength, 0)"

        def arrived():
            return min(tab.evaluate(received), program.output.stat().st_size) / 50_000

        with cut_amid(place, tab, program, "(?:connected|now)", arrived):
            tab.evaluate(f"pour(opened[0], {MUCH}, 50000); 1")
            writing = harness.Background(lambda: program.process.stdin.write(sent) and program.process.stdin.flush())
        writing.result()
        assert tab.evaluate("sum(came.get('turnpike').messages)") == digest([sent])
        assert hashlib.sha256(program.output.read_bytes()).hexdigest() == digest([sent])
        assert program.said().count("connected by") == 1 and "disconnected" not in program.said(), program.said()
        program.process.stdin.close()
        assert program.ends() == 0, program.said()


@pytest.mark.parametrize("own", ["alice/a-tab", "alice/tab"])
def test_both_call_at_once(place, tab, tmp_path, own):
    """The lower id's offer counts, and there is one connection, whosoever it is."""
    enter(tab, own=own)
    tab.evaluate("beforeOffer = callMeanwhile; 1")
    with Program(tmp_path, place, place.neighbour, "connect", own, "--id", "alice/desk", "--explain") as program:
        wait_for(tab, "came.has('chat')")
        tab.evaluate("isOpen(came.get('chat').channel)", timeout=PATIENCE_SECONDS)
        tab.evaluate("came.get('chat').channel.send('from the tab')")
        assert program.wait_for_output(12) == b"from the tab"
        program.process.stdin.write(b"from the desk")
        program.process.stdin.flush()
        wait_for(tab, "[...came.values()].some(({messages: [one]}) => one?.byteLength === 13)")
        program.process.stdin.close()
        assert program.ends() == 0, program.said()
        assert program.said().count("connected by") == 1, program.said()
