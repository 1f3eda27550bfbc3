import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CREDENTIALS, Gateway } from './support/gateway.js';
import { arrived, database, localContent, remoteContent } from './support/databases.js';
import { Proxy } from './support/proxy.js';
import { assertGrammar, connected, live, next, oneShot, QUICK, recorded } from './support/syncs.js';

test('a client that disconnects stays away until it connects again, and loses nothing', async () => {
  const gateway = await Gateway.start();
  const proxy = await Proxy.start(gateway.url);
  const client = connected(proxy.url);
  const [one, other] = [database(), database()];
  const sync = client.sync(one, live('away'));
  const events = recorded(sync);
  await next(sync, 'paused');
  const attempts = [];
  client.on('reconnect', (attempt) => attempts.push(attempt));

  const down = next(client, 'disconnect');
  client.disconnect();
  await down;
  assert.equal(client.isConnected, false);
  assert.equal(sync.status().state, 'offline');
  await one.put({ _id: 'while-away' });
  // The network coming back is no reason to connect.
  globalThis.dispatchEvent?.(new Event('online'));

  const witness = connected(gateway.url);
  witness.sync(other, live('away'));
  const seen = arrived(other, 'from-other');
  await other.put({ _id: 'from-other' });
  await seen;
  assert.deepEqual(attempts, []);
  assert.equal(await other.get('while-away').catch((error) => error.status), 404);

  const { pushedTo } = sync.status();
  const unsent = await one.changes({ since: Number(pushedTo) });
  assert.deepEqual(unsent.results.map(({ id }) => id), ['while-away']);

  const both = [arrived(other, 'while-away'), arrived(one, 'from-other')];
  client.connect(proxy.url);
  await Promise.all(both);
  assert.deepEqual(attempts, [0]);
  await client.end();
  await witness.end();
  assertGrammar(events);
  assert.deepEqual(await localContent(one), await remoteContent(gateway.url, 'away'));
  await proxy.stop();
  await gateway.remove();
});

test('disconnecting while a connection is being made, or waited for, ends the attempts', async () => {
  const gateway = await Gateway.start();
  const client = connected(gateway.url);
  const sync = client.sync(database(), live('early'));
  client.disconnect();
  client.connect(gateway.url).disconnect();
  client.connect(gateway.url);
  assert.throws(() => client.connect(gateway.url), /connected already/);
  await next(sync, 'status', ({ state }) => state === 'up-to-date');

  const down = next(client, 'disconnect');
  await gateway.kill();
  await down;
  await next(client, 'disconnect');
  client.disconnect();
  await gateway.restart();
  const restarted = next(client, 'reconnect');
  client.connect(gateway.url);
  assert.deepEqual(await restarted, [0, 0]);
  await next(sync, 'status', ({ state }) => state === 'up-to-date');
  await client.end();
  client.disconnect();
  await gateway.remove();
});

test('without retry a sync that begins while disconnected fails', async () => {
  const gateway = await Gateway.start();
  const client = connected(gateway.url, QUICK);
  await client.sync(database(), oneShot('one-shot', { credentials: CREDENTIALS }));
  client.disconnect();
  await assert.rejects(client.sync(database(), oneShot('one-shot')), { name: 'disconnected' });
  await client.end();
  await gateway.remove();
});
