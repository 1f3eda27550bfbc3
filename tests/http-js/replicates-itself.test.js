import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Gateway, PouchDB, content, holds, remote, request } from './support.js';

let gateway;
let server;
let origin;

before(async () => {
  gateway = await Gateway.start();
  const script = fileURLToPath(new URL('pouchdb-server.cjs', import.meta.url));
  server = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(createInterface({ input: server.stdout }), 'line');
  origin = line.replace('listening on ', '');
});

after(async () => {
  server.kill('SIGKILL');
  await gateway.remove();
});

/** Has the gateway replicate. */
async function replicate(body) {
  const response = await request(gateway, '/_replicate', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  assert.ok(response.ok, JSON.stringify(answer));
  return answer;
}

/** A database of the gateway, and one of PouchDB's server. */
async function pair(name) {
  const [own, other] = [remote(gateway, name), new PouchDB(`${origin}/${name}`)];
  await Promise.all([own.info(), other.info()]);
  return [own, other];
}

test('the gateway pushes to PouchDB\'s server and pulls from it', async () => {
  const [own, other] = await pair('both');
  await own.bulkDocs([{ _id: 'a', n: 1 }, { _id: 'b', n: 2 }, { _id: 'with space/ü', n: 3 }]);
  await other.bulkDocs([{ _id: 'c', n: 1 }, { _id: 'a', n: 'other' }]);
  const pushed = await replicate({ source: 'both', target: `${origin}/both` });
  assert.equal(pushed.history[0].docs_written, 3);
  const pulled = await replicate({ source: `${origin}/both`, target: 'both' });
  assert.equal(pulled.history[0].doc_write_failures, 0);
  await own.remove(await own.get('b'));
  await replicate({ source: 'both', target: `${origin}/both` });
  assert.deepEqual(await content(other), await content(own));
  assert.equal((await own.get('a', { conflicts: true }))._conflicts.length, 1);
  await assert.rejects(other.get('b'), { status: 404 });
  const again = await replicate({ source: 'both', target: `${origin}/both` });
  assert.equal(again.history[0].docs_read, 0);
});

test('attachments arrive byte for byte at PouchDB\'s server and from it', async () => {
  const [own, other] = await pair('attachments');
  const [small, large] = [Buffer.from('gelbe Rüben\n'), randomBytes(300_000)];
  const attach = (data) => ({ content_type: 'application/octet-stream', data });
  for (const [db, id] of [[own, 'own'], [other, 'other']]) {
    await db.put({ _id: id, _attachments: { 'small.txt': attach(small), 'large.bin': attach(large) } });
  }
  await replicate({ source: 'attachments', target: `${origin}/attachments` });
  await replicate({ source: `${origin}/attachments`, target: 'attachments' });
  for (const db of [own, other]) {
    for (const id of ['own', 'other']) {
      assert.ok(small.equals(await db.getAttachment(id, 'small.txt')), `${id} in ${db.name}`);
      assert.ok(large.equals(await db.getAttachment(id, 'large.bin')), `${id} in ${db.name}`);
    }
  }
});

test('a continuous job brings what PouchDB\'s server gets', async () => {
  const [own, other] = await pair('live');
  const job = { source: `${origin}/live`, target: 'live', continuous: true };
  const { _local_id: id } = await replicate(job);
  await other.put({ _id: 'first' });
  await holds(own, 1);
  await other.put({ _id: 'second' });
  await holds(own, 2);
  assert.deepEqual(await replicate({ ...job, cancel: true }), { ok: true, _local_id: id });
});
