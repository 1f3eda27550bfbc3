import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CREDENTIALS } from './support/gateway.js';
import { smallDocs } from './support/databases.js';
import { client, gateway, proxy } from './support/proxied.js';
import { connected, next } from './support/syncs.js';
import { changesOf, rejection, remote } from './support/remotes.js';

const ids = (rows) => rows.map(({ id }) => id);

async function filled(name, count = 5) {
  const db = remote(client, name);
  await db.bulkDocs(smallDocs(count));
  return db;
}

test('a feed tells each document once, and resumes after a seq', async () => {
  const db = await filled('once');
  const { results, last_seq } = await db.changes({ include_docs: true });
  assert.deepEqual(ids(results), ids(smallDocs(5).map(({ _id: id }) => ({ id }))));
  assert.equal(results[2].doc.index, 2);
  assert.equal(results[2].changes[0].rev, results[2].doc._rev);
  assert.equal(last_seq, (await db.info()).update_seq);
  const { _rev } = results[0].doc;
  await db.remove(results[0].id, _rev);
  const later = await db.changes({ since: last_seq, include_docs: true });
  assert.deepEqual(ids(later.results), [results[0].id]);
  assert.equal(later.results[0].deleted, true);
  assert.equal(later.results[0].doc._deleted, true);
  assert.deepEqual((await db.changes({ since: 'now' })).results, []);
});

test('limits, directions, batches and kept results are as asked', async () => {
  const db = await filled('limits');
  const all = ids((await db.changes()).results);
  const two = await db.changes({ limit: 2 });
  assert.deepEqual(ids(two.results), all.slice(0, 2));
  assert.deepEqual(ids((await db.changes({ since: two.last_seq, batch_size: 2 })).results), all.slice(2));
  assert.deepEqual(ids((await db.changes({ descending: true, limit: 2 })).results), [all[4], all[3]]);
  let told = 0;
  const quiet = await db.changes({ return_docs: false }).on('change', () => (told += 1));
  assert.deepEqual([quiet.results, told], [[], 5]);
});

test('documents are picked by id, function, selector and design document', async () => {
  const db = await filled('picked');
  const all = ids((await db.changes()).results);
  assert.deepEqual(ids((await db.changes({ doc_ids: [all[3], all[1]] })).results), [all[1], all[3]]);
  const filter = (doc, { query }) => doc.index >= query.from;
  const found = await db.changes({ filter, query_params: { from: 3 } });
  assert.deepEqual(ids(found.results), all.slice(3));
  assert.equal(found.results[0].doc, undefined);
  const limited = await db.changes({ filter, query_params: { from: 1 }, limit: 2, include_docs: true });
  assert.deepEqual(limited.results.map(({ doc }) => doc.index), [1, 2]);
  const selected = await db.changes({ selector: { index: { $lt: 2 } } });
  assert.deepEqual(ids(selected.results), all.slice(0, 2));
  await db.put({
    _id: '_design/app',
    filters: { even: 'function (doc) { return doc.index % 2 === 0; }' },
  });
  assert.deepEqual(ids((await db.changes({ filter: 'app/even' })).results), [all[0], all[2], all[4]]);
  assert.deepEqual(ids((await db.changes({ filter: '_design' })).results), ['_design/app']);
  const thrown = await rejection(db.changes({ filter: (doc) => doc.none.none }));
  assert.deepEqual([thrown.status, thrown.name], [400, 'bad_request']);
});

test('a feed shows the leaves and conflicts of a document', async () => {
  const db = remote(client, 'leaves');
  const revision = (hash, more) => ({
    _id: 'doc', _rev: `2-${hash}`, _revisions: { start: 2, ids: [hash, 'a'] }, ...more,
  });
  const docs = [revision('b'), revision('c', { n: 1 }), revision('d', { _deleted: true })];
  await db.bulkDocs(docs, { new_edits: false });
  const [row] = (await db.changes({ style: 'all_docs' })).results;
  assert.deepEqual(row.changes.map(({ rev }) => rev).sort(), ['2-b', '2-c', '2-d']);
  const [shown] = (await db.changes({ include_docs: true, conflicts: true })).results;
  assert.deepEqual(shown.changes, [{ rev: '2-c' }]);
  assert.deepEqual(shown.doc, { _id: 'doc', _rev: '2-c', _conflicts: ['2-b'], n: 1 });
});

