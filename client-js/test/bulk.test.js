import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gateway } from './support/gateway.js';
import { database, localContent, remoteContent, smallDocs } from './support/databases.js';
import { assertGrammar, connected, oneShot, recorded } from './support/syncs.js';

const COUNT = 10_000;

test('documents near the bound of one document go each way', async () => {
  const gateway = await Gateway.start();
  const client = connected(gateway.url);
  const [one, other] = [database(), database()];
  // One message is one frame here: it must pass whole.
  await one.bulkDocs([5, 7].map((n) => ({ _id: `large-${n}`, text: 'x'.repeat(n * 1_000_000) })));
  for (const db of [one, other]) {
    const info = await client.sync(db, oneShot('large'));
    assert.equal(info[db === one ? 'push' : 'pull'].docs_written, 2);
  }
  await client.end();
  assert.deepEqual(await localContent(other), await localContent(one));
  await gateway.remove();
});

test('10,000 documents go each way', async (context) => {
  const gateway = await Gateway.start();
  const client = connected(gateway.url);
  const [one, other] = [database(), database()];
  await one.bulkDocs(smallDocs(COUNT));
  for (const [direction, db] of [['push', one], ['pull', other]]) {
    const began = performance.now();
    const sync = client.sync(db, oneShot('bulk'));
    const events = recorded(sync);
    const info = await sync;
    const ms = Math.round(performance.now() - began);
    context.diagnostic(`first ${direction} of ${COUNT} documents: ${ms} ms`);
    assert.equal(info[direction].docs_written, COUNT);
    assertGrammar(events);
  }
  await client.end();
  assert.deepEqual(await localContent(other), await localContent(one));
  assert.deepEqual(await localContent(other), await remoteContent(gateway.url, 'bulk'));
  await gateway.remove();
});
