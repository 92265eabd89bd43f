// The dashboard: asks the admin API every two seconds, keeps ten minutes, and acts.

import { Leaders, Plot } from "/assets/plot.js";

const intervalMilliseconds = 2000;
const windowSeconds = 600;
const tableRows = 200;

const element = (id) => document.getElementById(id);
const history = [];
let token = sessionStorage.getItem("turnpike-admin-token");
let timer;

// MARK: Words

function scaled(value, units, step) {
    let unit = 0;
    while (value >= step && unit < units.length - 1) { value /= step; unit += 1; }
    const digits = value >= 100 || value === Math.round(value) ? 0 : 1;
    // A figure and its unit stay on one line.
    return `${value.toFixed(digits)}\u00a0${units[unit]}`;
}

const bitRate = (value) => scaled(value, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"], 1000);
const bytes = (value) => scaled(value, ["B", "kB", "MB", "GB", "TB"], 1000);
const count = (value) => value >= 10 || value === Math.round(value) ? Math.round(value).toLocaleString("en") : value.toFixed(1);
const perSecond = (value) => `${count(value)}/s`;
const percent = (value) => `${Math.round(value * 100)} %`;

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

/** `helloTimeout`, or `peer_not_permitted`, as a person reads it. */
const words = (name) => name.replaceAll("_", " ").replace(/[A-Z]+/g, (letters) => ` ${letters.length > 1 ? letters : letters.toLowerCase()}`);

/** What answers refuse with: RFC 8489, 8656, 6062 and 8016. */
const errorNames = {
    300: "Try Alternate", 400: "Bad Request", 401: "Unauthenticated", 403: "Forbidden", 405: "Mobility Forbidden",
    420: "Unknown Attribute", 437: "Allocation Mismatch", 438: "Stale Nonce", 440: "Address Family not Supported",
    441: "Wrong Credentials", 442: "Unsupported Transport", 443: "Peer Address Family Mismatch",
    446: "Connection Already Exists", 447: "Connection Timeout", 486: "Allocation Quota Reached", 500: "Server Error",
    508: "Insufficient Capacity",
};
const errorName = (code) => `${code} ${errorNames[code] ?? ""}`.trim();

function duration(seconds) {
    if (seconds < 120) return `${seconds}\u00a0s`;
    if (seconds < 7200) return `${Math.floor(seconds / 60)}\u00a0min`;
    if (seconds < 172800) return `${Math.floor(seconds / 3600)}\u00a0h`;
    return `${Math.floor(seconds / 86400)}\u00a0days`;
}

// MARK: The API

class Refusal extends Error {
    constructor(status, detail) {
        super(detail);
        this.status = status;
    }
}

async function ask(path, method = "GET") {
    const answer = await fetch(`/api/v1/${path}`, {
        method,
        credentials: "omit",
        cache: "no-store",
        headers: { Authorization: `Bearer ${token}` },
    });
    if (!answer.ok) {
        const problem = await answer.json().catch(() => ({}));
        throw new Refusal(answer.status, problem.detail ?? problem.messages?.join("; ") ?? problem.title ?? `the server answered ${answer.status}`);
    }
    const text = await answer.text();
    return text ? JSON.parse(text) : undefined;
}

function complain(error) {
    element("problem").textContent = error instanceof Refusal ? sentence(error.message) : `The server cannot be reached: ${error.message}.`;
    element("problem").hidden = false;
}

// MARK: Figures

const tiles = new Map();

function tile(name, figure) {
    if (!tiles.has(name)) {
        const box = document.createElement("div");
        box.className = "tile";
        const value = document.createElement("div");
        value.className = "figure";
        const caption = document.createElement("div");
        caption.className = "name";
        caption.textContent = name;
        box.append(value, caption);
        element("tiles").append(box);
        tiles.set(name, value);
    }
    tiles.get(name).textContent = figure;
}

const plots = {
    throughput: new Plot(element("plots"), "Relayed", ["to peers", "to clients"], bitRate, 1000),
    packets: new Plot(element("plots"), "Packets", ["relayed", "dropped"], perSecond, 10),
    allocations: new Plot(element("plots"), "Relays and signaling connections", ["relays", "connections"], count, 10),
    refusals: new Plot(element("plots"), "Refusals", ["failed logins", "messages", "connections"], perSecond, 1),
    errors: new Plot(element("plots"), "TURN errors answered, by code", [], perSecond, 1),
    logins: new Plot(element("plots"), "Failed TURN logins, by reason", [], perSecond, 1),
    messages: new Plot(element("plots"), "Signaling messages", ["in", "out"], perSecond, 1),
    busy: new Plot(element("plots"), "Workers busy", ["of one core each"], percent, 1),
};

const leaders = { errors: new Leaders(), logins: new Leaders() };

/** Differences of two answers by the second. A server that was started again counts from nothing. */
function rates(now, before) {
    const seconds = (now.time - before.time) / 1000;
    const rate = (read) => Math.max(0, (read(now) - read(before)) / seconds);
    const each = (read) => Object.fromEntries(Object.keys(read(now)).map((name) => [name, rate((one) => read(one)[name] ?? 0)]));
    return {
        time: now.time,
        toPeers: rate(({ relay }) => relay.bytesToPeers) * 8,
        toClients: rate(({ relay }) => relay.bytesToClients) * 8,
        relayed: rate(({ relay }) => relay.packetsToPeers + relay.packetsToClients),
        dropped: rate(({ relay }) => relay.packetsDropped),
        allocations: now.relay.allocations,
        connections: now.signaling.connections,
        failures: rate(({ relay }) => relay.authenticationFailures),
        refused: rate(({ gateway }) => gateway.connectionsRefused),
        errors: each(({ relay }) => relay.errors),
        logins: each(({ relay }) => relay.loginFailures),
        rejected: rate(({ signaling }) => Object.values(signaling.rejections).reduce((sum, one) => sum + one, 0)),
        messagesIn: rate(({ signaling }) => signaling.messagesReceived),
        messagesOut: rate(({ signaling }) => signaling.messagesSent),
        busy: rate(({ relay }) => relay.busyNanoseconds) / 1e9 / now.relay.workers,
    };
}

let last;

function showStatus(status) {
    status.time = Date.now();
    if (last && last.uptimeSeconds <= status.uptimeSeconds) history.push(rates(status, last));
    if (last && last.uptimeSeconds > status.uptimeSeconds) history.length = 0;
    last = status;
    while (history.length && history[0].time < status.time - windowSeconds * 1000) history.shift();
    const now = history.at(-1);
    const { relay, signaling } = status;
    element("summary").textContent = `${relay.isDraining ? "Draining" : "Serving"} realm ${relay.realm}, `
        + `version ${relay.version}, up ${duration(status.uptimeSeconds)}, ${relay.workers} workers`;
    element("drain").disabled = relay.isDraining;
    tile("relays", count(relay.allocations));
    tile("relayed now", now ? bitRate(now.toPeers + now.toClients) : "–");
    tile("relayed since the start", bytes(relay.bytesToPeers + relay.bytesToClients));
    tile("signaling connections", count(signaling.connections));
    tile("peers", count(signaling.peers));
    tile("rooms", count(signaling.rooms));
    const span = Math.min(windowSeconds, Math.max(60, Math.ceil((history.length * intervalMilliseconds) / 60000) * 60));
    const series = (...names) => history.map((point) => ({ time: point.time, values: names.map((name) => point[name]) }));
    plots.throughput.show(series("toPeers", "toClients"), span);
    plots.packets.show(series("relayed", "dropped"), span);
    plots.allocations.show(series("allocations", "connections"), span);
    plots.refusals.show(series("failures", "rejected", "refused"), span);
    for (const [kind, name] of [["errors", errorName], ["logins", words]]) {
        const { names, values } = leaders[kind].choose(history.map((point) => point[kind]));
        plots[kind].show(history.map((point) => ({ time: point.time, values: values(point[kind]) })), span,
            names.map((one) => one === "others" ? one : one && name(one)));
    }
    plots.messages.show(series("messagesIn", "messagesOut"), span);
    plots.busy.show(series("busy"), span);
    const rows = [
        ...Object.entries(relay.drops).map(([reason, times]) => ["packet", words(reason), times]),
        ...Object.entries(relay.errors).map(([code, times]) => ["answer", errorName(code), times]),
        ...Object.entries(relay.loginFailures).map(([reason, times]) => ["login", words(reason), times]),
        ...Object.entries(signaling.rejections).map(([reason, times]) => ["message", words(reason), times]),
    ].sort((a, b) => b[2] - a[2]);
    fill("drops", [["What"], ["Reason"], ["How often", "number"]],
        rows.map(([what, reason, times]) => [what, reason, count(times)]), "Nothing yet.");
}

// MARK: Tables

/** @param columns [[name, class?]]; a cell is text or an element */
function fill(id, columns, rows, nothing) {
    const table = element(id);
    if (table.contains(document.activeElement)) return;
    table.replaceChildren();
    if (rows.length === 0) {
        const caption = document.createElement("caption");
        caption.className = "quiet";
        caption.textContent = nothing;
        table.append(caption);
        return;
    }
    const head = table.createTHead().insertRow();
    for (const [name, kind] of columns) {
        const cell = document.createElement("th");
        cell.scope = "col";
        cell.textContent = name;
        if (kind) cell.className = kind;
        head.append(cell);
    }
    const body = table.createTBody();
    for (const row of rows.slice(0, tableRows)) {
        const line = body.insertRow();
        row.forEach((content, index) => {
            const cell = line.insertCell();
            if (columns[index][1]) cell.className = columns[index][1];
            cell.append(content);
        });
    }
    if (rows.length > tableRows) {
        const cell = table.createTFoot().insertRow().insertCell();
        cell.colSpan = columns.length;
        cell.className = "quiet";
        cell.textContent = `and ${count(rows.length - tableRows)} more: turnpike session list shows all`;
    }
}

function button(name, question, act) {
    const made = document.createElement("button");
    made.className = question ? "danger small" : "plain small";
    made.textContent = name;
    made.addEventListener("click", async () => {
        if (question && !await confirm(question, name)) return;
        made.blur();
        perform(act);
    });
    return made;
}

async function perform(act) {
    try {
        await act();
        await refresh();
    } catch (error) {
        complain(error);
    }
}

function confirm(question, action) {
    const dialog = element("question");
    element("question-text").textContent = question;
    element("question-yes").textContent = action;
    dialog.showModal();
    // The answer is taken from the button: browsers tell of the closing when they next draw, which may be much later.
    return new Promise((resolve) => {
        dialog.querySelector("form").onsubmit = ({ submitter }) => resolve(submitter?.value === "yes");
        dialog.onclose = () => { if (!dialog.open) resolve(false); };
    });
}

function showSessions({ allocations, signaling }) {
    fill("allocations",
        [["User"], ["Client"], ["By"], ["Relayed address"], ["To peers", "number"], ["To client", "number"], ["Age", "number"], ["", "number"]],
        allocations.map((one) => [
            one.user, one.client, one.transport.toUpperCase(), one.relayed.join(", "), bytes(one.bytesToPeers), bytes(one.bytesToClient),
            duration(one.ageSeconds),
            button("End", `End the relay of ${one.user} from ${one.client}? The client may ask for another.`,
                () => ask(`admin/sessions/${encodeURIComponent(one.id)}`, "DELETE")),
        ]), "No relay is in use.");
    fill("sessions",
        [["User"], ["Client"], ["Peers"], ["Rooms", "number"], ["Age", "number"], ["", "number"]],
        signaling.map((one) => [
            one.user, one.client ?? "away, may come back", one.peers.join(", ") || "–", count(one.rooms.length), duration(one.ageSeconds),
            button("Kick", `Close the connection of ${one.user}? The client may connect again.`,
                () => ask(`admin/sessions/${encodeURIComponent(one.id)}`, "DELETE")),
        ]), "Nobody is connected.");
}

function showUsers({ users }) {
    fill("users",
        [["Name"], ["State"], ["Ends"], ["Relays at once", "number"], ["Bit rate", "number"], ["A month", "number"], ["", "number"]],
        users.map((user) => [
            user.name, user.state, user.expiresAt ?? "never", user.maxAllocations ?? "default",
            user.maxBps ? bitRate(user.maxBps) : "default", user.monthlyBytes ? bytes(user.monthlyBytes) : "no limit",
            user.state === "disabled"
                ? button("Enable", undefined, () => ask(`admin/users/${encodeURIComponent(user.name)}/enable`, "POST"))
                : button("Disable", `Disable ${user.name}? Relays and connections of this user end at once.`,
                    () => ask(`admin/users/${encodeURIComponent(user.name)}/disable`, "POST")),
        ]), "There are no users: turnpike user add NAME makes one.");
}

function showRooms({ rooms }) {
    fill("rooms", [["Room"], ["Peers", "number"], ["Who"]],
        rooms.map((room) => [room.roomId, count(room.peerCount), room.peers.join(", ")]), "There are no rooms.");
}

// MARK: Coming and going

async function refresh() {
    const [status, sessions, users, rooms] = await Promise.all([
        ask("admin/status"), ask(`admin/sessions?limit=${tableRows + 1}`), ask(`admin/users?limit=${tableRows + 1}`), ask("rooms"),
    ]);
    showStatus(status);
    showSessions(sessions);
    showUsers(users);
    showRooms(rooms);
    element("problem").hidden = true;
}

async function poll() {
    try {
        await refresh();
    } catch (error) {
        if (error.status === 401 || error.status === 403) {
            leave();
            complain(error);
            return;
        }
        complain(error);
    }
    timer = setTimeout(poll, intervalMilliseconds);
}

function show(isIn) {
    element("entrance").hidden = isIn;
    element("board").hidden = !isIn;
    element("actions").hidden = !isIn;
}

function leave() {
    clearTimeout(timer);
    sessionStorage.removeItem("turnpike-admin-token");
    token = null;
    last = undefined;
    history.length = 0;
    element("summary").textContent = "Not connected";
    show(false);
}

element("login").addEventListener("submit", (event) => {
    event.preventDefault();
    token = element("token").value.trim();
    element("token").value = "";
    sessionStorage.setItem("turnpike-admin-token", token);
    element("problem").hidden = true;
    show(true);
    poll();
});
element("leave").addEventListener("click", () => { element("problem").hidden = true; leave(); });
element("reload").addEventListener("click", () => perform(async () => {
    const { messages } = await ask("admin/reload", "POST");
    element("notice").textContent = ["The configuration is reloaded.", ...messages].join(" ");
}));
element("drain").addEventListener("click", async () => {
    const question = "Drain this server? It takes no new relays, tells clients to go, and stops after two minutes.";
    if (await confirm(question, "Drain")) perform(() => ask("admin/drain", "POST"));
});

show(Boolean(token));
if (token) poll();
