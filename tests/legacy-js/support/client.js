'use strict';
// The npm client of 2015 and the PouchDBs that it is used with.

const { once } = require('node:events');
const memdown = require('memdown');
const PouchSync = require('pouch-websocket-sync');
const PouchDB5 = require('pouchdb-5');
const PouchDB9 = require('pouchdb-core')
  .plugin(require('pouchdb-adapter-memory').default ?? require('pouchdb-adapter-memory'))
  .plugin(require('pouchdb-replication').default ?? require('pouchdb-replication'));

const { CREDENTIALS } = require('./gateway');

// The client's adapter says its type in the way of its time; said once a call, it hides the results.
const warn = console.warn;
console.warn = (...texts) => {
  if (!String(texts[0]).startsWith('db.type() is deprecated')) warn(...texts);
};

let databases = 0;

/** The PouchDBs to test with, each with a way to make an empty database. */
const POUCHDBS = {
  'PouchDB 5.4.5': (name = `local-${++databases}`) => new PouchDB5(name, { db: memdown }),
  'PouchDB 9, unmodified': (name = `local-${++databases}`) =>
    new PouchDB9(name, { adapter: 'memory' }),
};

/** A client with syncs, whose events are kept; connected once all syncs are there. */
class Device {
  constructor() {
    this.client = PouchSync.createClient();
    this.errors = [];
    // Without a listener a lost connection ends the process.
    this.client.on('error', (error) => this.errors.push(error));
  }

  sync(db, remoteName, credentials = CREDENTIALS) {
    const sync = this.client.sync(db, { remoteName, credentials });
    const events = [];
    for (const name of ['change', 'paused', 'active', 'denied', 'complete', 'error']) {
      sync.on(name, (payload) => events.push([name, payload]));
    }
    return Object.assign(sync, { events });
  }

  connect(url) {
    this.client.connect(url);
    return once(this.client, 'connect');
  }

  end() {
    this.client.end();
  }
}

/**
 * The client leaves a promise of its own without a handler when it finds no checkpoint, whatever its
 * server; that one rejection is no failure of a test.
 */
function expectMissingCheckpoints() {
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', (error) => {
    if (error?.status !== 404 || error?.message !== 'missing') throw error;
  });
}

/** Waits until `look` gives something true, looking again after every event of the loop's timers. */
async function until(look, what, patience = 60_000) {
  const began = Date.now();
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() - began > patience) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The document, or nothing. */
const read = (db, id, options = {}) => db.get(id, options).catch(() => undefined);

/** The leaves of a local database by document, in the form of `Gateway.leaves`. */
async function leaves(db) {
  const changes = await db.changes({ style: 'all_docs' });
  const all = {};
  for (const { id, changes: revs } of changes.results) {
    all[id] = {};
    for (const { rev } of revs) {
      const { _id, _rev, ...body } = await db.get(id, { rev });
      all[id][_rev] = body;
    }
  }
  return all;
}

module.exports = { Device, POUCHDBS, expectMissingCheckpoints, leaves, read, until };
