'use strict';
// One measurement with the original client, in a process of its own:
//   node client.cjs push|pull|live URL DATABASE COUNT
// prints JSON: milliseconds, and the processor time of this process.

const { once } = require('node:events');
const { documents, live, timed } = require('../measure.cjs');
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

async function bulk(direction) {
  const db = new PouchDB(`local-${process.pid}`, { db: memdown });
  if (direction === 'push') await db.bulkDocs(documents(count));
  return timed(() => {
    const { client, sync } = device(db);
    const all = written(sync, direction, count);
    client.connect(url);
    return all;
  });
}

async function edits() {
  const dbs = ['here', 'there'].map((n) => new PouchDB(`${n}-${process.pid}`, { db: memdown }));
  const devices = dbs.map(device);
  const ready = devices.map(({ client, sync }) => {
    const paused = once(sync, 'paused');
    client.connect(url);
    return paused;
  });
  await Promise.all(ready);
  const found = await live(...dbs, count);
  devices.forEach(({ client }) => client.end());
  return found;
}

(kind === 'live' ? edits() : bulk(kind)).then((found) => {
  console.log(JSON.stringify(found));
  process.exit(0);
});
