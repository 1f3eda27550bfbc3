// One measurement in a process of its own:
//   node client.mjs sync|adapter|http push|pull|live URL DATABASE COUNT
// prints JSON: milliseconds, and the processor time of this process.

import { once } from 'node:events';

import PouchDB from 'pouchdb-core';
import http from 'pouchdb-adapter-http';
import memory from 'pouchdb-adapter-memory';
import replication from 'pouchdb-replication';
import Settee, { createClient } from '../../client-js/dist/settee-client.js';
import { WebSocket } from 'ws';

PouchDB.plugin(memory).plugin(http).plugin(replication).plugin(Settee);

const [way, kind, url, database, countText] = process.argv.slice(2);
const count = Number(countText);
const credentials = { token: 'secret' };

function documents() {
  const text = 'a line of text as long as a to-do with a few details, '.repeat(3);
  return Array.from({ length: count }, (_, n) => ({ _id: `doc-${n}`, n, done: false, text }));
}

/** Begins a live sync of both directions; gives it and a promise of its first rest. */
function begin(db) {
  const sync = syncOf(db);
  sync.on('error', (error) => {
    throw error;
  });
  return { sync, rests: once(sync, 'paused') };
}

function syncOf(db) {
  const options = { live: true, retry: true };
  if (way === 'http') return PouchDB.sync(db, `${url}/${database}`, options);
  const client = createClient({ WebSocket }).connect(url);
  if (way === 'sync') return client.sync(db, { remoteName: database, credentials, create: true });
  const remote = new PouchDB(database, { adapter: 'settee', client, credentials, create: true });
  return PouchDB.sync(db, remote, options);
}

/** Resolves once a direction has written so many documents. */
function written(sync, direction, wanted) {
  let sum = 0;
  return new Promise((resolve) => {
    sync.on('change', (event) => {
      // Each event of `client.sync` tells of its own documents, PouchDB's of all so far.
      if (event.direction !== direction) return;
      sum += event.change.docs.length;
      if (sum >= wanted) resolve();
    });
  });
}

const milliseconds = (from) => Number(process.hrtime.bigint() - from) / 1e6;

async function bulk(direction) {
  const db = new PouchDB('local', { adapter: 'memory' });
  await db.info();
  if (direction === 'push') await db.bulkDocs(documents());
  const cpu = process.cpuUsage();
  const began = process.hrtime.bigint();
  await written(begin(db).sync, direction, count);
  const ms = milliseconds(began);
  const { user, system } = process.cpuUsage(cpu);
  const { doc_count } = await db.info();
  if (doc_count !== count) throw new Error(`${doc_count} documents instead of ${count}`);
  return { ms, cpu_ms: (user + system) / 1e3 };
}

/** Each document in turn, from the call of one device until the other device tells of it. */
async function live() {
  const [here, there] = ['here', 'there'].map((name) => new PouchDB(name, { adapter: 'memory' }));
  await Promise.all([here, there].map((db) => begin(db).rests));
  const arrived = new Map();
  there.changes({ since: 'now', live: true }).on('change', ({ id }) => arrived.get(id)?.());
  const times = [];
  for (let n = 0; n < count; n++) {
    const arrives = new Promise((resolve) => arrived.set(`live-${n}`, resolve));
    const began = process.hrtime.bigint();
    await here.put({ _id: `live-${n}`, n });
    await arrives;
    times.push(milliseconds(began));
    // Both rest before the next, so that each is measured for itself.
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  times.sort((a, b) => a - b);
  const at = (share) => times[Math.min(times.length - 1, Math.floor(times.length * share))];
  return { p50_ms: at(0.5), p95_ms: at(0.95) };
}

console.log(JSON.stringify(await (kind === 'live' ? live() : bulk(kind))));
process.exit(0);
