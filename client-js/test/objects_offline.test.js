/** Objects while there is no connection, and over many that are cut. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gateway, CREDENTIALS } from './support/gateway.js';
import { remoteContent } from './support/databases.js';
import { byId, objectsOf, watched } from './support/objects.js';
import { Proxy } from './support/proxy.js';
import { rejection } from './support/remotes.js';
import { connected, next } from './support/syncs.js';

/** Pauses for a test that reconnects a hundred times. */
const AT_ONCE = { pauseFirst: 1, pauseMax: 5 };

const CUTS = 100;

async function withProxy(run) {
  const gateway = await Gateway.start();
  const proxy = await Proxy.start(gateway.url);
  const client = connected(proxy.url, AT_ONCE);
  try {
    await run({ gateway, proxy, client });
  } finally {
    await client.end();
    await proxy.stop();
    await gateway.remove();
  }
}

/** Cuts the socket when a write was taken, before its answer is told, so many times. */
function cutAnswers(proxy, cuts) {
  const written = new Set();
  let left = cuts;
  proxy.fromClient = (message) => {
    if (message[0] === 'call' && ['put', 'delete'].includes(message[3])) written.add(`${message[2]}`);
    if (message[0] === 'open') written.clear();
    return message;
  };
  proxy.fromGateway = (message) => {
    if (left === 0 || message[0] !== 'reply' || !written.has(`${message[2]}`)) return message;
    left -= 1;
    proxy.cut();
    return undefined;
  };
  return () => left;
}

const generationOf = ({ _rev }) => Number.parseInt(_rev, 10);

test('over a hundred cuts between a write and its answer each object is made once', () =>
  withProxy(async ({ gateway, proxy, client }) => {
    const left = cutAnswers(proxy, CUTS);
    const objects = objectsOf(client, 'cut');
    const view = objects.subscribe();
    const events = [objects, view].map(watched);
    const made = [];
    for (let n = 0; left() > 0; n += 1) {
      const saved = await objects.save({ n });
      const edits = [objects.save({ ...saved, n: n + 1 }), objects.save({ ...saved, n: n + 2 })];
      made.push(...(await Promise.all(edits)).slice(1));
      if (n % 3 === 0) await objects.destroy(made.pop());
    }
    assert.ok(made.every((object) => generationOf(object) === 3));
    assert.deepEqual(byId(objects.allObjects()), byId(made));
    const { leaves, winners } = await remoteContent(gateway.url, 'cut');
    const expected = byId(made).map(({ _id, _rev }) => ({ key: _id, rev: _rev }));
    assert.deepEqual(winners, expected);
    const open = leaves.filter(({ body }) => !body._deleted);
    const deleted = leaves.filter(({ body }) => body._deleted);
    assert.equal(open.length, made.length, 'there is no second branch');
    assert.ok(deleted.every(({ history }) => history.length === 4));
    events.forEach(({ check }) => check());
  }));

test('an edit whose answer was lost is known again under what others made of it', () =>
  withProxy(async ({ gateway, proxy, client }) => {
    const writer = connected(gateway.url);
    const [mine, theirs] = [objectsOf(client, 'under'), objectsOf(writer, 'under')];
    const saved = await mine.save({ _id: 'a', n: 1 });
    cutAnswers(proxy, 1);
    const lost = next(mine, 'disconnect');
    const saving = mine.save({ ...saved, n: 2 });
    await lost;
    proxy.fromClient = () => undefined;
    const other = await theirs.save({ ...(await theirs.fetch('a')), n: 3 });
    assert.equal(generationOf(other), 3);
    proxy.fromClient = (message) => message;
    proxy.cut();
    assert.equal((await saving).n, 2);
    assert.equal((await mine.fetch('a')).n, 3);
    await writer.end();
  }));

