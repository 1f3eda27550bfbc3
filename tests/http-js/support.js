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

/** The same, with a token in place of a name and a password. */
export function remoteFor(gateway, name, token) {
  const fetch = (url, options) => {
    options.headers.set('authorization', `Bearer ${token}`);
    return PouchDB.fetch(url, options);
  };
  return new PouchDB(`${origin(gateway)}/${name}`, { fetch });
}

/** PouchDB asks for `info` after each batch and leaves its failure without a handler. */
export function withoutFailingInfo(db) {
  const info = db.info.bind(db);
  db.info = () => info().catch(() => ({ db_name: db.name, update_seq: '0' }));
  return db;
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
  const changes = await db.changes({ style: 'all_docs', since: 0 });
  const docs = changes.results.flatMap(({ id, changes }) => changes.map(({ rev }) => ({ id, rev })));
  const leaves = [];
  // A request has at most as many elements as the gateway's limits allow.
  for (let at = 0; at < docs.length; at += 5_000) {
    const { results } = await db.bulkGet({ docs: docs.slice(at, at + 5_000), revs: true });
    leaves.push(...results.flatMap((row) => row.docs.map(({ ok }) => ok)));
  }
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
