import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arrived, database, localContent, remoteContent, smallDocs } from './support/databases.js';
import { client, gateway, proxy } from './support/proxied.js';
import { live, next, oneShot } from './support/syncs.js';

async function idsOf(db) {
  return (await db.allDocs()).rows.map(({ id }) => id);
}

async function idsAt(name) {
  return (await remoteContent(gateway.url, name)).winners.map(({ key }) => key);
}

/** The gateway's database holds what is written here. */
async function stored(name, docs) {
  const db = database();
  await db.bulkDocs(docs);
  await client.sync(db, oneShot(name));
  return db;
}

const even = (doc) => doc._deleted || doc.index % 2 === 0;

test('a filter picks documents in both directions', async () => {
  await stored('filtered', smallDocs(10));
  const db = database();
  await db.bulkDocs([{ _id: 'x1', index: 1 }, { _id: 'x2', index: 2 }]);
  await client.sync(db, oneShot('filtered', { filter: even }));
  const picked = smallDocs(10).filter(even).map(({ _id }) => _id);
  assert.deepEqual(await idsOf(db), [...picked, 'x1', 'x2']);
  assert.deepEqual(await idsAt('filtered'), [...smallDocs(10).map(({ _id }) => _id), 'x2']);
});

test('a filter is given its parameters, and one that throws fails the sync', async () => {
  await stored('parameters', smallDocs(4));
  const db = database();
  const filter = (doc, { query }) => doc.index >= query.from;
  await client.sync(db, oneShot('parameters', { filter, query_params: { from: 2 } }));
  assert.equal((await idsOf(db)).length, 2);
  await client.sync(db, oneShot('parameters', { filter, query_params: { from: 0 } }));
  assert.equal((await idsOf(db)).length, 4, 'other parameters are another replication');
  const broken = client.sync(database(), oneShot('parameters', { filter: (doc) => doc.no.no }));
  await assert.rejects(broken, { status: 400, name: 'bad_request' });
  assert.throws(() => client.sync(db, { filter: 'app/name' }), TypeError);
  assert.throws(() => client.sync(db, { filter, selector: {} }), TypeError);
});

test('a filter sees tombstones, and lets them through or not', async () => {
  const from = await stored('tombstones', smallDocs(2));
  const [all, some] = [database(), database()];
  const pick = (doc) => !doc._deleted;
  await client.sync(all, oneShot('tombstones', { filter: even }));
  await client.sync(some, oneShot('tombstones', { filter: pick }));
  await from.remove(await from.get(smallDocs(1)[0]._id));
  await client.sync(from, oneShot('tombstones'));
  await client.sync(all, oneShot('tombstones', { filter: even }));
  await client.sync(some, oneShot('tombstones', { filter: pick }));
  assert.deepEqual([(await idsOf(all)).length, (await idsOf(some)).length], [0, 2]);
});

test('a selector picks documents in both directions, live too', async () => {
  const from = await stored('selected', smallDocs(10));
  const db = database();
  await db.bulkDocs([{ _id: 'x1', index: 1 }, { _id: 'x20', index: 20 }]);
  const selector = { index: { $gte: 8 } };
  await client.sync(db, oneShot('selected', { selector }));
  const ids = smallDocs(10).map(({ _id }) => _id);
  assert.deepEqual(await idsOf(db), [ids[8], ids[9], 'x1', 'x20']);
  assert.deepEqual(await idsAt('selected'), [...ids, 'x20']);
  const sync = client.sync(db, live('selected', { selector }));
  const others = client.sync(from, live('selected'));
  await from.put({ _id: 'low', index: 1 });
  await from.put({ _id: 'high', index: 30 });
  await arrived(db, 'high');
  await db.put({ _id: 'higher', index: 31 });
  await arrived(from, 'higher');
  await Promise.all([sync.cancel(), others.cancel()]);
  assert.ok(!(await idsOf(db)).includes('low'));
});

test('options of one direction stand over those of both', async () => {
  await stored('own', smallDocs(4));
  const db = database();
  await db.bulkDocs([{ _id: 'x1' }, { _id: 'x2' }]);
  const ids = smallDocs(4).map(({ _id }) => _id);
  const { push, pull } = await client.sync(
    db,
    oneShot('own', { doc_ids: ['x1'], push: { batch_size: 1, batches_limit: 1 }, pull: { doc_ids: [ids[2]] } }),
  );
  assert.deepEqual([push.docs_written, pull.docs_written], [1, 1]);
  assert.deepEqual(await idsOf(db), [ids[2], 'x1', 'x2']);
  assert.deepEqual(await idsAt('own'), [...ids, 'x1']);
});

test('a direction may end before the other', async () => {
  const db = database();
  await db.put({ _id: 'once' });
  const sync = client.sync(db, live('ends', { push: { live: false } }));
  await next(sync, 'change', ({ direction }) => direction === 'push');
  const from = await stored('ends', [{ _id: 'later' }]);
  await arrived(db, 'later');
  await db.put({ _id: 'stays' });
  await sync.cancel();
  await client.sync(from, oneShot('ends'));
  assert.deepEqual(await idsOf(from), ['later', 'once']);
});

test('an empty database is not told of what was deleted before, and of what is deleted then', async () => {
  const from = await stored('fresh', smallDocs(3));
  const [first, second] = await Promise.all(smallDocs(2).map(({ _id }) => from.get(_id)));
  await from.remove(first);
  await client.sync(from, oneShot('fresh'));
  const asked = [];
  proxy.fromClient = (message) => {
    if (message[3] === 'changes') asked.push(message[4].skip_tombstones);
    return message;
  };
  const db = database();
  const sync = client.sync(db, live('fresh'));
  await arrived(db, second._id);
  const pulled = await localContent(db);
  assert.ok(!pulled.leaves.some(({ key }) => key.startsWith(first._id)));
  const others = client.sync(from, live('fresh'));
  await from.remove(second);
  await arrived(db, second._id, ({ _deleted }) => _deleted);
  await Promise.all([sync.cancel(), others.cancel()]);
  await client.sync(db, oneShot('fresh'));
  proxy.fromClient = (message) => message;
  assert.deepEqual([asked[0], asked.at(-1)], [true, false]);
});
