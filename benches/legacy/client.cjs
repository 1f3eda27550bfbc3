'use strict';
// One measurement with the original client, in a process of its own:
//   node client.cjs push|pull|live URL DATABASE COUNT
// prints JSON: milliseconds, and the processor time of this process.

const { once } = require('node:events');
const load = require('./packages.cjs');

const PouchSync = load('pouch-websocket-sync');
const PouchDB = load('pouchdb-5');
const memdown = load('memdown');

const [kind, url, remoteName, countText] = process.argv.slice(2);
const count = Number(countText);
const credentials = { token: 'secret' };

// The client leaves the promise of a missing checkpoint without a handler.
process.on('unhandledRejection', (error) => {
  if (error?.message !== 'missing') throw error;
});

function documents() {
  const text = 'a line of text as long as a to-do with a few details, '.repeat(3);
  return Array.from({ length: count }, (_, n) => ({ _id: `doc-${n}`, n, done: false, text }));
}

function device(db) {
  const client = PouchSync.createClient();
  client.on('error', (error) => { throw error; });
  const sync = client.sync(db, { remoteName, credentials });
  sync.on('error', (error) => { throw new Error(error.message); });
  return { client, sync };
}

/** Resolves once a direction has written so many documents. */
function written(sync, direction, wanted) {
  return new Promise((resolve) => {
    sync.on('change', (event) => {
      if (event.direction === direction && event.change.docs_written >= wanted) resolve();
    });
  });
}

const milliseconds = (from) => Number(process.hrtime.bigint() - from) / 1e6;

async function bulk(direction) {
  const db = new PouchDB(`local-${process.pid}`, { db: memdown });
  if (direction === 'push') await db.bulkDocs(documents());
  const cpu = process.cpuUsage();
  const began = process.hrtime.bigint();
  const { client, sync } = device(db);
  const all = written(sync, direction, count);
  client.connect(url);
  await all;
  const ms = milliseconds(began);
  const { user, system } = process.cpuUsage(cpu);
  client.end();
  return { ms, cpu_ms: (user + system) / 1e3 };
}

/** Each document in turn, from the call of one device until the other device tells of it. */
async function live() {
  const [here, there] = ['here', 'there'].map((n) => new PouchDB(`${n}-${process.pid}`, { db: memdown }));
  const devices = [device(here), device(there)];
  const ready = devices.map(({ client, sync }) => {
    const paused = once(sync, 'paused');
    client.connect(url);
    return paused;
  });
  await Promise.all(ready);
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
  devices.forEach(({ client }) => client.end());
  return { p50_ms: at(0.5), p95_ms: at(0.95) };
}

(kind === 'live' ? live() : bulk(kind)).then((found) => {
  console.log(JSON.stringify(found));
  process.exit(0);
});
