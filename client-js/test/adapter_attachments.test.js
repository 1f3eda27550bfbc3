import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Gateway } from './support/gateway.js';
import { connected } from './support/syncs.js';
import { Proxy } from './support/proxy.js';
import { rejection, remote } from './support/remotes.js';

let gateway;
let proxy;
let client;
let sent = [];

before(async () => {
  gateway = await Gateway.start();
  proxy = await Proxy.start(gateway.url);
  proxy.fromClient = (message) => {
    sent.push(JSON.stringify(message));
    return message;
  };
  client = connected(proxy.url);
});

after(async () => {
  await client.end();
  await proxy.stop();
  await gateway.remove();
});

const TEXT = 'some text that would be found on the wire';
const BASE64 = Buffer.from(TEXT).toString('base64');

test('attachments are written from base64 and Buffers, and read as either', async () => {
  sent = [];
  const db = remote(client, 'written');
  const binary = Buffer.from([0, 255, 10, 13]);
  await db.put({
    _id: 'a',
    _attachments: {
      'text.txt': { content_type: 'text/plain', data: BASE64 },
      'bytes.bin': { content_type: 'application/x-bytes', data: binary },
      empty: { content_type: 'text/plain', data: '' },
    },
  });
  assert.ok(!sent.some((message) => message.includes(BASE64)), 'no base64 travels');
  const stubs = (await db.get('a'))._attachments;
  assert.deepEqual([stubs['text.txt'].stub, stubs['text.txt'].length], [true, TEXT.length]);
  const inline = (await db.get('a', { attachments: true }))._attachments;
  assert.equal(inline['text.txt'].data, BASE64);
  assert.equal(inline['text.txt'].stub, undefined);
  assert.equal(inline.empty.data, '');
  const read = (await db.get('a', { attachments: true, binary: true }))._attachments;
  assert.deepEqual(Buffer.compare(read['bytes.bin'].data, binary), 0);
  const data = await db.getAttachment('a', 'bytes.bin');
  assert.equal(Buffer.compare(data, binary), 0);
  assert.equal(data.type, 'application/x-bytes');
});

test('attachments are put, replaced and removed one at a time', async () => {
  const db = remote(client, 'one');
  const first = await db.putAttachment('a', 'x', Buffer.from('one'), 'text/plain');
  const second = await db.putAttachment('a', 'y', first.rev, BASE64, 'text/plain');
  const third = await db.putAttachment('a', 'x', second.rev, Buffer.from('changed'), 'text/plain');
  assert.equal(String(await db.getAttachment('a', 'x')), 'changed');
  assert.equal(String(await db.getAttachment('a', 'x', { rev: first.rev })), 'one');
  assert.equal((await rejection(db.putAttachment('a', 'x', first.rev, BASE64, 'text/plain'))).status, 409);
  await db.removeAttachment('a', 'x', third.rev);
  const doc = await db.get('a');
  assert.deepEqual(Object.keys(doc._attachments), ['y']);
  assert.equal((await rejection(db.getAttachment('a', 'x'))).status, 404);
  // A stub keeps the bytes without sending them.
  await db.put({ ...doc, edited: true });
  assert.equal(String(await db.getAttachment('a', 'y')), TEXT);
});

test('an attachment that stays keeps the generation that it came with', async () => {
  const db = remote(client, 'generations');
  const generations = async () => {
    const { _attachments } = await db.get('a');
    return Object.fromEntries(Object.entries(_attachments).map(([name, { revpos }]) => [name, revpos]));
  };
  const first = await db.putAttachment('a', 'x', Buffer.from('one'), 'text/plain');
  const second = await db.putAttachment('a', 'y', first.rev, BASE64, 'text/plain');
  assert.deepEqual(await generations(), { x: 1, y: 2 });
  await db.putAttachment('a', 'x', second.rev, Buffer.from('changed'), 'text/plain');
  assert.deepEqual(await generations(), { x: 3, y: 2 });
  const doc = await db.get('a', { attachments: true });
  await db.put({ ...doc, edited: true });
  assert.deepEqual(await generations(), { x: 4, y: 4 }, 'their bytes came with the edit');
});

test('lists and feeds bring attachments when asked', async () => {
  const db = remote(client, 'lists');
  await db.putAttachment('a', 'x', Buffer.from(TEXT), 'text/plain');
  const asked = { include_docs: true, attachments: true };
  const [row] = (await db.allDocs(asked)).rows;
  assert.equal(row.doc._attachments.x.data, BASE64);
  const [change] = (await db.changes({ ...asked, binary: true })).results;
  assert.equal(String(change.doc._attachments.x.data), TEXT);
  const { results } = await db.bulkGet({ docs: [{ id: 'a' }], attachments: true });
  assert.equal(results[0].docs[0].ok._attachments.x.data, BASE64);
  const [stub] = (await db.changes({ include_docs: true })).results;
  assert.equal(stub.doc._attachments.x.stub, true);
});

test('many attachments and a large one arrive whole', async () => {
  const db = remote(client, 'many');
  const large = randomBytes(5_000_000);
  const docs = Array.from({ length: 20 }, (_, index) => ({
    _id: `doc-${index}`,
    _attachments: Object.fromEntries(
      Array.from({ length: 20 }, (_, name) => [
        `${name}`,
        { content_type: 'text/plain', data: Buffer.from(`${index} ${name}`) },
      ]),
    ),
  }));
  docs.push({ _id: 'large', _attachments: { x: { content_type: 'x/y', data: large } } });
  const rows = await db.bulkDocs(docs);
  assert.ok(rows.every(({ ok }) => ok));
  assert.equal(Buffer.compare(await db.getAttachment('large', 'x'), large), 0);
  assert.equal(String(await db.getAttachment('doc-19', '7')), '19 7');
});

test('an attachment that is not base64 is refused with its document alone', async () => {
  const db = remote(client, 'refused');
  const broken = { content_type: 'text/plain', data: 'not base64!' };
  const rows = await db.bulkDocs([{ _id: 'bad', _attachments: { x: broken } }, { _id: 'good' }]);
  assert.deepEqual([rows[0].id, rows[0].name, rows[0].error], ['bad', 'badarg', true]);
  assert.equal(rows[1].ok, true);
  const stub = { content_type: 'text/plain', stub: true, digest: 'md5-XUFAKrxLKna5cZ2REBfFkg==' };
  const error = await rejection(db.put({ _id: 'stub', _attachments: { x: stub } }));
  assert.deepEqual([error.status, error.name], [412, 'missing_stub']);
});
