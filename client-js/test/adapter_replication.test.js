import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { CREDENTIALS } from './support/gateway.js';
import {
  allArrived,
  arrived,
  database,
  localContent,
  remoteContent,
  smallDocs,
} from './support/databases.js';
import { client, gateway, proxy } from './support/proxied.js';
import { connected, next } from './support/syncs.js';
import { PouchDB, rejection, remote } from './support/remotes.js';

const LIVE = { live: true, retry: true, back_off_function: () => 20 };

async function assertSame(local, name) {
  assert.deepEqual(await localContent(local), await remoteContent(gateway.url, name));
}

/** Cancels a sync and waits for its end. */
async function ended(sync) {
  const complete = next(sync, 'complete');
  sync.cancel();
  await complete;
}

test('replication goes to and from, and resumes from its checkpoint', async () => {
  const [one, other] = [database(), database()];
  const db = remote(client, 'to-and-from');
  await one.bulkDocs(smallDocs(250));
  const there = await one.replicate.to(db);
  assert.deepEqual([there.ok, there.docs_written, there.doc_write_failures], [true, 250, 0]);
  const here = await other.replicate.from(db);
  assert.equal(here.docs_written, 250);
  assert.deepEqual(await localContent(one), await localContent(other));
  await assertSame(one, 'to-and-from');
  await other.put({ _id: 'more' });
  const more = await PouchDB.sync(other, db);
  assert.deepEqual([more.push.docs_read, more.pull.docs_read], [1, 0]);
  assert.equal((await one.replicate.from(remote(client, 'to-and-from'))).docs_read, 1);
});

test('deletes and edits go both ways live', async () => {
  const [one, other] = [database(), database()];
  const syncs = [one, other].map((db) => PouchDB.sync(db, remote(client, 'live-both'), LIVE));
  const { rev } = await one.put({ _id: 'a', n: 1 });
  const first = await arrived(other, 'a');
  await other.put({ ...first, n: 2 });
  const second = await arrived(one, 'a', ({ n }) => n === 2);
  assert.notEqual(second._rev, rev);
  await one.remove(second);
  await arrived(other, 'a', ({ _deleted }) => _deleted);
  await Promise.all(syncs.map(ended));
  assert.deepEqual(await localContent(one), await localContent(other));
  await assertSame(one, 'live-both');
});

test('conflicts are kept with equal winners', async () => {
  const [one, other] = [database(), database()];
  await Promise.all([
    one.bulkDocs([{ _id: 'a', from: 'one' }, { _id: 'b', from: 'one' }]),
    other.bulkDocs([{ _id: 'a', from: 'other' }, { _id: 'b', from: 'other' }]),
  ]);
  const edited = await one.get('a');
  await one.put({ ...edited, n: 2 });
  const gone = await other.get('b');
  await other.remove(gone);
  const db = remote(client, 'conflicts');
  await PouchDB.sync(one, db);
  await PouchDB.sync(other, db);
  await PouchDB.sync(one, db);
  const [a, b] = await Promise.all([localContent(one), localContent(other)]);
  assert.deepEqual(a, b);
  assert.equal(a.leaves.length, 4);
  await assertSame(one, 'conflicts');
});

test('attachments replicate both ways, byte for byte', async () => {
  const [one, other] = [database(), database()];
  const large = randomBytes(5_000_000);
  await one.put({
    _id: 'a',
    _attachments: {
      text: { content_type: 'text/plain', data: Buffer.from('text').toString('base64') },
      binary: { content_type: 'x/y', data: Buffer.from([0, 255]) },
      large: { content_type: 'x/y', data: large },
    },
  });
  const db = remote(client, 'attached');
  await one.replicate.to(db);
  await other.replicate.from(db);
  assert.equal(Buffer.compare(await other.getAttachment('a', 'large'), large), 0);
  assert.equal(String(await other.getAttachment('a', 'text')), 'text');
  const { _rev } = await other.get('a');
  await other.putAttachment('a', 'text', _rev, Buffer.from('changed'), 'text/plain');
  await PouchDB.sync(other, db);
  await PouchDB.sync(one, db);
  assert.equal(String(await one.getAttachment('a', 'text')), 'changed');
  assert.deepEqual(await localContent(one), await localContent(other));
  await assertSame(one, 'attached');
});

