// The ways of syncing that are compared, and how one of them is measured.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

import { countingProxy } from './proxy.mjs';
import { servers, startServer } from './servers.mjs';
import { forgetPeak, memory, processorTime } from './usage.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const CLIENT_TIMEOUT_MS = 600_000;
const LIVE_EDITS_MAX = 100;
const DOCUMENTS_PER_LIVE_EDIT = 10;
const KINDS = ['push', 'pull', 'live'];

const client = here('client.mjs');
const legacy = here('legacy/client.cjs');
const { settee, express, expressLevel, original, couchdb, rouchdb } = servers;

/** By letter: a server and the client that syncs with it. Without a program, it cannot sync. */
export const ways = {
  a: { name: 'Settee, client.sync', server: settee, scheme: 'ws', program: [client, 'sync'] },
  b: { name: 'Settee, PouchDB adapter', server: settee, scheme: 'ws', program: [client, 'adapter'] },
  c: { name: 'Settee, HTTP', server: settee, scheme: 'http', program: [client, 'http'] },
  d: { name: 'express-pouchdb, memory', server: express, scheme: 'http', program: [client, 'http'] },
  e: { name: 'pouch-websocket-sync', server: original, scheme: 'ws', program: [legacy] },
  f: { name: 'CouchDB', server: couchdb, scheme: 'http', program: [client, 'http'] },
  g: { name: 'RouchDB', server: rouchdb, scheme: 'http' },
  h: { name: 'express-pouchdb, LevelDB', server: expressLevel, scheme: 'http', program: [client, 'http'] },
  i: { name: 'Settee, client of 2015', server: settee, scheme: 'ws', program: [legacy] },
};

/** Where a client of this way connects; over WebSocket it shows its token later. */
export function urlOf({ scheme }, address, user) {
  return scheme === 'ws' || !user ? `${scheme}://${address}` : `${scheme}://${user}@${address}`;
}

/** Runs a program that prints JSON; `onMark` is told where it stands while it waits. */
async function run(args, onMark = () => {}) {
  const stdio = ['ignore', 'pipe', 'inherit', 'ipc'];
  const child = spawn(process.execPath, args, { stdio, timeout: CLIENT_TIMEOUT_MS });
  child.on('message', (name) => {
    onMark(name);
    child.send('seen');
  });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  // The other arguments may hold a password.
  if (code !== 0) throw new Error(`${args[0]} ended with ${code}`);
  return JSON.parse(output);
}

/** A server with clean data, for as long as `work` takes. */
async function withServer({ server }, work) {
  const started = await startServer(server);
  try {
    return await work(started);
  } finally {
    await started.stop();
  }
}

let databases = 0;

/** Names that no other run has used: a server elsewhere may still have those. */
const freshName = (kind) => `peers-${kind}-${process.pid}-${Date.now()}-${databases++}`;

function ask(method, { address, user }, database) {
  const authorization = user ? `Basic ${btoa(decodeURIComponent(user))}` : '';
  return fetch(`http://${address}/${database}`, { method, headers: { authorization } });
}

/** A server elsewhere goes on, and its data with it. */
async function removeRemote(started, names) {
  if (!started.isRemote) return;
  for (const name of names) await ask('DELETE', started, name);
}

/** Calls `measure` with a kind, a database and a count: push, pull what was pushed, live edits. */
async function eachKind(started, documents, measure) {
  const [bulk, live] = [freshName('bulk'), freshName('live')];
  const edits = Math.min(Math.ceil(documents / DOCUMENTS_PER_LIVE_EDIT), LIVE_EDITS_MAX);
  const found = {};
  for (const kind of KINDS) {
    found[kind] = await (kind === 'live'
      ? measure(kind, live, edits)
      : measure(kind, bulk, documents));
  }
  await removeRemote(started, [bulk, live]);
  return found;
}

/** Milliseconds and processor time of push, pull and live edits, and the memory of the server. */
export function timedRound(way, documents) {
  return withServer(way, async (started) => {
    const { pid, address, user } = started;
    const rest = memory(pid).now;
    forgetPeak(pid);
    const found = await eachKind(started, documents, async (kind, database, count) => {
      let before = Number.NaN;
      const args = [...way.program, kind, urlOf(way, address, user), database, String(count)];
      const took = await run(args, () => (before = processorTime(pid)));
      return { ...took, server_cpu_ms: processorTime(pid) - before, count };
    });
    const { peak } = memory(pid);
    return { ...found, memory: { rest, peak, growth: peak - rest } };
  });
}

/** Bytes and messages on the wire; of live edits only what comes after both devices are ready. */
export function wireRound(way, documents) {
  return withServer(way, (started) =>
    eachKind(started, documents, async (kind, database, count) => {
      const proxy = await countingProxy(started.address);
      const args = [...way.program, kind, urlOf(way, proxy.address, started.user), database, String(count)];
      let before = proxy.count();
      await run(args, () => (before = proxy.count()));
      const after = proxy.count();
      proxy.stop();
      const differences = Object.entries(after).map(([name, value]) => [name, value - before[name]]);
      return { ...Object.fromEntries(differences), count };
    }),
  );
}

/** What HTTP without PouchDB reaches, with the processor time of the server for each step. */
export function rawRound(way, documents) {
  return withServer(way, async (started) => {
    const { address, user, pid } = started;
    const database = started.database ?? freshName('raw');
    // Where there is one database only, it is there already.
    await ask('PUT', started, database);
    const marks = [];
    const args = [here('raw.mjs'), urlOf(way, address, user), database, String(documents)];
    const found = await run(args, (name) => marks.push({ name, at: processorTime(pid) }));
    marks.slice(0, -1).forEach(({ name, at }, n) => {
      if (found[name]) found[name].server_cpu_ms = marks[n + 1].at - at;
    });
    await removeRemote(started, [database]);
    return found;
  });
}
