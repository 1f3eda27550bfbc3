// The proxy counts each byte and each message, of HTTP and of WebSockets.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';

import { WebSocket, WebSocketServer } from 'ws';

import { countingProxy } from '../proxy.mjs';

/** A server with a proxy before it, stopped when the test ends. */
async function proxied(context, server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy = await countingProxy(`127.0.0.1:${server.address().port}`);
  context.after(() => {
    proxy.stop();
    server.close();
    server.closeAllConnections();
  });
  return proxy;
}

const portOf = (address) => Number(address.split(':')[1]);

test('counts every byte of a request and of its response', async (context) => {
  const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello';
  const server = createServer((_, response) => response.socket?.end(answer));
  const proxy = await proxied(context, server);
  const question = 'POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody';
  const socket = connect(portOf(proxy.address), '127.0.0.1');
  socket.write(question);
  assert.ok((await text(socket)).endsWith('hello'));
  assert.deepEqual(proxy.count(), {
    up_bytes: question.length,
    down_bytes: answer.length,
    up_messages: 1,
    down_messages: 1,
    connections: 1,
  });
});

test('a connection that is kept counts once', async (context) => {
  const server = createServer((asked, response) => asked.pipe(response));
  const proxy = await proxied(context, server);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  context.after(() => agent.destroy());
  for (const body of ['one', 'two']) {
    const asked = request({ port: portOf(proxy.address), method: 'POST', agent });
    asked.end(body);
    const [response] = await once(asked, 'response');
    assert.equal(await text(response), body);
  }
  const { up_messages, down_messages, connections } = proxy.count();
  assert.deepEqual([up_messages, down_messages, connections], [2, 2, 1]);
});

test('counts WebSocket messages of every length, and neither pings nor parts', async (context) => {
  const server = createServer();
  const sockets = new WebSocketServer({ server, perMessageDeflate: false });
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
  const proxy = await proxied(context, server);
  const socket = new WebSocket(`ws://${proxy.address}`, { perMessageDeflate: false });
  await once(socket, 'open');
  const before = proxy.count();
  const lengths = [0, 1, 125, 126, 65_535, 65_536, 300_000];
  for (const length of lengths) {
    socket.send(Buffer.alloc(length, 'x'));
    const [data] = await once(socket, 'message');
    assert.equal(data.length, length);
  }
  socket.ping();
  await once(socket, 'pong');
  socket.send('in ', { fin: false });
  socket.send('parts');
  const [whole] = await once(socket, 'message');
  assert.equal(whole.toString(), 'in parts');
  const after = proxy.count();
  const messages = lengths.length + 1;
  assert.equal(after.up_messages - before.up_messages, messages);
  assert.equal(after.down_messages - before.down_messages, messages);
  const payload = lengths.reduce((sum, length) => sum + length, 0) + 'in parts'.length;
  // Heads of frames take 2, 4 or 10 bytes; four more hold the mask of what clients send.
  const heads = 3 * 2 + 2 * 4 + 2 * 10;
  assert.equal(after.down_bytes - before.down_bytes, payload + heads + 2 + 2);
  assert.equal(after.up_bytes - before.up_bytes, payload + heads + 2 + 2 * 2 + 4 * (messages + 2));
  socket.terminate();
});
