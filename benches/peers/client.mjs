// One measurement in a process of its own:
//   node client.mjs sync|adapter|http push|pull|live URL DATABASE COUNT
// prints JSON: milliseconds, and the processor time of this process. Names and passwords for HTTP
// stand in the URL.

import { once } from 'node:events';

import PouchDB from 'pouchdb-core';
import http from 'pouchdb-adapter-http';
import memory from 'pouchdb-adapter-memory';
import replication from 'pouchdb-replication';
import Settee, { createClient } from '../../client-js/dist/settee-client.js';
import { WebSocket } from 'ws';
import { documents, live, timed } from './measure.cjs';

PouchDB.plugin(memory).plugin(http).plugin(replication).plugin(Settee);

const [way, kind, url, database, countText] = process.argv.slice(2);
const count = Number(countText);
const credentials = { token: 'secret' };

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
  if (way === 'http') return PouchDB.sync(db, new PouchDB(`${url}/${database}`), options);
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

async function bulk(direction) {
  const db = new PouchDB('local', { adapter: 'memory' });
  await db.info();
  if (direction === 'push') await db.bulkDocs(documents(count));
  const took = await timed(() => written(begin(db).sync, direction, count));
  const { doc_count } = await db.info();
  if (doc_count !== count) throw new Error(`${doc_count} documents instead of ${count}`);
  return took;
}

async function edits() {
  const [here, there] = ['here', 'there'].map((name) => new PouchDB(name, { adapter: 'memory' }));
  await Promise.all([here, there].map((db) => begin(db).rests));
  return live(here, there, count);
}

console.log(JSON.stringify(await (kind === 'live' ? edits() : bulk(kind))));
process.exit(0);
