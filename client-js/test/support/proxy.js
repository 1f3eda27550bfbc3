/** Stands between a client and a gateway, and does to messages what a test wants. */

import { once } from 'node:events';
import { WebSocket, WebSocketServer } from 'ws';

export class Proxy {
  #server;
  #sockets = new Set();
  /** Messages are swallowed in both directions. */
  silent = false;
  /** Sockets that clients have opened so far. */
  connections = 0;
  /** What a message of the gateway's becomes: (message, send) => message or undefined. */
  fromGateway = (message) => message;
  /** What a message of the client's becomes. */
  fromClient = (message) => message;

  /** @param {string} target */
  static async start(target) {
    const proxy = new Proxy();
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    proxy.#server = server;
    server.on('connection', (socket) => proxy.#join(socket, target));
    await once(server, 'listening');
    proxy.url = `ws://127.0.0.1:${server.address().port}`;
    return proxy;
  }

  #join(down, target) {
    this.connections += 1;
    this.#sockets.add(down);
    const up = new WebSocket(target, 'settee.v1');
    const waiting = [];
    const toGateway = (data) => (up.readyState === 1 ? up.send(data) : waiting.push(data));
    up.on('open', () => waiting.splice(0).forEach((data) => up.send(data)));
    const reply = (message) => down.send(JSON.stringify(message));
    down.on('message', (data, binary) => this.#pass(data, binary, this.fromClient, toGateway, reply));
    up.on('message', (data, binary) =>
      this.#pass(data, binary, this.fromGateway, (passed) => down.send(passed), reply),
    );
    down.on('close', () => {
      this.#sockets.delete(down);
      up.terminate();
    });
    up.on('close', () => down.terminate());
    up.on('error', () => down.terminate());
  }

  #pass(data, binary, change, send, reply) {
    if (this.silent) return;
    if (binary) {
      send(data);
      return;
    }
    const message = change(JSON.parse(String(data)), reply);
    if (message) send(JSON.stringify(message));
  }

  /** Cuts every socket without a close. */
  cut() {
    for (const socket of this.#sockets) socket.terminate();
  }

  async stop() {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
