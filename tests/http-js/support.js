/** The gateway's databases as PouchDB's http adapter sees them, and PouchDBs in memory. */

import PouchDB from 'pouchdb-core';
import http from 'pouchdb-adapter-http';
import memory from 'pouchdb-adapter-memory';
import replication from 'pouchdb-replication';
import { CREDENTIALS, Gateway } from '../../client-js/test/support/gateway.js';

PouchDB.plugin(http).plugin(memory).plugin(replication);

export { PouchDB, Gateway };

/** The gateway's address for HTTP. */
export function origin(gateway) {
  return gateway.url.replace(/^ws/, 'http');
}

/** A database of the gateway; the token is the password, whatever the name. */
export function remote(gateway, name, auth = { username: 'anyone', password: CREDENTIALS.token }) {
  return new PouchDB(`${origin(gateway)}/${name}`, { auth });
}

let made = 0;

/** A new, empty PouchDB in memory. */
export function local() {
  made += 1;
  return new PouchDB(`local-${made}`, { adapter: 'memory' });
}

/** A request without PouchDB. */
export function request(gateway, path, { token = CREDENTIALS.token, headers, ...options } = {}) {
  const authorization = token ? { authorization: `Bearer ${token}` } : {};
  return fetch(`${origin(gateway)}${path}`, { ...options, headers: { ...authorization, ...headers } });
}

/** Every leaf with its body, in an order of its own. */
export async function content(db) {
  const { results } = await db.changes({ style: 'all_docs', since: 0 });
  const docs = results.flatMap(({ id, changes }) => changes.map(({ rev }) => ({ id, rev })));
  if (docs.length === 0) return [];
  const found = await db.bulkGet({ docs, revs: true });
  const leaves = found.results.flatMap((row) => row.docs.map(({ ok }) => ok));
  const key = ({ _id, _rev }) => `${_id} ${_rev}`;
  return leaves.sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

/** Resolves when a database holds so many documents. */
export function holds(db, count) {
  return new Promise((resolve, reject) => {
    const ids = new Set();
    const changes = db.changes({ live: true, since: 0 });
    changes.on('error', reject);
    changes.on('change', ({ id }) => {
      if (ids.add(id).size < count) return;
      changes.cancel();
      resolve(undefined);
    });
  });
}

/** Ends a live replication. */
export function ended(replication) {
  return new Promise((resolve, reject) => {
    replication.on('complete', resolve);
    replication.on('error', reject);
    replication.cancel();
  });
}