test('an edit that a handler changed and whose answer was lost is a conflict with what is there', () =>
  withProxy(async ({ gateway, proxy, client }) => {
    const objects = objectsOf(client, 'handled');
    const saved = await objects.save({ _id: 'a', n: 1 });
    cutAnswers(proxy, 1);
    const noteWrites = proxy.fromClient;
    proxy.fromClient = (message) => {
      if (message[0] === 'call' && message[3] === 'put') message[4].doc.by = 'handler';
      return noteWrites(message);
    };
    const error = await rejection(objects.save({ ...saved, n: 2 }));
    assert.ok(error.isConflict);
    assert.deepEqual([error.object.n, error.object.by], [2, 'handler']);
    assert.deepEqual(objects.allObjects(), [error.object]);
    const { leaves } = await remoteContent(gateway.url, 'handled');
    assert.equal(leaves.length, 1, 'it was made once');
  }));

test('what is destroyed without being known is destroyed once, not what is made of it since', () =>
  withProxy(async ({ gateway, proxy, client }) => {
    const writer = connected(gateway.url);
    const [mine, theirs] = [objectsOf(client, 'unknown'), objectsOf(writer, 'unknown')];
    await theirs.save({ _id: 'a', n: 1 });
    cutAnswers(proxy, 1);
    const lost = next(mine, 'disconnect');
    const destroying = mine.destroy('a');
    await lost;
    proxy.fromClient = () => undefined;
    await theirs.fetch('a');
    const again = await theirs.save({ _id: 'a', n: 2 });
    assert.equal(generationOf(again), 3);
    proxy.fromClient = (message) => message;
    proxy.cut();
    await destroying;
    assert.deepEqual(await mine.fetch('a'), again);
    await writer.end();
  }));

test('an edit that follows one that destroys what is not known does not take it as seen', () =>
  withProxy(async ({ gateway, proxy, client }) => {
    const writer = connected(gateway.url);
    const [mine, theirs] = [objectsOf(client, 'unseen'), objectsOf(writer, 'unseen')];
    const kept = await theirs.save({ _id: 'a', n: 1 });
    const forbidden = { error: 'forbidden', reason: 'not this one', status: 403 };
    proxy.fromClient = (message, reply) => {
      if (message[0] !== 'call' || message[3] !== 'delete') return message;
      reply(['fail', message[1], message[2], forbidden]);
      return undefined;
    };
    const [destroying, saving] = [mine.destroy('a'), mine.save({ _id: 'a', n: 2 })];
    assert.equal((await rejection(destroying)).status, 403);
    assert.ok((await rejection(saving)).isConflict);
    assert.deepEqual(await mine.fetch('a'), kept);
    await writer.end();
  }));

test('a view over many cuts loses nothing and tells nothing twice', () =>
  withProxy(async ({ gateway, proxy, client }) => {
    const writer = connected(gateway.url);
    const theirs = objectsOf(writer, 'followed');
    await theirs.save({ _id: 'begin', n: 1 });
    const objects = objectsOf(client, 'followed');
    const views = [{}, { selector: { n: { $gt: 0 } } }, { ids: ['o1', 'o2', 'end'] }];
    const shown = views.map((definition) => objects.subscribe(definition));
    const events = shown.map(watched);
    await Promise.all(shown.map((view) => view.ready));
    const ends = shown.map((view) => next(view, 'create', ({ _id }) => _id === 'end'));
    for (let n = 0; n < 300; n += 1) {
      const object = { _id: `o${n % 7}`, n: (n % 5) - 1, at: n };
      await (n % 11 === 10 ? theirs.destroy(object._id) : theirs.save(object));
      if (n % 10 === 0) proxy.cut();
    }
    await theirs.save({ _id: 'end', n: 1 });
    await Promise.all(ends);
    events.forEach(({ check }) => check());
    const all = byId(theirs.allObjects());
    const expected = [() => true, ({ n }) => n > 0, ({ _id }) => ['o1', 'o2', 'end'].includes(_id)];
    shown.forEach((view, index) => assert.deepEqual(byId(view.list()), all.filter(expected[index])));
    await writer.end();
  }));