test('a live feed tells what is there and what comes, until it is cancelled', async () => {
  const db = await filled('live', 2);
  const feed = db.changes({ live: true, include_docs: true, since: 0 });
  const told = changesOf(feed, 3);
  await db.put({ _id: 'later' });
  assert.deepEqual(ids(await told).at(-1), 'later');
  assert.deepEqual(await feed, { status: 'cancelled' });
  const from = db.changes({ live: true, since: 'now' });
  const [only] = await Promise.all([
    changesOf(from, 1),
    remote(client, 'live').put({ _id: 'other' }),
  ]);
  assert.deepEqual(ids(only), ['other']);
});

test('a live feed outlives cut sockets and a killed gateway, and tells nothing twice', async () => {
  const db = remote(client, 'outlives');
  const other = remote(client, 'outlives');
  const seen = [];
  const feed = db.changes({ live: true, since: 0 }).on('change', ({ id }) => seen.push(id));
  const reached = (count) =>
    seen.length >= count ? undefined : next(feed, 'change', () => seen.length >= count);
  for (let round = 1; round <= 3; round += 1) {
    await other.bulkDocs(smallDocs(200).map((doc) => ({ ...doc, _id: `${round} ${doc._id}` })));
    await reached(round * 200 - 100);
    const up = next(client, 'connect');
    if (round === 2) {
      await gateway.kill();
      await gateway.restart();
    } else proxy.cut();
    await up;
    await reached(round * 200);
  }
  feed.cancel();
  assert.equal(seen.length, 600);
  assert.equal(new Set(seen).size, 600);
});

test('requests wait for a connection, and are refused once the client has ended', async () => {
  const early = connected('ws://127.0.0.1:9');
  const waiting = remote(early, 'waits');
  const refused = rejection(waiting.get('a'));
  const feed = rejection(waiting.changes({ live: true, since: 0 }));
  await next(early, 'disconnect');
  await early.end();
  assert.equal((await refused).name, 'ended');
  assert.equal((await feed).name, 'ended');

  const db = await filled('waits', 1);
  const down = next(client, 'disconnect');
  await gateway.kill();
  await down;
  const read = db.allDocs();
  await gateway.restart();
  assert.equal((await read).rows.length, 1);
});

test('a write whose answer was lost is not written twice', async () => {
  const db = remote(client, 'doubt');
  await db.info();
  const isWrite = ([verb, , , method]) => verb === 'call' && method === 'bulk_docs';
  proxy.fromGateway = (message) => {
    if (message[0] !== 'reply' || !Array.isArray(message[3])) return message;
    proxy.cut();
    return undefined;
  };
  let writes = 0;
  proxy.fromClient = (message) => {
    if (isWrite(message)) writes += 1;
    return message;
  };
  const error = await rejection(db.post({ n: 1 }));
  proxy.fromGateway = (message) => message;
  proxy.fromClient = (message) => message;
  assert.deepEqual([error.status, error.name, writes], [0, 'disconnected', 1]);
  assert.match(error.message, /not known/);
  assert.equal((await db.info()).doc_count, 1);
});

test('a grant that ends is replaced, and a refusal is told', async () => {
  let asked = 0;
  const credentials = async () => {
    asked += 1;
    return asked === 2 ? { token: 'wrong' } : CREDENTIALS;
  };
  const db = remote(client, 'expires', { credentials });
  await db.put({ _id: 'a' });
  const feed = db.changes({ live: true, since: 0 });
  const told = changesOf(feed, 2);
  let cut = false;
  proxy.fromClient = (message, reply) => {
    if (cut || message[0] !== 'call' || message[3] !== 'get') return message;
    cut = true;
    reply(['closed', message[1], { status: 401, error: 'unauthorized', reason: 'expired' }]);
    return ['close', message[1]];
  };
  assert.equal((await db.get('a'))._id, 'a');
  proxy.fromClient = (message) => message;
  assert.equal(asked, 3);
  await db.put({ _id: 'b' });
  assert.deepEqual(ids(await told), ['a', 'b']);

  const denied = remote(client, 'denied', { credentials: { token: 'wrong' } });
  const error = await rejection(denied.get('a'));
  assert.deepEqual([error.status, error.name], [401, 'unauthorized']);
  assert.equal((await rejection(denied.changes())).status, 401);
  const none = remote(client, 'none', { create: false });
  assert.equal((await rejection(none.info())).status, 404);
  await remote(client, 'none').info();
  assert.equal((await none.info()).doc_count, 0);
});
