import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Gateway, PouchDB, ended, holds, local, remoteFor } from './support.js';

let gateway;
/** The example's authorizer knows this token, and a guest who may only read. */
const TOKEN = 'some token';

before(async () => {
  gateway = await Gateway.startExample('serve_old_clients');
});

after(() => gateway.remove());

/** What a replication is told of documents that were refused. */
function denied(replication) {
  const found = [];
  replication.on('denied', (event) => found.push(event));
  return found;
}

test('a document that the validator refuses is told, and the others arrive', async () => {
  const [one, shared] = [local(), remoteFor(gateway, 'push', TOKEN)];
  await one.bulkDocs([{ _id: 'good' }, { _id: 'bad', text: 'spam' }, { _id: 'fine' }]);
  const push = one.replicate.to(shared);
  const refused = denied(push);
  const result = await push;
  assert.equal(result.ok, true);
  assert.deepEqual([result.docs_written, result.doc_write_failures], [2, 1]);
  assert.equal(refused.length, 1);
  const { id, name, reason } = refused[0];
  assert.deepEqual([id, name, reason], ['bad', 'forbidden', 'this looks like spam']);
  const { rows } = await shared.allDocs();
  assert.deepEqual(rows.map((row) => row.id), ['fine', 'good']);
});

test('a live sync goes on after a refusal, both ways', async () => {
  const [one, other, shared] = [local(), local(), remoteFor(gateway, 'live', TOKEN)];
  const syncs = [one, other].map((db) => PouchDB.sync(db, shared, { live: true, retry: true }));
  const refused = denied(syncs[0]);
  await one.bulkDocs([{ _id: 'bad', text: 'spam' }, { _id: 'good' }]);
  await holds(other, 1);
  await other.put({ _id: 'answer' });
  await holds(one, 3);
  await one.put({ _id: 'later' });
  await holds(other, 3);
  await Promise.all(syncs.map(ended));
  assert.deepEqual(refused.map(({ direction, doc }) => [direction, doc.id]), [['push', 'bad']]);
  await assert.rejects(other.get('bad'), { status: 404 });
});

test('a document that was refused goes once it is mended', async () => {
  const [one, shared] = [local(), remoteFor(gateway, 'mended', TOKEN)];
  const { rev } = await one.put({ _id: 'a', text: 'spam' });
  assert.equal((await one.replicate.to(shared)).doc_write_failures, 1);
  const mended = await one.put({ _id: 'a', _rev: rev, text: 'ham' });
  const result = await one.replicate.to(shared);
  assert.deepEqual([result.docs_written, result.doc_write_failures], [1, 0]);
  assert.equal((await shared.get('a'))._rev, mended.rev);
});

test('a reader gets everything and is refused what it writes', async () => {
  const [one, reading] = [local(), local()];
  await one.put({ _id: 'a' });
  await one.replicate.to(remoteFor(gateway, 'read', TOKEN));
  const shared = remoteFor(gateway, 'read', 'guest');
  const pulled = await reading.replicate.from(shared);
  assert.equal(pulled.docs_written, 1);
  await reading.put({ _id: 'b' });
  const push = reading.replicate.to(shared);
  const refused = denied(push);
  const result = await push;
  assert.deepEqual([result.docs_written, result.doc_write_failures], [0, 1]);
  assert.equal(refused[0].reason, 'You are not allowed to write to this db.');
  await assert.rejects(shared.get('b'), { status: 404 });
});
