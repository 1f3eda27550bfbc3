/** A token that ends while 5,000 documents are on their way. */

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CREDENTIALS, Gateway } from './support/gateway.js';
import { database, localContent, remoteContent, smallDocs } from './support/databases.js';
import { connected, oneShot } from './support/syncs.js';

const DOCS = 5_000;
const SECRET = 'a secret of at least thirty-two bytes';
/** Seconds: enough to open a database with. */
const BRIEFLY = 1;
const LONG = 3_600;

let gateway;
let directory;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'settee-expires-'));
  const config = join(directory, 'settee.toml');
  await writeFile(
    config,
    `[access.jwt]
leeway_s = 0
keys = [{ algorithm = "HS256", secret = "${SECRET}" }]
rules = [{ databases = "user-{name}-*", rights = ["read", "write", "create"] }]
`,
  );
  gateway = await Gateway.start(['--config', config]);
});

after(async () => {
  await gateway.remove();
  await rm(directory, { recursive: true, force: true });
});

function tokenFor(name, seconds) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = { sub: name, exp: Date.now() / 1_000 + seconds };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  const signature = createHmac('sha256', SECRET).update(signed).digest('base64url');
  return { token: `${signed}.${signature}` };
}

/** Fills the side that the documents come from. */
async function fill(db, name, direction) {
  if (direction === 'push') {
    await db.bulkDocs(smallDocs(DOCS));
    return;
  }
  const url = gateway.url.replace('ws', 'http');
  const headers = { authorization: `Bearer ${CREDENTIALS.token}`, 'content-type': 'application/json' };
  const address = new URL(name, url);
  assert.equal((await fetch(address, { method: 'PUT', headers })).status, 201);
  const body = JSON.stringify({ docs: smallDocs(DOCS) });
  const answer = await fetch(`${address}/_bulk_docs`, { method: 'POST', headers, body });
  assert.equal((await answer.json()).filter(({ ok }) => ok).length, DOCS);
}

/** Resolves when the gateway no longer takes a token. */
async function ended({ token }) {
  const headers = { authorization: `Bearer ${token}` };
  const address = new URL('user-anna-any', gateway.url.replace('ws', 'http'));
  while ((await fetch(address, { headers })).status !== 401);
}

/** Lets a database's first batch through, and the others when a token has ended. */
function holdUntilEnded(db, direction, token) {
  const [name, isFirst] =
    direction === 'push'
      ? ['changes', ({ since }) => !since]
      : ['bulkDocs', ([doc]) => doc._id === smallDocs(1)[0]._id];
  const method = db[name].bind(db);
  let waiting;
  const held = async (...args) => {
    waiting ??= ended(token);
    await waiting;
    return method(...args);
  };
  db[name] = (...args) => (isFirst(args[0]) ? method(...args) : held(...args));
  return () => (db[name] = method);
}

async function assertSame(db, name) {
  const [here, there] = [await localContent(db), await remoteContent(gateway.url, name)];
  assert.equal(here.leaves.length, DOCS);
  assert.deepEqual(here, there);
}

for (const direction of ['pull', 'push']) {
  test(`a ${direction} goes on with another token`, async () => {
    const name = `user-anna-refreshed-${direction}`;
    const db = database();
    await fill(db, name, direction);
    const client = connected(gateway.url);
    let asked = 0;
    let release;
    const credentials = () => {
      asked += 1;
      if (asked > 1) return tokenFor('anna', LONG);
      const brief = tokenFor('anna', BRIEFLY);
      release = holdUntilEnded(db, direction, brief);
      return brief;
    };
    await client.sync(db, oneShot(name, { credentials, retry: true }));
    release();
    assert.ok(asked >= 2, 'the first token was not enough');
    await assertSame(db, name);
    await client.end();
  });

  test(`without another token a ${direction} stops with the reason and goes on later`, async () => {
    const name = `user-anna-stopped-${direction}`;
    const db = database();
    await fill(db, name, direction);
    const client = connected(gateway.url);
    const brief = tokenFor('anna', BRIEFLY);
    const release = holdUntilEnded(db, direction, brief);
    const stopped = client.sync(db, oneShot(name, { credentials: brief }));
    await assert.rejects(async () => stopped, { reason: /expired/ });
    release();
    if (direction === 'pull') {
      const { doc_count: arrived } = await db.info();
      assert.ok(arrived < DOCS, 'it ended in the middle');
    }
    await client.sync(db, oneShot(name, { credentials: tokenFor('anna', LONG) }));
    await assertSame(db, name);
    await client.end();
  });
}
