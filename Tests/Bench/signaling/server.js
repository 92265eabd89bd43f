// A signaling server as one writes it with Node and `ws`: hello, register, forward, over TLS.
// Usage: server.js PORT CERTIFICATE KEY SECRET
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const https = require('https');
const { WebSocketServer } = require('ws');

const [port, certificate, key, secret] = process.argv.slice(2);
const RATE = Number(process.env.RATE || 1_000_000), BURST = Number(process.env.BURST || 1_000_000);
const server = https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key), minVersion: 'TLSv1.2' });
const sockets = new WebSocketServer({ server, path: '/signal', maxPayload: 65536, perMessageDeflate: false });
const peers = new Map();

function fail(socket, code, error, originalType) {
  socket.send(JSON.stringify({ type: 'error', code, error, originalType }));
}

function login(username, password) {
  const mac = crypto.createHmac('sha1', secret).update(username).digest('base64');
  const colon = username.indexOf(':');
  if (colon < 0 || Number(username.slice(0, colon)) * 1000 < Date.now()) return null;
  const [given, wanted] = [Buffer.from(password), Buffer.from(mac)];
  return given.length === wanted.length && crypto.timingSafeEqual(given, wanted) ? username.slice(colon + 1) : null;
}

function take(socket) {
  const now = process.hrtime.bigint();
  socket.tokens = Math.min(BURST, socket.tokens + Number(now - socket.filledAt) / 1e9 * RATE);
  socket.filledAt = now;
  if (socket.tokens < 1) return false;
  socket.tokens -= 1;
  return true;
}

function receive(socket, data) {
  let message;
  try { message = JSON.parse(data); } catch { return fail(socket, 'bad-message', 'not JSON'); }
  if (message === null || typeof message !== 'object') return fail(socket, 'bad-message', 'not an object');
  if (!take(socket)) return fail(socket, 'rate-limited', 'Too many messages', message.type);
  if (message.type === 'hello') {
    socket.user = login(String(message.username), String(message.password));
    if (!socket.user) return socket.close(4401);
    return socket.send(JSON.stringify({ type: 'welcome', user: socket.user, timestamp: Date.now() }));
  }
  if (!socket.user) return socket.close(4401);
  switch (message.type) {
    case 'register': {
      const id = String(message.peerId);
      if (id !== socket.user && !id.startsWith(socket.user + '/')) return fail(socket, 'forbidden', 'not yours', 'register');
      peers.set(id, socket);
      socket.ids.add(id);
      return socket.send(JSON.stringify({ type: 'registered', peerId: id, timestamp: Date.now() }));
    }
    case 'offer': case 'answer': case 'ice-candidate': {
      const field = message.type === 'ice-candidate' ? 'candidate' : message.type;
      if (!socket.ids.has(message.from)) return fail(socket, 'forbidden', 'not your peer', message.type);
      const target = peers.get(message.to);
      if (!target) return fail(socket, 'not-found', `Peer ${message.to} not found`, message.type);
      return target.send(JSON.stringify({
        type: message.type, from: message.from, to: message.to, [field]: message[field], timestamp: Date.now(),
      }));
    }
    case 'ping': return socket.send(JSON.stringify({ type: 'pong', timestamp: Date.now() }));
    default: return fail(socket, 'bad-type', 'Unknown message type', message.type);
  }
}

sockets.on('connection', (socket) => {
  socket.ids = new Set();
  socket.tokens = BURST;
  socket.filledAt = process.hrtime.bigint();
  socket.on('message', (data) => receive(socket, data));
  socket.on('close', () => { for (const id of socket.ids) peers.delete(id); });
  socket.on('error', () => {});
});
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 1024 });
