// Tests this server from the visitor's browser: addresses by STUN, relays by TURN over each transport, signaling.

const gatheringMilliseconds = 10000;
const answeringMilliseconds = 5000;
const connectingMilliseconds = 10000;
const pings = 8;

const list = document.getElementById("checks");
const verdict = document.getElementById("verdict");
const marks = { waiting: "…", good: "✓", fair: "!", bad: "✕", none: "–" };

/** One line of the results. */
class Check {
    constructor(title) {
        this.item = document.createElement("li");
        this.mark = this.part("mark");
        this.part("title").textContent = title;
        this.figure = this.part("figure");
        this.words = this.part("words");
        this.state = "waiting";
        this.show("waiting", "", "");
        list.append(this.item);
    }

    part(name) {
        const span = document.createElement("span");
        span.className = name;
        this.item.append(span);
        return span;
    }

    show(state, figure, words) {
        this.state = state;
        this.item.className = state;
        this.mark.textContent = marks[state];
        this.figure.textContent = figure;
        this.words.textContent = words;
    }
}

function conclude(state, words) {
    verdict.className = `card verdict ${state}`;
    verdict.textContent = words;
}

const milliseconds = (value) => value < 1 ? "under 1\u00a0ms" : `${Math.round(value)}\u00a0ms`;
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

// MARK: Gathering

/** Candidates and errors of one gathering. */
async function gather(configuration, isEnough) {
    const connection = new RTCPeerConnection(configuration);
    const result = { candidates: [], errors: [], milliseconds: null, lasted: 0 };
    const began = performance.now();
    try {
        connection.createDataChannel("test");
        await new Promise((resolve, reject) => {
            const limit = setTimeout(resolve, gatheringMilliseconds);
            const finish = () => { clearTimeout(limit); resolve(); };
            connection.onicecandidate = ({ candidate }) => {
                if (!candidate || !candidate.candidate) { finish(); return; }
                result.candidates.push(candidate);
                if (result.milliseconds === null && isEnough(candidate)) {
                    result.milliseconds = performance.now() - began;
                    finish();
                }
            };
            connection.onicecandidateerror = (event) => result.errors.push(event);
            connection.createOffer().then((offer) => connection.setLocalDescription(offer)).catch(reject);
        });
    } finally {
        connection.close();
    }
    result.lasted = performance.now() - began;
    return result;
}

async function testBrowser() {
    const check = new Check("This browser");
    if (!("RTCPeerConnection" in window)) {
        check.show("bad", "", "It has no WebRTC, or WebRTC is switched off: nothing on this page can work. Try Chromium or Firefox.");
        return false;
    }
    const { candidates } = await gather({}, () => false);
    const hosts = candidates.filter((candidate) => candidate.type === "host");
    if (hosts.length === 0) {
        check.show("fair", "", "It shows no address of its own. An extension or a policy keeps WebRTC on the relay; the relay can still work.");
    } else {
        check.show("good", `${hosts.length} found`, "WebRTC works, and offers addresses of its own for peers in the same network.");
    }
    return true;
}

async function testReflexive(urls) {
    const check = new Check("Your address, seen from outside (STUN)");
    if (urls.length === 0) {
        check.show("none", "", "This server names no STUN address.");
        return;
    }
    const result = await gather({ iceServers: [{ urls }] }, (candidate) => candidate.type === "srflx");
    const found = result.candidates.find((candidate) => candidate.type === "srflx");
    if (found) {
        check.show("good", milliseconds(result.milliseconds),
            `The server sees you as ${found.address}, port ${found.port}. Peers can be told to reach you there.`);
        return;
    }
    // An answer ends the gathering at once, and without one it goes on for ten seconds, not always with an error at their end.
    const isDirect = result.errors.length === 0 && result.lasted < answeringMilliseconds
        && result.candidates.some((candidate) => candidate.type === "host");
    if (isDirect) {
        check.show("fair", "", "The server answered nothing new: either you have no NAT between you and it, or this browser hides the answer.");
    } else {
        check.show("bad", "", `No answer came by UDP from ${place(urls[0])}. A firewall on your side, on the way, or at the server keeps UDP out; `
            + "direct connections will not work from here, but a relay over TCP or TLS still may.");
    }
}

// MARK: Relays

const place = (url) => url.replace(/^[a-z]+:/, "").replace(/\?.*$/, "");

function transport(url) {
    const isUDP = !/[?&]transport=tcp/.test(url);
    if (url.startsWith("turns:")) return isUDP ? "DTLS" : "TLS";
    return isUDP ? "UDP" : "TCP";
}

