import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Gateway } from './support/gateway.js';
import { smallDocs } from './support/databases.js';
import { connected } from './support/syncs.js';
import { PouchDB, rejection, remote } from './support/remotes.js';

let gateway;
let client;

before(async () => {
  gateway = await Gateway.start();
  client = connected(gateway.url);
});

after(async () => {
  await client.end();
  await gateway.remove();
});

/** A document with the leaves 3-c (winning), 2-b and the tombstone 2-d. */
async function conflicted(db) {
  const branch = (start, ...ids) => ({ _rev: `${start}-${ids[0]}`, _revisions: { start, ids } });
  await db.bulkDocs(
    [
      { _id: 'doc', n: 3, ...branch(3, 'c', 'cc', 'a') },
      { _id: 'doc', n: 2, ...branch(2, 'b', 'a') },
      { _id: 'doc', _deleted: true, ...branch(2, 'd', 'a') },
    ],
    { new_edits: false },
  );
}

test('a database tells its name, its adapter and what it holds', async () => {
  const db = remote(client, 'told');
  assert.equal(db.name, 'told');
  assert.equal(db.adapter, 'settee');
  assert.equal(db.type(), 'settee');
  await db.bulkDocs(smallDocs(3));
  const info = await db.info();
  assert.equal(info.db_name, 'told');
  assert.equal(info.doc_count, 3);
  assert.equal(info.adapter, 'settee');
  assert.equal(await db.id(), info.uuid);
  assert.equal(await remote(client, 'told').id(), info.uuid);
  assert.deepEqual(await db.compact(), { ok: true });
});

test('the adapter wants a client', () => {
  assert.throws(() => new PouchDB('x', { adapter: 'settee' }), /needs a client/);
});

test('documents are put, posted, read, changed and removed', async () => {
  const db = remote(client, 'written');
  const first = await db.put({ _id: 'a', n: 1 });
  assert.deepEqual(Object.keys(first).sort(), ['id', 'ok', 'rev']);
  const second = await db.put({ _id: 'a', _rev: first.rev, n: 2 });
  assert.deepEqual(await db.get('a'), { _id: 'a', _rev: second.rev, n: 2 });
  const posted = await db.post({ n: 3 });
  assert.equal((await db.get(posted.id)).n, 3);
  const removed = await db.remove('a', second.rev);
  assert.match(removed.rev, /^3-/);
  const again = await db.put({ _id: 'a', n: 4 });
  assert.match(again.rev, /^4-/);
  const read = await new Promise((resolve, reject) =>
    db.get('a', { rev: first.rev }, (error, doc) => (error ? reject(error) : resolve(doc))),
  );
  assert.equal(read.n, 1);
});

test('errors have the shape of PouchDB', async () => {
  const db = remote(client, 'errors');
  const { rev } = await db.put({ _id: 'a' });
  const conflict = await rejection(db.put({ _id: 'a' }));
  assert.ok(conflict instanceof Error);
  const { status, name, message, error, docId } = conflict;
  assert.deepEqual(
    { status, name, message, error, docId },
    { status: 409, name: 'conflict', message: 'Document update conflict', error: true, docId: 'a' },
  );
  const missing = await rejection(db.get('nothing'));
  assert.equal(missing.status, 404);
  assert.equal(missing.name, 'not_found');
  assert.equal(missing.reason, 'missing');
  await db.remove('a', rev);
  const deleted = await rejection(db.get('a'));
  assert.deepEqual([deleted.status, deleted.message, deleted.reason], [404, 'missing', 'deleted']);
  assert.equal((await rejection(db.get(7))).status, 400);
  assert.equal((await rejection(db.get('b', { rev: 'nonsense' }))).status, 400);
  assert.equal((await rejection(db.getAttachment('a', 'x'))).status, 404);
  await new Promise((resolve) =>
    db.get('nothing', (failed) => {
      assert.equal(failed.status, 404);
      resolve();
    }),
  );
});

