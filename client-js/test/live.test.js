import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Gateway } from './support/gateway.js';
import {
  allArrived,
  arrived,
  database,
  localContent,
  remoteContent,
  smallDocs,
} from './support/databases.js';
import { assertGrammar, connected, live, next, recorded } from './support/syncs.js';

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

test('edits arrive as they are made, both ways, and are not sent back', async () => {
  const [one, other] = [database(), database()];
  const syncs = [client.sync(one, live('edits')), client.sync(other, live('edits'))];
  const events = syncs.map(recorded);
  await Promise.all(syncs.map((sync) => next(sync, 'paused')));

  const first = await one.put({ _id: 'doc', by: 'one' });
  await arrived(other, 'doc', ({ _rev }) => _rev === first.rev);
  const second = await other.put({ _id: 'doc', _rev: first.rev, by: 'other' });
  await arrived(one, 'doc', ({ _rev }) => _rev === second.rev);
  const gone = next(syncs[1], 'change', ({ direction, change }) =>
    direction === 'pull' && change.docs[0]._deleted);
  await one.remove('doc', second.rev);
  await gone;
  await Promise.all(syncs.map((sync) => sync.cancel()));

  const moves = (list) =>
    list.filter(({ name }) => name === 'change').map(({ value }) => value.direction);
  assert.deepEqual(moves(events[0]), ['push', 'pull', 'push']);
  assert.deepEqual(moves(events[1]), ['pull', 'push', 'pull']);
  for (const list of events) {
    assertGrammar(list);
    assert.equal(list.at(-1).name, 'complete');
    assert.equal(list.at(-1).value.push.status, 'cancelled');
  }
  assert.deepEqual(await localContent(one), await localContent(other));
  assert.deepEqual(await localContent(one), await remoteContent(gateway.url, 'edits'));
});

test('the status tells what stands', async () => {
  const db = database();
  const sync = client.sync(db, live('status'));
  assert.equal(sync.status().state, 'catching-up');
  await next(sync, 'status', ({ state }) => state === 'up-to-date');
  const busy = next(sync, 'status', ({ state }) => state === 'catching-up');
  const idle = next(sync, 'paused');
  await db.put({ _id: 'a' });
  await busy;
  await idle;
  const { state, pendingPush, pendingPull, lastError, lastExchange } = sync.status();
  assert.deepEqual({ state, pendingPush, pendingPull, lastError }, {
    state: 'up-to-date',
    pendingPush: 0,
    pendingPull: 0,
    lastError: null,
  });
  assert.ok(Date.now() - lastExchange.getTime() < 60_000);
  await sync.cancel();
  assert.equal(sync.status().state, 'ended');
});

test('ten databases share one socket', async () => {
  const names = Array.from({ length: 10 }, (_, index) => `shared-socket-${index}`);
  let connects = 0;
  const another = connected(gateway.url);
  another.on('connect', () => (connects += 1));
  const pairs = names.map((name) => ({ name, here: database(), there: database() }));
  const syncs = pairs.flatMap(({ name, here, there }) => [
    another.sync(here, live(name)),
    another.sync(there, live(name)),
  ]);
  const arrivals = pairs.map(({ there }) => allArrived(there, 11));
  await Promise.all(pairs.map(({ name, here }) => here.bulkDocs([{ _id: name }, ...smallDocs(10)])));
  await Promise.all(arrivals);
  await Promise.all(syncs.map((sync) => sync.cancel()));
  for (const { name, here, there } of pairs) {
    assert.deepEqual(await localContent(there), await localContent(here));
    assert.deepEqual(await localContent(there), await remoteContent(gateway.url, name));
  }
  assert.equal(connects, 1);
  await another.end();
});

test('a sync begun long after the connection runs at once', async () => {
  const another = connected(gateway.url);
  await next(another, 'connect');
  const db = database();
  await db.put({ _id: 'late' });
  const sync = another.sync(db, live('late-sync'));
  await next(sync, 'change');
  await another.end();
  assert.equal((await sync).push.docs_written, 1);
});

test('many edits at once are read again in pages', async () => {
  const [one, other] = [database(), database()];
  const sync = client.sync(one, live('pages', { batch_size: 5 }));
  await next(sync, 'paused');
  const puts = smallDocs(200).map((doc) => one.put(doc));
  await Promise.all(puts);
  const reached = allArrived(other, 200);
  const pulling = client.sync(other, live('pages'));
  await reached;
  await Promise.all([sync.cancel(), pulling.cancel()]);
  assert.deepEqual(await localContent(one), await remoteContent(gateway.url, 'pages'));
  assert.deepEqual(await localContent(other), await localContent(one));
});

test('a local database that is destroyed ends its sync', async () => {
  const db = database();
  const sync = client.sync(db, live('destroyed'));
  await next(sync, 'paused');
  await db.destroy();
  assert.equal((await sync).push.status, 'cancelled');
});
