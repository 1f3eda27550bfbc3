// The servers that are compared, each in a process of its own with clean data.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as rest } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const SETTEE = process.env.SETTEE_BIN ?? here('../../target/release/settee');
const START_TIMEOUT_MS = 30_000;
const PROBE_INTERVAL_MS = 20;

/**
 * By name: what it is called, where its data is when it answers, and what starts it. Those whose
 * `absent` says why are left out.
 */
export const servers = {
  settee: {
    title: 'Settee',
    data: 'on disk, flushed before each answer',
    start: (data) => [SETTEE, 'serve', '--listen', '127.0.0.1:0', '--data', data, '--token', 'secret'],
    user: 'anyone:secret',
  },
  express: {
    title: 'express-pouchdb, memory',
    data: 'in memory',
    start: () => [process.execPath, here('express-pouchdb.cjs')],
  },
  expressLevel: {
    title: 'express-pouchdb, LevelDB',
    data: 'on disk, written and not flushed',
    start: (data) => [process.execPath, here('express-pouchdb.cjs'), data],
  },
  original: {
    title: 'pouch-websocket-sync',
    data: 'in memory',
    start: () => [process.execPath, here('legacy/original.cjs')],
  },
  couchdb: {
    title: 'CouchDB',
    data: 'as it is configured; CouchDB 3 flushes before each answer',
    url: process.env.COUCHDB_URL,
    absent: process.env.COUCHDB_URL ? undefined : 'COUCHDB_URL names none',
  },
  rouchdb: {
    title: 'RouchDB',
    data: 'on disk, flushed before each answer',
    start: (data, port) => {
      const options = ['--db-name', 'rouchdb', '--port', String(port)];
      return [process.env.ROUCHDB_BIN, join(data, 'rouchdb.redb'), ...options];
    },
    // It takes no free port by itself, and has this one database.
    needsPort: true,
    database: 'rouchdb',
    absent: process.env.ROUCHDB_BIN ? undefined : 'ROUCHDB_BIN names no server',
  },
};

/** Starts a server; gives its address, and its process if it is on this machine. */
export async function startServer({ start, url, user = '', needsPort, database }) {
  if (url) return remote(url);
  const directory = mkdtempSync(join(tmpdir(), 'settee-peers-'));
  const port = needsPort ? await freePort() : undefined;
  const [program, ...args] = start(directory, port);
  const env = { ...process.env, SETTEE_LOG: 'error' };
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const failed = once(child, 'exit').then(([code]) => {
    throw new Error(`${program} ended with ${code} before it listened`);
  });
  const address = await Promise.race([port ? answers(port) : printed(child), failed]);
  // Nobody waits for it any longer.
  failed.catch(() => {});
  child.stdout.resume();
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const exit = once(child, 'exit');
      child.kill();
      await exit;
    }
    rmSync(directory, { recursive: true, force: true });
  };
  return { address, user, pid: child.pid, database, stop };
}

function remote(text) {
  const { protocol, host, username, password } = new URL(text);
  if (protocol !== 'http:') throw new Error('COUCHDB_URL must begin with http://');
  return { address: host, user: username && `${username}:${password}`, isRemote: true, stop: async () => {} };
}

async function printed(child) {
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  return line.replace('listening on http://', '');
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

/** Waits until something listens there. */
async function answers(port) {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadline) {
    const socket = connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      return `127.0.0.1:${port}`;
    } catch {
      await rest(PROBE_INTERVAL_MS);
    } finally {
      socket.destroy();
    }
  }
  throw new Error(`nothing listens on port ${port}`);
}