test('two databases behind gateways replicate through the client', async () => {
  const [from, to] = [remote(client, 'from'), remote(client, 'to')];
  await from.bulkDocs([...smallDocs(20), { _id: 'att', _attachments: { x: { content_type: 'x/y', data: 'eA==' } } }]);
  await PouchDB.replicate(from, to);
  assert.deepEqual(await remoteContent(gateway.url, 'to'), await remoteContent(gateway.url, 'from'));
});

test('ten databases share one socket', async () => {
  const { connections } = proxy;
  const names = Array.from({ length: 10 }, (_, index) => `shared-${index}`);
  const fresh = connected(proxy.url);
  const locals = names.map(() => database());
  const syncs = names.map((name, index) => PouchDB.sync(locals[index], remote(fresh, name), LIVE));
  await Promise.all(locals.map((db, index) => db.put({ _id: `${index}` })));
  await Promise.all(names.map((name, index) => seenBy(remote(fresh, name), `${index}`)));
  await Promise.all(syncs.map(ended));
  await fresh.end();
  assert.equal(proxy.connections - connections, 1);
  for (const [index, name] of names.entries()) await assertSame(locals[index], name);
});

/** Resolves when a remote database has a document. */
function seenBy(db, id) {
  return new Promise((resolve, reject) => {
    const feed = db.changes({ live: true, since: 0, doc_ids: [id] });
    feed.on('error', reject);
    feed.on('change', () => {
      feed.cancel();
      resolve(undefined);
    });
  });
}

test('a denied database ends its own replication alone', async () => {
  const [one, other] = [database(), database()];
  await Promise.all([one.put({ _id: 'a' }), other.put({ _id: 'a' })]);
  const denied = remote(client, 'refused', { credentials: { token: 'wrong' } });
  const [error, good] = await Promise.all([
    rejection(one.replicate.to(denied)),
    other.replicate.to(remote(client, 'granted')),
  ]);
  assert.deepEqual([error.status, error.name], [401, 'unauthorized']);
  assert.equal(good.docs_written, 1);
});

test('a denied document is told, the others pass, and it is taken once it is edited', async () => {
  const db = database();
  await db.bulkDocs([{ _id: 'bad' }, { _id: 'good' }]);
  const why = { status: 403, error: 'forbidden', reason: 'not now' };
  const { _rev: rev } = await db.get('bad');
  const refused = new Set();
  proxy.fromClient = (message) => {
    const [verb, channel, call, method, params] = message;
    if (verb !== 'call' || method !== 'bulk_docs') return message;
    if (!params.docs.some(({ _id }) => _id === 'bad')) return message;
    const docs = params.docs.filter(({ _id }) => _id !== 'bad');
    refused.add(call);
    return [verb, channel, call, method, { ...params, docs }];
  };
  proxy.fromGateway = ([verb, channel, call, value, note]) => {
    const isRefusal = verb === 'reply' && refused.delete(call);
    return [verb, channel, call, isRefusal ? [{ id: 'bad', rev, ...why }] : value, note];
  };
  const replication = db.replicate.to(remote(client, 'denied-doc'));
  const [denied] = await next(replication, 'denied');
  assert.deepEqual([denied.id, denied.name, denied.reason], ['bad', 'forbidden', 'not now']);
  const result = await replication;
  proxy.fromClient = (message) => message;
  proxy.fromGateway = (message) => message;
  assert.deepEqual([result.docs_written, result.doc_write_failures], [1, 1]);
  await db.put({ _id: 'bad', _rev: rev, mended: true });
  assert.equal((await db.replicate.to(remote(client, 'denied-doc'))).docs_written, 1);
  await assertSame(db, 'denied-doc');
});

