import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { createClient } from '../src/index.js';
import { Gateway } from './support/gateway.js';
import { arrived, database, localContent, remoteContent } from './support/databases.js';
import { connected, live, oneShot } from './support/syncs.js';

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

const TEXT = Buffer.from('gelbe Rüben\n');
const BINARY = Buffer.from([...Array(256).keys()]);
const EMPTY = Buffer.alloc(0);
const LARGE = randomBytes(5 * 1024 * 1024);

function hash(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

test('text, binary, empty and 5 MB arrive byte for byte', async () => {
  const [one, other] = [database(), database()];
  await one.put({
    _id: 'note',
    _attachments: {
      'text.txt': { content_type: 'text/plain', data: TEXT },
      'bytes.bin': { content_type: 'application/octet-stream', data: BINARY },
      empty: { content_type: 'text/plain', data: EMPTY },
    },
  });
  await one.putAttachment('large', 'large.bin', LARGE, 'application/octet-stream');
  await client.sync(one, oneShot('arrive'));
  await client.sync(other, oneShot('arrive'));
  for (const [id, name, bytes] of [
    ['note', 'text.txt', TEXT],
    ['note', 'bytes.bin', BINARY],
    ['note', 'empty', EMPTY],
    ['large', 'large.bin', LARGE],
  ]) {
    const found = await other.getAttachment(id, name);
    assert.ok(Buffer.isBuffer(found));
    assert.equal(hash(found), hash(bytes), name);
  }
  assert.deepEqual(await localContent(other), await remoteContent(gateway.url, 'arrive'));
  assert.deepEqual(await localContent(other), await localContent(one));
});

test('a revision that is purged before its attachment was read is passed over', async () => {
  const [one, other] = [database(), database()];
  const { rev } = await one.putAttachment('purged', 'file', BINARY, 'application/octet-stream');
  await one.put({ _id: 'stays' });
  await client.sync(one, oneShot('purged'));
  const purge = async () => {
    const response = await fetch(`${gateway.url.replace('ws', 'http')}/purged/_purge`, {
      method: 'POST',
      headers: { authorization: 'Bearer secret', 'content-type': 'application/json' },
      body: JSON.stringify({ purged: [rev] }),
    });
    assert.equal(response.status, 201, await response.text());
  };
  let purged;
  class Late extends WebSocket {
    send(data, ...more) {
      if (!String(data).includes('"attachment"')) return super.send(data, ...more);
      purged ??= purge();
      return purged.then(() => super.send(data, ...more));
    }
  }
  const late = createClient({ WebSocket: Late }).connect(gateway.url);
  const { pull } = await late.sync(other, oneShot('purged'));
  assert.equal(pull.docs_written, 1);
  assert.ok(purged, 'its bytes were asked for');
  assert.deepEqual((await other.allDocs()).rows.map(({ id }) => id), ['stays']);
  await late.end();
});

test('an edit that keeps an attachment does not send it again', async () => {
  const [one, other] = [database(), database()];
  const { rev } = await one.putAttachment('kept', 'file', BINARY, 'application/octet-stream');
  await client.sync(one, oneShot('kept'));
  await client.sync(other, oneShot('kept'));
  const doc = await one.get('kept', { rev });
  await one.put({ ...doc, edited: true });
  await client.sync(one, oneShot('kept'));
  await client.sync(other, oneShot('kept'));
  assert.equal((await other.get('kept')).edited, true);
  assert.equal(hash(await other.getAttachment('kept', 'file')), hash(BINARY));
  assert.deepEqual(await localContent(other), await remoteContent(gateway.url, 'kept'));
});

test('bytes of an earlier revision reach a side that never had them', async () => {
  const [one, other] = [database(), database()];
  await one.putAttachment('late', 'file', TEXT, 'text/plain');
  const doc = await one.get('late');
  await one.put({ ...doc, edited: true });
  await client.sync(one, oneShot('late'));
  await client.sync(other, oneShot('late'));
  assert.equal(hash(await other.getAttachment('late', 'file')), hash(TEXT));
  assert.deepEqual(await localContent(other), await remoteContent(gateway.url, 'late'));
});

test('attachments are replaced and removed live', async () => {
  const [one, other] = [database(), database()];
  const syncs = [client.sync(one, live('replaced')), client.sync(other, live('replaced'))];
  const first = await one.putAttachment('doc', 'file', TEXT, 'text/plain');
  await arrived(other, 'doc', (doc) => doc._rev === first.rev);
  assert.equal(hash(await other.getAttachment('doc', 'file')), hash(TEXT));
  const second = await other.putAttachment('doc', 'file', first.rev, BINARY, 'application/x');
  await arrived(one, 'doc', (doc) => doc._rev === second.rev);
  assert.equal(hash(await one.getAttachment('doc', 'file')), hash(BINARY));
  const third = await one.removeAttachment('doc', 'file', second.rev);
  await arrived(other, 'doc', (doc) => doc._rev === third.rev);
  await assert.rejects(other.getAttachment('doc', 'file'), { status: 404 });
  await Promise.all(syncs.map((sync) => sync.cancel()));
  assert.deepEqual(await localContent(one), await remoteContent(gateway.url, 'replaced'));
});

test('conflicting leaves keep their own attachments', async () => {
  const [one, other] = [database(), database()];
  await one.putAttachment('doc', 'file', TEXT, 'text/plain');
  await other.putAttachment('doc', 'file', BINARY, 'text/plain');
  for (const db of [one, other, one]) await client.sync(db, oneShot('conflicting'));
  assert.deepEqual(await localContent(one), await localContent(other));
  for (const db of [one, other]) {
    const { _rev, _conflicts } = await db.get('doc', { conflicts: true });
    const found = await Promise.all(
      [_rev, ..._conflicts].map((rev) => db.getAttachment('doc', 'file', { rev })),
    );
    assert.deepEqual(found.map(hash).sort(), [hash(TEXT), hash(BINARY)].sort());
  }
});
