import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CREDENTIALS, Gateway } from './support/gateway.js';
import { database, localContent, remoteContent } from './support/databases.js';
import { assertGrammar, connected, live, next, oneShot, recorded } from './support/syncs.js';

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

/** More levels than a gateway takes. */
function nested(levels) {
  let value = 1;
  for (let level = 0; level < levels; level += 1) value = [value];
  return value;
}

test('a denied database fails alone, with the reason', async () => {
  const [good, bad] = [database(), database()];
  await good.put({ _id: 'a' });
  const denied = client.sync(bad, live('denied', { credentials: { token: 'wrong' } }));
  const events = recorded(denied);
  const granted = client.sync(good, live('granted'));
  const pushed = next(granted, 'change');
  const error = await denied.catch((thrown) => thrown);
  assert.equal(error.status, 401);
  assert.equal(error.name, 'unauthorized');
  assert.ok(error.message.length > 0);
  assert.equal(error.message, error.reason);
  assert.deepEqual(events, [{ name: 'error', value: error }]);
  await pushed;
  await granted.cancel();
  assert.equal((await granted).push.docs_written, 1);
});

test('a credentials function is asked again after a refusal', async () => {
  const db = database();
  await db.put({ _id: 'a' });
  const shown = [{ token: 'old' }, CREDENTIALS];
  const sync = client.sync(db, live('asked', { credentials: async () => shown.shift() }));
  const events = recorded(sync);
  await next(sync, 'change');
  assert.equal(shown.length, 0);
  assert.equal(events[0].name, 'paused');
  assert.equal(events[0].value.status, 401);
  await sync.cancel();
  assertGrammar(events);
});

test('a credentials function that has no others is not asked for ever', async () => {
  let asked = 0;
  const credentials = () => {
    asked += 1;
    return { token: 'old' };
  };
  const sync = client.sync(database(), live('refused', { credentials }));
  const events = recorded(sync);
  await assert.rejects(sync, { status: 401 });
  assert.equal(asked, 5);
  assertGrammar(events);
});

test('a refused document is told, listed, kept over restarts, and taken once it is mended', async () => {
  const db = database();
  await db.bulkDocs([{ _id: 'bad', value: nested(200) }, { _id: 'good' }, { _id: 'late' }]);
  const first = client.sync(db, oneShot('denied-docs'));
  const events = recorded(first);
  const { push } = await first;
  assertGrammar(events);
  assert.equal(push.docs_written, 2);
  assert.equal(push.doc_write_failures, 1);
  const [denied, ...others] = events.filter(({ name }) => name === 'denied');
  assert.deepEqual(others, []);
  assert.equal(denied.value.direction, 'push');
  assert.equal(denied.value.doc.id, 'bad');
  assert.equal(denied.value.doc.status, 400);
  assert.equal(first.denied()[0].id, 'bad');

  const second = client.sync(db, live('denied-docs'));
  await next(second, 'status', ({ state }) => state === 'some-denied');
  assert.equal(second.denied()[0].id, 'bad');
  await second.retryDenied();
  assert.equal(second.denied().length, 1);
  assert.equal(second.status().state, 'some-denied');

  const { _rev } = await db.get('bad');
  const mended = next(second, 'status', ({ state }) => state === 'up-to-date');
  await db.put({ _id: 'bad', _rev, value: 1 });
  await mended;
  await second.cancel();
  // The history of the mended document holds the refused revision, and brought it along.
  assert.deepEqual(second.denied(), []);
  assert.deepEqual(await localContent(db), await remoteContent(gateway.url, 'denied-docs'));
});
