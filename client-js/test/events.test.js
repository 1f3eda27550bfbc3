/** Ephemeral events and presence, beside the documents. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CREDENTIALS, Gateway } from './support/gateway.js';
import { database, localContent, remoteContent } from './support/databases.js';
import { Proxy } from './support/proxy.js';
import { connected, next, oneShot } from './support/syncs.js';

let gateway;
before(async () => {
  gateway = await Gateway.start();
});
after(() => gateway.remove());

/** A client that has a name. */
function named(name, url = gateway.url) {
  const client = connected(url);
  client.events.identify({ ...CREDENTIALS, name });
  return client;
}

/** What a listener of an event gets next. */
const heard = (client, event) =>
  new Promise((resolve) => client.events.once(event, (payload, note) => resolve([payload, note])));

/** The next time that this is true of a room's members. */
async function members(room, isTrue) {
  while (!isTrue([...room.members.values()])) {
    await Promise.race(
      ['members', 'join', 'leave', 'state'].map(
        (event) => new Promise((resolve) => room.once(event, resolve)),
      ),
    );
  }
  return [...room.members.values()];
}


test('what is asked for before there is a connection is done once there is one', async () => {
  const client = connected(gateway.url);
  const room = client.events.join('early');
  const sent = client.events.send({ channels: 'early' }, 'hello', { n: 1 });
  const came = heard(client, 'hello');
  client.events.identify({ ...CREDENTIALS, name: 'anna' });
  assert.equal(await sent, 1);
  await room.joined;
  const note = { via: { channels: ['early'] }, from: 'user:anna' };
  assert.deepEqual(await came, [{ n: 1 }, note]);
  assert.equal(client.events.identity.user, 'anna');
  await client.end();
});

test('many listeners hear an event for a user, each connection of whom gets it once', async () => {
  const [one, two, sender] = [named('bert'), named('bert'), named('sender')];
  await Promise.all([one, two].map((client) => next(client, 'identified')));
  const all = [heard(one, 'hi'), heard(one, 'hi'), heard(two, 'hi')];
  assert.equal(await sender.events.send({ users: ['bert', 'bert'] }, 'hi', 1), 2);
  for (const [payload, { via }] of await Promise.all(all)) {
    assert.deepEqual([payload, via], [1, { user: 'bert' }]);
  }
  await Promise.all([one, two, sender].map((client) => client.end()));
});

test('members of a channel see each other come, change and go', async () => {
  const [anna, bert] = [named('anna'), named('bert')];
  const seen = anna.events.join('yard', { presence: true, state: { x: 1 } });
  await seen.joined;
  const room = bert.events.join('yard', { presence: true });
  await room.joined;
  const both = await members(room, (all) => all.length === 2);
  assert.deepEqual(both.map(({ user, state }) => [user, state]), [['anna', { x: 1 }], ['bert', null]]);
  room.setState({ x: 2 });
  await members(seen, (all) => all.some(({ user, state }) => user === 'bert' && state?.x === 2));
  room.leave();
  await members(seen, (all) => all.length === 1);
  await Promise.all([anna.end(), bert.end()]);
});

test('after a lost connection identity, channels and state are there again', async () => {
  const proxy = await Proxy.start(gateway.url);
  const client = named('walker', proxy.url);
  const witness = named('witness');
  const seen = witness.events.join('path', { presence: true });
  const room = client.events.join('path', { presence: true, state: 1 });
  await Promise.all([seen.joined, room.joined]);
  room.setState(2);
  await members(seen, (all) => all.some(({ state }) => state === 2));
  const again = next(client, 'identified');
  proxy.cut();
  await members(seen, (all) => all.length === 1);
  await again;
  await members(seen, (all) => all.some(({ user, state }) => user === 'walker' && state === 2));
  const came = heard(client, 'still-there');
  await witness.events.toChannel('path', 'still-there');
  await came;
  await Promise.all([client.end(), witness.end()]);
  await proxy.stop();
});

test('documents sync on the same connection while events pass', async () => {
  const client = named('busy');
  const db = database();
  let count = 0;
  client.events.on('tick', () => (count += 1));
  await next(client, 'identified');
  const sending = Promise.all(
    Array.from({ length: 200 }, (_, n) => client.events.toUser('busy', 'tick', n)),
  );
  await db.bulkDocs(Array.from({ length: 50 }, (_, n) => ({ _id: `doc-${n}` })));
  await client.sync(db, oneShot('beside-events', { credentials: CREDENTIALS, create: true }));
  assert.deepEqual(await sending, Array(200).fill(1));
  assert.deepEqual(await localContent(db), await remoteContent(gateway.url, 'beside-events'));
  while (count < 200) await heard(client, 'tick');
  await client.end();
});

test('refused credentials are told, and what waits for them fails', async () => {
  const client = connected(gateway.url);
  const sent = client.events.broadcast('never');
  client.events.identify({ token: 'wrong' });
  const [error] = await next(client, 'unidentified');
  assert.equal(error.status, 401);
  await assert.rejects(sent, { status: 401 });
  await assert.rejects(client.events.broadcast('never'), { status: 401 });
  const identified = next(client, 'identified');
  client.events.identify(CREDENTIALS);
  await identified;
  assert.ok((await client.events.broadcast('now')) >= 1);
  await client.end();
  await assert.rejects(client.events.broadcast('late'), { name: 'ended' });
});

test('a function is asked again for credentials after a refusal', async () => {
  const client = connected(gateway.url);
  let asked = 0;
  client.events.identify(async () => ({ token: (asked += 1) < 3 ? 'wrong' : CREDENTIALS.token }));
  await next(client, 'identified');
  assert.equal(asked, 3);
  await client.end();
});

test('an event over the bound is refused alone', async () => {
  const client = named('anna');
  await assert.rejects(client.events.toUser('anna', 'large', 'x'.repeat(70_000)), { status: 413 });
  assert.equal(await client.events.toUser('anna', 'small', 'x'), 1);
  await client.end();
});

test('a backend reaches clients with one request', async () => {
  const client = named('anna');
  await next(client, 'identified');
  const came = heard(client, 'news');
  const url = `${gateway.url.replace(/^ws/, 'http')}/_settee/events`;
  const body = { auth: CREDENTIALS.token, event: 'news', targets: { users: 'anna' }, payload: [1] };
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  assert.deepEqual([answer.status, await answer.json()], [200, { ok: true, reached: 1 }]);
  assert.deepEqual(await came, [[1], { via: { user: 'anna' } }]);
  await client.end();
});