test('a grant that ends in the middle of a sync costs no edit', async () => {
  const db = database();
  await db.bulkDocs(smallDocs(1_000));
  let writes = 0;
  proxy.fromClient = (message, reply) => {
    const isWrite = message[0] === 'call' && message[3] === 'bulk_docs';
    if (!isWrite || (writes += 1) !== 3) return message;
    reply(['closed', message[1], { status: 401, error: 'unauthorized', reason: 'expired' }]);
    return ['close', message[1]];
  };
  let asked = 0;
  const credentials = async () => {
    asked += 1;
    return CREDENTIALS;
  };
  const result = await PouchDB.sync(db, remote(client, 'expired', { credentials }));
  proxy.fromClient = (message) => message;
  assert.equal(asked, 2);
  assert.equal(result.push.docs_written, 1_000);
  await assertSame(db, 'expired');
});

test('a live sync outlives cut sockets and a gateway that is killed', async () => {
  const [one, other] = [database(), database()];
  const syncs = [one, other].map((db) => PouchDB.sync(db, remote(client, 'outlives'), LIVE));
  const rest = allArrived(other, 1_500);
  await one.bulkDocs(smallDocs(1_500));
  await next(syncs[0], 'change');
  proxy.cut();
  await next(syncs[1], 'change');
  const down = next(client, 'disconnect');
  await gateway.kill();
  await down;
  await Promise.all([one.put({ _id: 'away-1' }), other.put({ _id: 'away-2' })]);
  await gateway.restart();
  await Promise.all([rest, arrived(other, 'away-1'), arrived(one, 'away-2')]);
  await Promise.all(syncs.map(ended));
  assert.deepEqual(await localContent(one), await localContent(other));
  await assertSame(one, 'outlives');
});

test('PouchDB takes the winner’s attachments for other revisions, and client.sync does not', async () => {
  const [replicated, synced] = [database(), database()];
  const db = remote(client, 'attachments-of-losers');
  const branch = (first, data) => {
    const ids = [first.repeat(32), 'a'.repeat(32)];
    const file = { content_type: 'text/plain', data: Buffer.from(data).toString('base64') };
    const doc = { _id: 'x', _rev: `2-${ids[0]}`, _revisions: { start: 2, ids } };
    return db.bulkDocs([{ ...doc, _attachments: { file } }], { new_edits: false });
  };
  const options = { remoteName: db.name, credentials: CREDENTIALS, live: false };
  const pull = async () => {
    await replicated.replicate.from(db);
    await client.sync(synced, options);
  };
  await branch('f', 'winner');
  await pull();
  await branch('b', 'loser');
  await pull();
  const [taken, ...right] = await Promise.all(
    [replicated, synced, db].map(async (one) => {
      const rev = `2-${'b'.repeat(32)}`;
      return (await one.getAttachment('x', 'file', { rev })).toString();
    }),
  );
  assert.deepEqual(right, ['loser', 'loser']);
  // pouchdb-replication asks a remote database for them without `rev` once it has the document.
  assert.equal(taken, 'winner');
});

test('10,000 documents go each way', async (context) => {
  const [one, other] = [database(), database()];
  const direct = connected(gateway.url);
  await one.bulkDocs(smallDocs(10_000));
  const began = Date.now();
  await one.replicate.to(remote(direct, 'bulk'), { batch_size: 1_000 });
  const pushed = Date.now();
  await other.replicate.from(remote(direct, 'bulk'), { batch_size: 1_000 });
  const seconds = [pushed - began, Date.now() - pushed].map((ms) => (ms / 1000).toFixed(1));
  context.diagnostic(`to the gateway in ${seconds[0]} s, from it in ${seconds[1]} s`);
  await direct.end();
  assert.deepEqual(await localContent(other), await localContent(one));
  await assertSame(one, 'bulk');
});