/** Connects two ends of this page over relays alone and measures the way there and back, twice through the server. */
async function loop(iceServers) {
    const configuration = { iceServers, iceTransportPolicy: "relay" };
    const ends = [new RTCPeerConnection(configuration), new RTCPeerConnection(configuration)];
    try {
        return await new Promise((resolve, reject) => {
            const limit = setTimeout(() => reject(new Error("time")), connectingMilliseconds);
            const times = [];
            let sent = 0;
            const channel = ends[0].createDataChannel("test");
            const send = () => { sent = performance.now(); channel.send("ping"); };
            channel.onopen = send;
            channel.onmessage = () => {
                times.push(performance.now() - sent);
                if (times.length < pings) send(); else { clearTimeout(limit); resolve(median(times)); }
            };
            ends[1].ondatachannel = ({ channel: other }) => { other.onmessage = ({ data }) => other.send(data); };
            ends.forEach((end, index) => {
                end.onicecandidate = ({ candidate }) => { if (candidate) ends[1 - index].addIceCandidate(candidate).catch(() => {}); };
            });
            (async () => {
                await ends[0].setLocalDescription(await ends[0].createOffer());
                await ends[1].setRemoteDescription(ends[0].localDescription);
                await ends[1].setLocalDescription(await ends[1].createAnswer());
                await ends[0].setRemoteDescription(ends[1].localDescription);
            })().catch(reject);
        });
    } finally {
        ends.forEach((end) => end.close());
    }
}

/** Why no relay came, in words that end with what to do. */
function reason(kind, url, errors) {
    const refused = errors.find((event) => event.errorCode >= 300 && event.errorCode < 700);
    switch (refused?.errorCode) {
    case undefined: break;
    case 401: case 403: case 441:
        return "The server was reached and refused the credentials. Log in again; if it stays so, the clock of the server may be wrong.";
    case 437: return "The server still holds the last test's relay for this port. Run the test again.";
    case 440: return "The server has no relay address of the family that was asked for. The operator sets relay.addresses.";
    case 486: return "This user has all the relays it may have at once. Close other sessions, or have limits.allocations_per_user raised.";
    case 508: return "The server has no relay left to give, or is about to stop. The operator looks at turnpike status.";
    default: return `The server refused: ${refused.errorCode} ${refused.errorText}.`;
    }
    switch (kind) {
    case "UDP":
        return `No answer by UDP from ${place(url)}. A firewall keeps UDP away: open it at the server, or use the relay over TCP or TLS.`;
    case "TCP":
        return `No connection by TCP to ${place(url)}. The port is closed on the way or at the server's firewall.`;
    default:
        return `No TLS connection to ${place(url)}. Either the port is closed on the way, or this browser does not trust the server's certificate: `
            + "for turns: it has to be one that browsers trust by themselves; an exception made for this page does not count. "
            + "The operator sets tls.certificate and tls.private_key.";
    }
}

async function testRelay(server, url) {
    const kind = transport(url);
    const check = new Check(`Relay over ${kind}`);
    if (kind === "DTLS") {
        check.show("none", "", "The server offers it to other clients. Browsers do not speak it.");
        return check;
    }
    const iceServers = [{ ...server, urls: [url] }];
    try {
        const result = await gather({ iceServers, iceTransportPolicy: "relay" }, (candidate) => candidate.type === "relay");
        const found = result.candidates.find((candidate) => candidate.type === "relay");
        if (!found) {
            check.show("bad", "", reason(kind, url, result.errors));
            return check;
        }
        check.words.textContent = `A relay at ${found.address}, port ${found.port}, came after ${milliseconds(result.milliseconds)}. Sending data through it …`;
        try {
            const time = await loop(iceServers);
            check.show("good", milliseconds(time),
                `A relay at ${found.address} came after ${milliseconds(result.milliseconds)}; `
                + `data went to the server, from relay to relay, and back in ${milliseconds(time)}.`);
        } catch {
            check.show("fair", "", `A relay at ${found.address} came after ${milliseconds(result.milliseconds)}, but no data passed from relay to relay. `
                + "Behind 1:1 NAT the operator sets external_address; a firewall at the server has to let the relay ports in.");
        }
    } catch (error) {
        check.show("bad", "", `This browser refused the address ${url}: ${error.message}.`);
    }
    return check;
}

// MARK: Signaling

