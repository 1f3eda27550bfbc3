'use strict';
// A client of 2015 and today's client on one database, live, both ways.

const assert = require('node:assert/strict');
const { isDeepStrictEqual } = require('node:util');
const { before, it } = require('node:test');
const { WebSocket } = require('ws-8');

const { CREDENTIALS, Gateway } = require('./support/gateway');
const { Device, POUCHDBS, expectMissingCheckpoints, leaves, read, until } = require('./support/client');

const [createOld, createNew] = ['PouchDB 5.4.5', 'PouchDB 9, unmodified'].map((one) => POUCHDBS[one]);

before(expectMissingCheckpoints);

it('an old client and a new one see each other’s edits and conflicts', async () => {
  const { createClient } = await import('../../client-js/src/index.js');
  const gateway = await Gateway.start();
  const [old, young] = [createOld(), createNew()];
  const device = new Device();
  const client = createClient({ WebSocket }).connect(gateway.url);
  try {
    device.sync(old, 'todos');
    await device.connect(gateway.url);
    const sync = client.sync(young, { remoteName: 'todos', credentials: CREDENTIALS, create: true });

    await old.put({ _id: 'milk', done: false });
    const milk = await until(() => read(young, 'milk'), 'milk at the new client');
    await young.put({ ...milk, done: true });
    await until(async () => (await read(old, 'milk'))?.done === true, 'the update at the old client');

    // Both edit the same revision, each without having seen the other's edit.
    const { _rev } = await old.get('milk');
    const history = { start: 3, ids: ['', _rev.slice(2)] };
    const edit = (id, by) => ({
      ...{ _id: 'milk', _rev: `3-${id}`, by },
      _revisions: { ...history, ids: [id, history.ids[1]] },
    });
    await Promise.all([
      old.bulkDocs([edit('a'.repeat(32), 'old')], { new_edits: false }),
      young.bulkDocs([edit('b'.repeat(32), 'new')], { new_edits: false }),
    ]);
    const both = async (db) => Object.keys((await leaves(db)).milk ?? {}).length === 2;
    await until(async () => (await both(old)) && (await both(young)), 'both edits on both sides');

    await young.remove(await young.get('milk'));
    await until(async () => (await read(old, 'milk'))?.by === 'old', 'the other edit wins');
    await until(async () => isDeepStrictEqual(await leaves(old), await leaves(young)), 'rest');
    await sync.cancel();
  } finally {
    device.end();
    await client.end();
    await gateway.stop();
  }
  assert.deepEqual(await leaves(old), gateway.leaves('todos'));
  assert.deepEqual(await leaves(young), gateway.leaves('todos'));
  await gateway.remove();
});