test('a write of many tells of each, and writes nothing that PouchDB would refuse', async () => {
  const db = remote(client, 'bulk');
  const { rev } = await db.put({ _id: 'b' });
  const rows = await db.bulkDocs([{ _id: 'a' }, { _id: 'b' }, { _id: 'b', _rev: rev, n: 2 }]);
  assert.equal(rows[0].ok, true);
  assert.deepEqual([rows[1].id, rows[1].status, rows[1].error], ['b', 409, true]);
  assert.match(rows[2].rev, /^2-/);
  const invalid = [{ _id: '_bad' }, { _id: 1 }, { _id: 'x', _unknown: 1 }, { _deleted: true }];
  for (const doc of invalid) {
    const error = await rejection(db.bulkDocs([{ _id: 'innocent' }, doc]));
    assert.ok(['bad_request', 'doc_validation', 'missing_id'].includes(error.name), error.name);
  }
  assert.equal((await rejection(db.get('innocent'))).status, 404);
  const replicated = { _id: 'r', _rev: '2-b', _revisions: { start: 2, ids: ['b', 'a'] } };
  assert.deepEqual(await db.bulkDocs([replicated], { new_edits: false }), []);
  assert.equal((await db.get('r'))._rev, '2-b');
  assert.equal((await rejection(db.bulkDocs([{ _id: 'r' }], { new_edits: false }))).status, 400);
});

test('a read shows histories, conflicts and other leaves as asked', async () => {
  const db = remote(client, 'options');
  await conflicted(db);
  const doc = await db.get('doc', { conflicts: true, deleted_conflicts: true, revs: true, revs_info: true });
  assert.equal(doc._rev, '3-c');
  assert.deepEqual(doc._conflicts, ['2-b']);
  assert.deepEqual(doc._deleted_conflicts, ['2-d']);
  assert.deepEqual(doc._revisions, { start: 3, ids: ['c', 'cc', 'a'] });
  assert.deepEqual(doc._revs_info.map(({ rev }) => rev), ['3-c', '2-cc', '1-a']);
  assert.equal((await db.get('doc', { rev: '2-b' })).n, 2);
  assert.equal((await db.get('doc', { rev: '2-cc', latest: true }))._rev, '3-c');
  const all = await db.get('doc', { open_revs: 'all' });
  assert.deepEqual(all.map(({ ok }) => ok._rev).sort(), ['2-b', '2-d', '3-c']);
  const some = await db.get('doc', { open_revs: ['2-b', '9-z'] });
  assert.deepEqual(some.map((one) => one.ok?._rev ?? one.missing), ['2-b', '9-z']);
});

test('bulkGet and revsDiff answer as PouchDB asks, also for names of an object of its own', async () => {
  const db = remote(client, 'bulk-get');
  await conflicted(db);
  await db.put({ _id: 'constructor', n: 1 });
  const docs = [{ id: 'doc', rev: '2-b' }, { id: 'none', rev: '1-x' }, { id: 'constructor' }];
  const { results } = await db.bulkGet({ docs, revs: true });
  assert.deepEqual(results.map(({ id }) => id), ['doc', 'none', 'constructor']);
  assert.deepEqual(results[0].docs[0].ok._revisions, { start: 2, ids: ['b', 'a'] });
  assert.equal(results[1].docs[0].error.name, 'not_found');
  const asked = { doc: ['3-c', '4-x'], constructor: ['1-none'] };
  const diff = await db.revsDiff(asked);
  assert.deepEqual(diff.doc.missing, ['4-x']);
  assert.deepEqual(diff.constructor.missing, ['1-none']);
  assert.deepEqual(await db.revsDiff({ doc: ['3-c'] }), {});
});

const IDS = smallDocs(300).map(({ _id }) => _id);

test('allDocs takes every option of a range', async () => {
  const db = remote(client, 'range');
  await db.bulkDocs(smallDocs(300));
  const ids = async (options) => (await db.allDocs(options)).rows.map(({ id }) => id);
  assert.deepEqual(await ids({}), IDS);
  assert.deepEqual(await ids({ descending: true, limit: 2 }), [IDS[299], IDS[298]]);
  assert.deepEqual(await ids({ startkey: IDS[3], endkey: IDS[5] }), IDS.slice(3, 6));
  assert.deepEqual(await ids({ start_key: IDS[3], end_key: IDS[5] }), IDS.slice(3, 6));
  assert.deepEqual(await ids({ startkey: IDS[3], endkey: IDS[5], inclusive_end: false }), IDS.slice(3, 5));
  assert.deepEqual(await ids({ key: IDS[7] }), [IDS[7]]);
  assert.deepEqual(await ids({ skip: 200 }), IDS.slice(200));
  assert.deepEqual(await ids({ skip: 100, limit: 150 }), IDS.slice(100, 250));
  assert.deepEqual(await ids({ limit: 0 }), []);
  const page = await db.allDocs({ skip: 2, limit: 1, include_docs: true, update_seq: true });
  assert.deepEqual([page.total_rows, page.offset], [300, 2]);
  assert.equal(page.rows[0].doc.index, 2);
  assert.equal(page.update_seq, (await db.info()).update_seq);
});

