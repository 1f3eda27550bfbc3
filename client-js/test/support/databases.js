/** PouchDBs in memory, and what stands in databases on both sides. */

import PouchDB from 'pouchdb-core';
import memory from 'pouchdb-adapter-memory';
import { WebSocket } from 'ws';
import { CREDENTIALS } from './gateway.js';

PouchDB.plugin(memory);

let made = 0;

/** A new, empty PouchDB. */
export function database() {
  made += 1;
  return new PouchDB(`database-${made}`, { adapter: 'memory' });
}

/** @param {number} count */
export function smallDocs(count) {
  const id = (index) => `doc-${String(index).padStart(6, '0')}`;
  return Array.from({ length: count }, (_, index) => ({
    _id: id(index),
    index,
    text: 'x'.repeat(200),
  }));
}

/** Resolves when a database holds a document that passes. */
export function arrived(db, id, passes = () => true) {
  return new Promise((resolve, reject) => {
    const changes = db.changes({ live: true, since: 0, include_docs: true, doc_ids: [id] });
    changes.on('error', reject);
    changes.on('change', ({ doc }) => {
      if (!passes(doc)) return;
      changes.cancel();
      resolve(doc);
    });
  });
}

/** Resolves when a database holds so many documents: batches in flight may end in any order. */
export function allArrived(db, count) {
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

/** Every leaf of every document with its body, and which of them wins. */
export async function localContent(db) {
  const { results } = await db.changes({ style: 'all_docs', since: 0 });
  const docs = results.flatMap(({ id, changes }) => changes.map(({ rev }) => ({ id, rev })));
  if (docs.length === 0) return { leaves: [], winners: [] };
  const { results: found } = await db.bulkGet({ docs, revs: true });
  const leaves = found.flatMap((row) => row.docs.map(({ ok }) => ok));
  const { rows } = await db.allDocs();
  return content(leaves, rows);
}

/** The same of a database behind a gateway, read without the client under test. */
export async function remoteContent(url, name) {
  const socket = new WebSocket(url, 'settee.v1');
  const leaves = [];
  const rows = [];
  let running = 2;
  await new Promise((resolve, reject) => {
    const send = (...message) => socket.send(JSON.stringify(message));
    socket.on('error', reject);
    socket.on('open', () => send('open', 1, { database: name, credentials: CREDENTIALS }));
    socket.on('message', (data) => {
      const [verb, , call, value] = JSON.parse(String(data));
      if (verb === 'opened') {
        send('call', 1, 1, 'changes', { style: 'all_docs', docs: true, credit: 16 });
        send('call', 1, 2, 'all_docs', { credit: 16 });
      } else if (verb === 'rows') {
        if (call === 1) leaves.push(...value.flatMap((row) => row.docs ?? []));
        else rows.push(...value);
        send('more', 1, call, 1);
      } else if (verb === 'end') {
        running -= 1;
        if (running === 0) resolve();
      } else if (verb === 'refused' || verb === 'fail') reject(new Error(String(data)));
    });
  });
  socket.terminate();
  return content(leaves, rows);
}

function content(leaves, rows) {
  const byKey = (a, b) => (a.key < b.key ? -1 : 1);
  return {
    leaves: leaves.map(leaf).sort(byKey),
    winners: rows.map(({ id, value }) => ({ key: id, rev: value.rev })).sort(byKey),
  };
}

function leaf({ _id, _rev, _revisions, _attachments = {}, ...body }) {
  const attachments = Object.entries(_attachments).map(
    ([name, { digest, content_type, length }]) => ({ name, digest, content_type, length }),
  );
  attachments.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { key: `${_id} ${_rev}`, history: _revisions.ids, attachments, body: sorted(body) };
}

function sorted(object) {
  return Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));
}