function testSignaling(username, password) {
    const check = new Check("Signaling (WebSocket)");
    return new Promise((resolve) => {
        const began = performance.now();
        const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/signal`;
        const socket = new WebSocket(address, "turnpike.v1");
        let sent = 0;
        let welcomed = 0;
        const times = [];
        const end = (state, figure, words) => {
            clearTimeout(limit);
            check.show(state, figure, words);
            socket.close();
            resolve(check);
        };
        const limit = setTimeout(() => end("bad", "", "The connection opened too slowly or not at all. A proxy on the way may not let WebSockets through."), connectingMilliseconds);
        const ping = () => { sent = performance.now(); socket.send(JSON.stringify({ type: "ping" })); };
        socket.onopen = () => socket.send(JSON.stringify({ type: "hello", username, password }));
        socket.onmessage = ({ data }) => {
            const message = JSON.parse(data);
            if (message.type === "welcome") {
                welcomed = performance.now() - began;
                ping();
            } else if (message.type === "pong") {
                times.push(performance.now() - sent);
                if (times.length < pings) ping();
                else end("good", milliseconds(median(times)), `Logged in after ${milliseconds(welcomed)}; an answer takes ${milliseconds(median(times))}.`);
            } else if (message.type === "error") {
                end("bad", "", `The server refused: ${message.error}.`);
            }
        };
        socket.onclose = async ({ code }) => {
            if (check.state !== "waiting") return;
            // A browser does not tell why a WebSocket did not open; a plain request does.
            const answer = code === 1006 ? await ask("/signal").catch(() => undefined) : undefined;
            if (answer?.status === 404) end("none", "", "Signaling is switched off on this server.");
            else end("bad", "", code === 1006
                ? "The connection was refused or cut. A proxy on the way may not let WebSockets through."
                : `The server closed the connection with code ${code}.`);
        };
    });
}

// MARK: The whole

/** A request without the browser's own login window. */
async function ask(path, authorization) {
    return fetch(path, { credentials: "omit", cache: "no-store", headers: authorization ? { Authorization: authorization } : {} });
}

function basic(username, password) {
    const bytes = new TextEncoder().encode(`${username}:${password}`);
    return `Basic ${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))}`;
}

async function stunServers() {
    try {
        const answer = await ask("/api/v1/stun-servers");
        return answer.ok ? (await answer.json()).urls : [];
    } catch {
        return [];
    }
}

async function testOpen() {
    list.replaceChildren();
    if (!await testBrowser()) {
        conclude("bad", "This browser cannot connect to peers.");
        return false;
    }
    await testReflexive(await stunServers());
    return true;
}

function summarise(relays) {
    const works = relays.filter((check) => check.kind && check.state === "good").map((check) => check.kind);
    const fails = relays.filter((check) => check.kind && check.state !== "good" && check.state !== "none").map((check) => check.kind);
    if (works.length === 0) {
        conclude("bad", "No relay works from here. Where a direct connection is impossible, there will be none.");
    } else if (fails.length === 0) {
        conclude("good", "Everything works from here: whatever the other side's network is like, the relay will connect you.");
    } else {
        conclude("fair", `The relay works over ${works.join(" and ")}, and not over ${fails.join(" and ")}. You will be connected; below is what is missing.`);
    }
}

async function testAll(username, password) {
    const button = document.getElementById("run");
    const problem = document.getElementById("login-error");
    button.disabled = true;
    problem.hidden = true;
    try {
        const answer = await ask("/api/v1/ice-servers?ttl=300", basic(username, password));
        if (!answer.ok) {
            const details = await answer.json().catch(() => ({}));
            problem.textContent = details.detail ? sentence(details.detail) : `The server answered ${answer.status}.`;
            problem.hidden = false;
            return;
        }
        const { iceServers } = await answer.json();
        conclude("", "Testing …");
        if (!await testOpen()) return;
        const relays = [];
        for (const server of iceServers.filter((server) => server.credential)) {
            for (const url of [server.urls].flat()) {
                const check = await testRelay(server, url);
                check.kind = transport(url);
                relays.push(check);
            }
        }
        await testSignaling(username, password);
        summarise(relays);
    } catch (error) {
        problem.textContent = `The server could not be asked: ${error.message}.`;
        problem.hidden = false;
    } finally {
        button.disabled = false;
        document.body.dataset.done = "all";
    }
}

document.getElementById("login").addEventListener("submit", (event) => {
    event.preventDefault();
    testAll(document.getElementById("user").value, document.getElementById("password").value);
});

testOpen().then((works) => {
    if (works) conclude("", "Log in below to test the relay, which is what connects you where nothing else does.");
    document.body.dataset.done ??= "open";
});
