"""Two RTCPeerConnections in headless Chromium that may only use the relay: by UDP, TCP and TLS, checksummed."""

import json

import pytest

import harness
from certificates import issued_pair, trust_in_browser
from chromium import Chromium
from harness import wait_until
from namespaces import Namespaces
from totals import Totals

# By TCP less, for what a browser sends at once waits in one queue.
MEGABYTES = {"udp": 10, "tcp": 1, "tls": 10}

# Both ends live in one page; every byte between them still goes through the relay, twice.
PAGE = """
async function run(configuration, megabytes) {
  const a = new RTCPeerConnection(configuration), b = new RTCPeerConnection(configuration);
  const candidates = [], failures = [];
  let fail;
  const expired = new Promise((_, reject) => fail = () => reject(new Error(
    `no channel: ice ${a.iceConnectionState}/${b.iceConnectionState}, ${candidates.length} candidates, ` +
    failures.join("; "))));
  setTimeout(fail, 30000);
  const trickle = (from, to) => {
    from.onicecandidate = e => {
      if (!e.candidate || !e.candidate.candidate) return;
      candidates.push(e.candidate.candidate);
      to.addIceCandidate(e.candidate).catch(error => failures.push(String(error)));
    };
    from.onicecandidateerror = e => {
      failures.push(`${e.errorCode} ${e.errorText} ${e.url}`);
      if (e.errorCode === 401) fail();
    };
  };
  // Without a candidate no channel will ever open. By TCP this is all Chromium says of a refusal.
  const watch = connection => connection.onicegatheringstatechange = () => {
    if (connection.iceGatheringState === "complete" && candidates.length === 0) fail();
  };
  watch(a);
  watch(b);
  trickle(a, b);
  trickle(b, a);
  const channel = a.createDataChannel("bulk");
  const other = new Promise(resolve => b.ondatachannel = e => resolve(e.channel));
  const opened = new Promise(resolve => channel.onopen = resolve);
  await a.setLocalDescription();
  await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription();
  await a.setRemoteDescription(b.localDescription);
  await Promise.race([Promise.all([opened, other]), expired]);
  const remote = await other;
  const results = [];
  for (const [sender, receiver] of [[channel, remote], [remote, channel]]) {
    results.push(await transfer(sender, receiver, megabytes));
  }
  const pairs = [];
  for (const connection of [a, b]) {
    const report = await connection.getStats();
    const transport = [...report.values()].find(s => s.type === "transport");
    const pair = report.get(transport.selectedCandidatePairId);
    pairs.push([report.get(pair.localCandidateId).candidateType, report.get(pair.remoteCandidateId).candidateType]);
  }
  a.close();
  b.close();
  return {results, candidates, pairs};
}

async function transfer(sender, receiver, megabytes) {
  const chunk = 16384, total = megabytes * 1000000;
  const data = new Uint8Array(total);
  for (let at = 0; at < total; at += 65536) crypto.getRandomValues(data.subarray(at, Math.min(at + 65536, total)));
  const copy = new Uint8Array(total);
  let received = 0;
  receiver.binaryType = "arraybuffer";
  const done = new Promise(resolve => receiver.onmessage = e => {
    copy.set(new Uint8Array(e.data), received);
    received += e.data.byteLength;
    if (received >= total) resolve();
  });
  sender.bufferedAmountLowThreshold = 1 << 18;
  const start = performance.now();
  for (let at = 0; at < total; at += chunk) {
    if (sender.bufferedAmount > 1 << 20) await new Promise(resolve => sender.onbufferedamountlow = resolve);
    sender.send(data.subarray(at, Math.min(at + chunk, total)));
  }
  await done;
  const hex = async bytes => [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))]
    .map(b => b.toString(16).padStart(2, "0")).join("");
  return {received, sent: await hex(data), got: await hex(copy), seconds: (performance.now() - start) / 1000};
}
"""


@pytest.fixture
def served(serve, namespaces, tmp_path):
    """`served(family, transport)`: a server on another host than the browser, which trusts the certificate it has."""
    def start(family, transport):
        hosts = (Namespaces.SERVER[family], Namespaces.SERVER[1 - family])
        config = {"relay": {"allow_peers": ["10.0.0.0/8", "fd77::/16"]}}
        port = None
        if transport == "tls":
            port = harness.free_port()
            certificate, key, authority = issued_pair(tmp_path / "certificates", hosts)
            trust_in_browser(tmp_path / "browser", authority)
            config["listen"] = {"tls": [harness.endpoint(host, port) for host in hosts]}
            config["tls"] = {"certificate": str(certificate), "private_key": str(key)}
        server = serve(config, hosts=hosts, namespace=namespaces.server, relays_loopback=False)
        server.tls_port = port
        return server

    return start


def url_of(server, transport):
    if transport == "tls":
        return f"turns:{harness.endpoint(server.hosts[0], server.tls_port)}?transport=tcp"
    return f"turn:{harness.endpoint(*server.address)}?transport={transport}"


def run_in_browser(server, namespace, directory, transport="udp", password=harness.PASSWORD):
    # A file is a secure context, which crypto.subtle asks for.
    page = directory / "page.html"
    page.write_text(f"<!doctype html><title>relay</title><script>{PAGE}</script>")
    configuration = {
        "iceTransportPolicy": "relay",
        "iceServers": [{"urls": [url_of(server, transport)], "username": "alice", "credential": password}],
    }
    with Chromium(directory / "browser", namespace) as browser:
        browser.call("Page.navigate", url=page.as_uri())
        wait_until(lambda: browser.evaluate("document.readyState === 'complete' && typeof run === 'function'"), 20,
                   "the page is loaded")
        return browser.evaluate(f"run({json.dumps(configuration)}, {MEGABYTES[transport]})", timeout=120)


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("transport", MEGABYTES)
def test_chromium_moves_megabytes_each_way_through_the_relay(served, namespaces, tmp_path, family, transport):
    """The browser is on another host than the server, and both relayed ends are the server's own address.

    Chromium asks for no address family, so its relayed addresses are IPv4 ones over IPv6 as well (RFC 8656 section 6).
    """
    server = served(family, transport)
    outcome = run_in_browser(server, namespaces.world, tmp_path, transport)
    size = MEGABYTES[transport] * 1_000_000
    print(outcome["results"])
    for result in outcome["results"]:
        assert result["received"] == size
        assert result["sent"] == result["got"]
    assert all(" typ relay" in candidate for candidate in outcome["candidates"]), outcome["candidates"]
    assert outcome["pairs"] == [["relay", "relay"], ["relay", "relay"]]
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    # All of it twice, in packets of at most 1,200 bytes or so, each relayed out of one allocation and into the other.
    assert totals.outcomes["packets_relayed"] > 2 * 2 * size / 1300, totals.outcomes


@pytest.mark.parametrize("transport", MEGABYTES)
def test_chromium_with_a_wrong_password_gets_no_relay_candidate(served, namespaces, tmp_path, transport):
    server = served(0, transport)
    said = {"udp": "0 candidates, 401", "tcp": "0 candidates, ", "tls": "0 candidates, "}[transport]
    with pytest.raises(AssertionError, match=f"no channel: .* {said}"):
        run_in_browser(server, namespaces.world, tmp_path, transport, password="wrong")
    server.stop()
    totals = Totals(server)
    totals.assert_balanced()
    assert totals.authentication_failures >= 1
