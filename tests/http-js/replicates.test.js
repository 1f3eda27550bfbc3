import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Gateway, PouchDB, content, ended, holds, local, remote, withoutFailingInfo } from './support.js';

let gateway;

before(async () => {
  gateway = await Gateway.start();
});

after(() => gateway.remove());

test('documents go both ways, and conflicts are the same on all sides', async () => {
  const [one, other, shared] = [local(), local(), remote(gateway, 'both')];
  await one.bulkDocs([{ _id: 'a', n: 1 }, { _id: 'b', n: 2 }, { _id: '_design/d', language: 'x' }]);
  await one.replicate.to(shared);
  await other.replicate.from(shared);
  await one.put({ ...(await one.get('a')), n: 'one' });
  await other.put({ ...(await other.get('a')), n: 'other' });
  await one.remove(await one.get('b'));
  for (const db of [one, other, one]) await PouchDB.sync(db, shared);
  const all = await content(shared);
  assert.deepEqual(await content(one), all);
  assert.deepEqual(await content(other), all);
  const winner = await shared.get('a', { conflicts: true });
  assert.equal(winner._conflicts.length, 1);
  assert.deepEqual(await one.get('a', { conflicts: true }), winner);
  await assert.rejects(shared.get('b'), { status: 404, reason: 'deleted' });
});

test('a live sync brings each change while it runs', async () => {
  const [one, other, shared] = [local(), local(), remote(gateway, 'live')];
  const syncs = [one, other].map((db) => PouchDB.sync(db, shared, { live: true, retry: true }));
  await one.put({ _id: 'from-one' });
  await holds(other, 1);
  await other.put({ _id: 'from-other' });
  await holds(one, 2);
  await shared.put({ _id: 'from-the-gateway' });
  await Promise.all([holds(one, 3), holds(other, 3)]);
  await Promise.all(syncs.map(ended));
});

test('a live sync both ways goes on after the gateway was killed', async () => {
  const [one, other] = [local(), local()];
  const shared = withoutFailingInfo(remote(gateway, 'live-killed'));
  const options = { live: true, retry: true, back_off_function: () => 50 };
  const syncs = [one, other].map((db) => PouchDB.sync(db, shared, options));
  const { rev } = await one.put({ _id: 'before' });
  await holds(other, 1);
  await gateway.kill();
  await one.put({ _id: 'before', _rev: rev, by: 'one' });
  await other.put({ _id: 'before', _rev: rev, by: 'other' });
  await one.put({ _id: 'while-away-one' });
  await other.put({ _id: 'while-away-other' });
  await gateway.restart();
  await Promise.all([holds(one, 3), holds(other, 3)]);
  await one.put({ _id: 'after-one' });
  await other.put({ _id: 'after-other' });
  await Promise.all([holds(one, 5), holds(other, 5)]);
  await Promise.all(syncs.map(ended));
  for (const db of [one, other]) await PouchDB.sync(db, shared);
  await PouchDB.sync(one, shared);
  const all = await content(shared);
  assert.equal(all.filter(({ _id }) => _id === 'before').length, 2);
  assert.deepEqual(await content(one), all);
  assert.deepEqual(await content(other), all);
});

test('attachments arrive byte for byte', async () => {
  const [one, other, shared] = [local(), local(), remote(gateway, 'attachments')];
  const files = {
    'text.txt': Buffer.from('gelbe Rüben\n'),
    'all.bin': Buffer.from([...Array(256).keys()]),
    empty: Buffer.alloc(0),
    'dir/large.bin': randomBytes(2 * 1024 * 1024),
  };
  const attach = (data) => ({ content_type: 'application/octet-stream', data });
  const attachments = Object.entries(files).map(([name, data]) => [name, attach(data)]);
  await one.put({ _id: 'files', _attachments: Object.fromEntries(attachments) });
  const { rev } = await shared.putAttachment('alone', 'x', Buffer.from('x'), 'text/plain');
  await PouchDB.sync(one, shared);
  await other.replicate.from(shared);
  for (const [name, data] of Object.entries(files)) {
    for (const db of [shared, other]) {
      assert.ok(data.equals(await db.getAttachment('files', name)), `${name} in ${db.name}`);
    }
  }
  assert.equal((await one.getAttachment('alone', 'x')).toString(), 'x');
  await shared.removeAttachment('alone', 'x', rev);
  await assert.rejects(shared.getAttachment('alone', 'x'), { status: 404 });
});

test('ten thousand documents', async () => {
  const [one, other, shared] = [local(), local(), remote(gateway, 'many')];
  const docs = Array.from({ length: 10_000 }, (_, n) => ({ _id: `doc-${n}`, n }));
  await one.bulkDocs(docs);
  const pushed = await one.replicate.to(shared, { batch_size: 1000 });
  assert.equal(pushed.docs_written, 10_000);
  assert.equal((await shared.info()).doc_count, 10_000);
  const pulled = await other.replicate.from(shared, { batch_size: 1000 });
  assert.equal(pulled.docs_written, 10_000);
  assert.deepEqual(await content(other), await content(one));
  const again = await other.replicate.from(shared);
  assert.equal(again.docs_read, 0);
});

test('a replication resumes after the gateway was killed', async () => {
  const [one, shared] = [local(), remote(gateway, 'killed')];
  await one.bulkDocs(Array.from({ length: 200 }, (_, n) => ({ _id: `doc-${n}` })));
  await one.replicate.to(shared);
  await gateway.kill();
  await assert.rejects(one.replicate.to(shared));
  await gateway.restart();
  await one.put({ _id: 'later' });
  const result = await one.replicate.to(shared);
  assert.equal(result.docs_read, 1);
  assert.equal((await shared.info()).doc_count, 201);
});
