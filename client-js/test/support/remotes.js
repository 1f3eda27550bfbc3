/** Databases behind a gateway as PouchDBs. */

import PouchDB from 'pouchdb-core';
import replication from 'pouchdb-replication';
import Settee from '../../src/index.js';
import { CREDENTIALS } from './gateway.js';
import './databases.js';

PouchDB.plugin(replication).plugin(Settee);

export { PouchDB };

export function remote(client, name, more = {}) {
  return new PouchDB(name, {
    adapter: 'settee',
    client,
    credentials: CREDENTIALS,
    create: true,
    ...more,
  });
}

/** What a promise was rejected with. */
export function rejection(promise) {
  return promise.then(
    () => assertRejects(),
    (error) => error,
  );
}

function assertRejects() {
  throw new Error('a rejection was expected');
}

/** Resolves with so many changes of a feed, and cancels it. */
export function changesOf(feed, count) {
  return new Promise((resolve, reject) => {
    const changes = [];
    feed.on('error', reject);
    feed.on('change', (change) => {
      if (changes.push(change) < count) return;
      feed.cancel();
      resolve(changes);
    });
  });
}