test('a view that failed does not keep the database from opening again', () =>
  withProxy(async ({ proxy, client }) => {
    const objects = objectsOf(client, 'failed');
    const view = objects.subscribe({ selector: { n: { $nonsense: 1 } } });
    for (let n = 0; n < 2; n += 1) {
      await rejection(view.ready);
      const back = next(objects, 'connect');
      proxy.cut();
      await back;
    }
    await objects.save({ _id: 'a', n: 1 });
    await view.change({});
    assert.deepEqual(view.list(), objects.allObjects());
  }));

test('without a connection edits are shown, wait, and are sent when there is one', () =>
  withProxy(async ({ gateway, client }) => {
    const objects = objectsOf(client, 'waiting');
    const kept = await objects.save({ _id: 'a', n: 1 });
    const down = next(objects, 'disconnect');
    client.disconnect();
    await down;
    assert.equal(objects.isConnected, false);
    const waiting = [objects.save({ ...kept, n: 2 }), objects.save({ _id: 'b' }), objects.destroy('b')];
    const found = objects.fetch('a');
    assert.deepEqual(objects.allObjects().map(({ n }) => n), [2]);
    const up = next(objects, 'connect');
    client.connect(gateway.url);
    await up;
    await Promise.all(waiting);
    assert.equal((await found).n, 2);
    const { winners } = await remoteContent(gateway.url, 'waiting');
    assert.deepEqual(winners.map(({ key }) => key), ['a']);
  }));

test('what waits is bounded in number and in bytes', () =>
  withProxy(async ({ client }) => {
    client.disconnect();
    const few = objectsOf(client, 'few', { buffer: { requests: 2 } });
    const events = watched(few);
    few.save({ _id: 'a' });
    few.fetch('a');
    for (const third of [few.save({ _id: 'b' }), few.destroy('a'), few.fetch('c')]) {
      assert.equal((await rejection(third)).name, 'buffer_full');
    }
    assert.deepEqual(events.told, ['create a']);
    const small = objectsOf(client, 'small', { buffer: { bytes: 1_000 } });
    small.save({ text: 'ä'.repeat(400) });
    assert.equal((await rejection(small.save({ text: 'ä'.repeat(400) }))).name, 'buffer_full');
    assert.equal(small.allObjects().length, 1);
  }));

test('what waited too long fails, and an edit is taken back', () =>
  withProxy(async ({ gateway, proxy, client }) => {
    const objects = objectsOf(client, 'late', { buffer: { ms: 2_000 } });
    const kept = await objects.save({ _id: 'a', n: 1 });
    const events = watched(objects);
    proxy.fromGateway = (message) => (message[0] === 'reply' ? undefined : message);
    const [edit, fetched] = [objects.save({ ...kept, n: 2 }), objects.fetch('b')];
    const later = objects.save({ ...kept, n: 3 });
    await fetched;
    const error = await rejection(edit);
    assert.deepEqual([error.name, error.id, error.object], ['buffer_expired', 'a', kept]);
    assert.match(error.reason, /not known/);
    assert.equal((await rejection(later)).name, 'buffer_expired');
    assert.deepEqual(objects.allObjects(), [kept]);
    events.check();
    assert.deepEqual((await remoteContent(gateway.url, 'late')).leaves.length, 1);
  }));

test('credentials are asked for anew, for every channel', () =>
  withProxy(async ({ proxy, client }) => {
    const shown = [{ token: 'old' }, CREDENTIALS, CREDENTIALS];
    const objects = objectsOf(client, 'asked', { credentials: async () => shown.shift() });
    await objects.save({ _id: 'a' });
    assert.equal(shown.length, 1);
    const back = next(objects, 'connect');
    proxy.cut();
    await back;
    assert.equal(shown.length, 0);
  }));

test('a client that ends fails what waits', () =>
  withProxy(async ({ client }) => {
    client.disconnect();
    const objects = objectsOf(client, 'ended');
    const waiting = objects.save({ _id: 'a' });
    await client.end();
    assert.equal((await rejection(waiting)).name, 'ended');
    assert.equal((await rejection(objects.fetch('a'))).name, 'ended');
    assert.deepEqual(objects.allObjects(), []);
  }));
