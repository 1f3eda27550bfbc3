// Stands between a client and a server and counts what goes over the wire, in both directions.
//
// Bytes are those that sockets have read, headers and all. A message is an HTTP request, an HTTP
// response, or a WebSocket message other than ping, pong and close.

import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import { connect } from 'node:net';

/** The bytes that sockets have read, of those that are open and those that were. */
class Meter {
  #open = new Set();
  #closed = 0;

  add(socket) {
    if (this.#open.has(socket)) return;
    this.#open.add(socket);
    socket.once('close', () => {
      this.#open.delete(socket);
      this.#closed += socket.bytesRead;
    });
  }

  get bytes() {
    return [...this.#open].reduce((sum, socket) => sum + socket.bytesRead, this.#closed);
  }
}

/** Calls back for each message in a stream of WebSocket frames (RFC 6455, section 5.2). */
function frames(found) {
  let header = Buffer.alloc(0);
  let payload = 0;
  return (chunk) => {
    for (let at = 0; at < chunk.length; ) {
      if (payload > 0) {
        const taken = Math.min(payload, chunk.length - at);
        payload -= taken;
        at += taken;
        continue;
      }
      header = Buffer.concat([header, chunk.subarray(at, ++at)]);
      if (header.length < headerLength(header)) continue;
      payload = payloadLength(header);
      const isLast = header[0] & 0x80;
      const isControl = header[0] & 0x08;
      if (isLast && !isControl) found();
      header = Buffer.alloc(0);
    }
  };
}

function headerLength(header) {
  if (header.length < 2) return 2;
  const short = header[1] & 0x7f;
  const mask = header[1] & 0x80 ? 4 : 0;
  return 2 + (short === 127 ? 8 : short === 126 ? 2 : 0) + mask;
}

function payloadLength(header) {
  const short = header[1] & 0x7f;
  if (short === 127) return Number(header.readBigUInt64BE(2));
  return short === 126 ? header.readUInt16BE(2) : short;
}

/** Gives the bytes after the head of a response to `next`. */
function afterHead(next) {
  let head = Buffer.alloc(0);
  let isOver = false;
  return (chunk) => {
    if (isOver) return next(chunk);
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    isOver = true;
    next(head.subarray(end + 4));
  };
}

/** A proxy before `address`: its own address, what it has counted, and how to stop it. */
export async function countingProxy(address) {
  const [host, port] = address.split(':');
  const up = new Meter();
  const down = new Meter();
  const counted = { up_messages: 0, down_messages: 0, connections: 0 };
  const agent = new Agent({ keepAlive: true });
  const server = createServer();

  server.on('connection', (socket) => {
    counted.connections++;
    up.add(socket);
  });
  server.on('request', (asked, answer) => {
    counted.up_messages++;
    const { method, url: path, rawHeaders: headers } = asked;
    const forwarded = request({ host, port, agent, method, path, headers });
    forwarded.on('socket', (socket) => down.add(socket));
    forwarded.on('response', (response) => {
      counted.down_messages++;
      answer.writeHead(response.statusCode, response.statusMessage, response.rawHeaders);
      answer.flushHeaders();
      response.pipe(answer);
    });
    forwarded.on('error', () => answer.destroy());
    answer.on('close', () => forwarded.destroy());
    asked.pipe(forwarded);
  });
  server.on('upgrade', ({ method, url, rawHeaders }, socket, head) => {
    const upstream = connect(Number(port), host);
    down.add(upstream);
    const lines = rawHeaders.map((text, n) => (n % 2 ? `${text}\r\n` : `${text}: `));
    upstream.write(`${method} ${url} HTTP/1.1\r\n${lines.join('')}\r\n`);
    socket.unshift(head);
    socket.on('data', frames(() => counted.up_messages++)).pipe(upstream);
    upstream.on('data', afterHead(frames(() => counted.down_messages++))).pipe(socket);
    for (const [one, other] of [[socket, upstream], [upstream, socket]]) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${server.address().port}`,
    count: () => ({ ...counted, up_bytes: up.bytes, down_bytes: down.bytes }),
    stop() {
      agent.destroy();
      server.close();
      server.closeAllConnections();
    },
  };
}