test('allDocs of keys keeps their order, and tells what is not there', async () => {
  const db = remote(client, 'keys');
  await db.bulkDocs(smallDocs(5));
  const { _rev } = await db.get(IDS[1]);
  await db.remove(IDS[1], _rev);
  const keys = [IDS[2], 'none', IDS[1], IDS[0]];
  const { rows, total_rows } = await db.allDocs({ keys, include_docs: true });
  assert.equal(total_rows, 4);
  assert.deepEqual(rows.map(({ key }) => key), keys);
  assert.equal(rows[1].error, 'not_found');
  assert.equal(rows[2].value.deleted, true);
  assert.equal(rows[2].doc, null);
  assert.equal(rows[3].doc.index, 0);
  const some = await db.allDocs({ keys, descending: true, skip: 1, limit: 2 });
  assert.deepEqual(some.rows.map(({ key }) => key), [IDS[1], 'none']);
  assert.deepEqual((await db.allDocs({ keys: [] })).rows, []);
  assert.equal((await rejection(db.allDocs({ keys, key: 'x' }))).name, 'query_parse_error');
  await conflicted(db);
  const [row] = (await db.allDocs({ key: 'doc', include_docs: true, conflicts: true })).rows;
  assert.deepEqual(row.doc._conflicts, ['2-b']);
});

test('local documents are kept beside the others', async () => {
  const db = remote(client, 'locals');
  const { rev } = await db.put({ _id: '_local/x', n: 1 });
  await db.put({ _id: '_local/x', _rev: rev, n: 2 });
  const doc = await db.get('_local/x');
  assert.equal(doc.n, 2);
  assert.equal((await rejection(db.put({ _id: '_local/x', _rev: rev }))).status, 409);
  await db.remove(doc);
  assert.equal((await rejection(db.get('_local/x'))).status, 404);
  assert.deepEqual((await db.allDocs()).rows, []);
});

test('a database is destroyed where the grant allows it, and another of its name lives on', async () => {
  const db = remote(client, 'namesake');
  const local = new PouchDB('namesake', { adapter: 'memory' });
  await Promise.all([db.put({ _id: 'a' }), local.put({ _id: 'a' })]);
  const ends = [];
  db.once('destroyed', () => ends.push('remote'));
  local.once('destroyed', () => ends.push('local'));
  const { uuid } = await db.info();
  assert.deepEqual(await db.destroy(), { ok: true });
  assert.deepEqual(ends, ['remote']);
  await assert.rejects(db.get('a'), /destroyed/);
  const other = remote(client, 'namesake');
  assert.notEqual((await other.info()).uuid, uuid);
  await local.destroy();
  assert.deepEqual(ends, ['remote', 'local']);
  assert.equal((await other.info()).doc_count, 0);
});

test('a closed database frees its channel', async () => {
  // A connection has 32 channels.
  for (let round = 0; round < 40; round += 1) {
    const db = remote(client, 'closed');
    await db.info();
    await db.close();
    await assert.rejects(db.info(), /closed/);
  }
});

test('calls of one database do not wait behind those of another', async () => {
  const [busy, calm] = [remote(client, 'busy'), remote(client, 'calm')];
  await Promise.all([busy.bulkDocs(smallDocs(500)), calm.put({ _id: 'a' })]);
  let answered = 0;
  const reads = Array.from({ length: 3_000 }, (_, index) =>
    busy.get(IDS[index % 300]).then(() => (answered += 1)),
  );
  await calm.get('a');
  assert.ok(answered < 1_000, `${answered} reads of the other database came first`);
  await Promise.all(reads);
});
