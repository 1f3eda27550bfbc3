import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { replicationId } from '../src/checkpoint.js';
import { Link } from '../src/link.js';
import { CREDENTIALS, Gateway } from './support/gateway.js';
import { database, localContent, remoteContent, smallDocs } from './support/databases.js';
import { assertGrammar, connected, oneShot, recorded } from './support/syncs.js';

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

async function assertEqual(db, name) {
  assert.deepEqual(await localContent(db), await remoteContent(gateway.url, name));
}

test('documents go both ways, with their histories and tombstones', async () => {
  const [one, other] = [database(), database()];
  await one.bulkDocs(smallDocs(5));
  const { rev } = await one.put({ _id: 'edited', version: 1 });
  await one.put({ _id: 'edited', _rev: rev, version: 2 });
  const gone = await one.put({ _id: 'gone' });
  await one.remove('gone', gone.rev);
  await other.put({ _id: 'from-the-other', nested: { list: [1, null, 'ü'] } });

  const pushed = client.sync(one, oneShot('both-ways'));
  const events = recorded(pushed);
  const { push } = await pushed;
  assert.equal(push.docs_written, 7);
  assert.equal(push.status, 'complete');
  assertGrammar(events);

  const { push: second, pull } = await client.sync(other, oneShot('both-ways'));
  assert.equal(pull.docs_written, 7);
  assert.equal(second.docs_written, 1);
  await client.sync(one, oneShot('both-ways'));

  await assertEqual(one, 'both-ways');
  assert.deepEqual(await localContent(one), await localContent(other));
});

test('a change event names direction, counts and documents', async () => {
  const db = database();
  await db.bulkDocs(smallDocs(3));
  const sync = client.sync(db, oneShot('change-event'));
  const events = recorded(sync);
  const info = await sync;
  assert.deepEqual(events.map(({ name }) => name), ['active', 'change', 'paused', 'complete']);
  assert.deepEqual(events[0].value, { direction: 'push' });
  const { direction, change } = events[1].value;
  assert.equal(direction, 'push');
  const { start_time, docs, ...rest } = change;
  assert.ok(start_time instanceof Date);
  assert.deepEqual(docs.map(({ _id }) => _id), smallDocs(3).map(({ _id }) => _id));
  assert.deepEqual(rest, {
    ok: true,
    docs_read: 3,
    docs_written: 3,
    doc_write_failures: 0,
    errors: [],
    last_seq: '3',
    pending: 0,
  });
  assert.deepEqual(events[3].value, info);
  assert.equal(sync.status().state, 'ended');
});

test('both sides keep every conflicting leaf and choose the same winner', async () => {
  const [one, other] = [database(), database()];
  await one.put({ _id: 'shared', side: 'common' });
  await client.sync(one, oneShot('conflicts'));
  await client.sync(other, oneShot('conflicts'));
  for (const [db, side] of [[one, 'one'], [other, 'other']]) {
    const { _rev } = await db.get('shared');
    await db.put({ _id: 'shared', _rev, side });
  }
  await client.sync(one, oneShot('conflicts'));
  await client.sync(other, oneShot('conflicts'));
  await client.sync(one, oneShot('conflicts'));

  const [here, there] = [await one.get('shared', { conflicts: true }), await other.get('shared', { conflicts: true })];
  assert.equal(here._conflicts.length, 1);
  assert.deepEqual(here, there);
  await assertEqual(one, 'conflicts');
  await assertEqual(other, 'conflicts');

  const [loser] = here._conflicts;
  await one.remove('shared', loser);
  await client.sync(one, oneShot('conflicts'));
  await client.sync(other, oneShot('conflicts'));
  assert.equal((await other.get('shared', { conflicts: true }))._conflicts, undefined);
  await assertEqual(other, 'conflicts');
});

test('a sync resumes where the last one ended', async () => {
  const [db, other] = [database(), database()];
  await db.bulkDocs(smallDocs(20));
  await client.sync(db, oneShot('resuming'));
  const again = await client.sync(db, oneShot('resuming'));
  assert.equal(again.push.docs_read, 0);
  assert.equal(again.pull.docs_read, 0);
  assert.equal((await client.sync(other, oneShot('resuming'))).pull.docs_read, 20);
  await db.put({ _id: 'one-more' });
  assert.equal((await client.sync(db, oneShot('resuming'))).push.docs_read, 1);
  assert.equal((await client.sync(other, oneShot('resuming'))).pull.docs_read, 1);
});

test('checkpoints are the same document on both sides', async () => {
  const db = database();
  await db.bulkDocs(smallDocs(2));
  await client.sync(db, oneShot('checkpoints', { pull: false }));
  const { channel, socket } = await rawChannel('checkpoints');
  const id = replicationId({ source: await db.id(), target: channel.opened.info.uuid });
  const { _rev: here, ...local } = await db.get(`_local/${id}`);
  const { _rev: there, ...remote } = await channel.call('get', { id: `_local/${id}` });
  assert.deepEqual(local, remote);
  assert.equal(local.last_seq, '2');
  assert.deepEqual(local.history, [{ last_seq: '2', session_id: local.session_id }]);
  socket.terminate();
});

/** A channel over a socket of its own. */
async function rawChannel(name) {
  const socket = new WebSocket(gateway.url, 'settee.v1');
  socket.binaryType = 'arraybuffer';
  const link = new Link(socket, (error) => assert.fail(error));
  socket.addEventListener('message', ({ data }) => link.receive(data));
  await new Promise((resolve) => socket.addEventListener('open', resolve));
  const channel = await link.open({ database: name, credentials: CREDENTIALS, create: false });
  return { channel, socket };
}

test('one direction alone moves nothing the other way', async () => {
  const [one, other] = [database(), database()];
  await one.put({ _id: 'a' });
  const pushed = await client.sync(one, oneShot('one-way', { pull: false }));
  assert.equal(pushed.pull, undefined);
  await other.put({ _id: 'b' });
  const pulled = await client.sync(other, oneShot('one-way', { push: false }));
  assert.equal(pulled.push, undefined);
  assert.deepEqual((await other.allDocs()).rows.map(({ id }) => id), ['a', 'b']);
  const { winners } = await remoteContent(gateway.url, 'one-way');
  assert.deepEqual(winners.map(({ key }) => key), ['a']);
});

test('doc_ids narrow both directions, and a wider sync leaves no hole', async () => {
  const [one, other] = [database(), database()];
  await one.bulkDocs(smallDocs(4));
  const doc_ids = ['doc-000001', 'doc-000003'];
  await client.sync(one, oneShot('narrow', { doc_ids }));
  const { winners } = await remoteContent(gateway.url, 'narrow');
  assert.deepEqual(winners.map(({ key }) => key), doc_ids);
  await client.sync(one, oneShot('narrow'));
  await client.sync(other, oneShot('narrow', { doc_ids: ['doc-000000'] }));
  assert.deepEqual((await other.allDocs()).rows.map(({ id }) => id), ['doc-000000']);
  await client.sync(other, oneShot('narrow'));
  await assertEqual(other, 'narrow');
});

test('a database that does not exist and may not be made is an error', async () => {
  const sync = client.sync(database(), oneShot('nowhere', { create: false }));
  const events = recorded(sync);
  await assert.rejects(sync, { status: 404, name: 'not_found' });
  assert.deepEqual(events.map(({ name }) => name), ['error']);
});
