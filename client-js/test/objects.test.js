/** Plain objects: saved, deleted, fetched, shown at once and taken back. */

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { DeniedError } from '../src/index.js';
import { nextRev } from '../src/objects-rev.js';
import { CREDENTIALS, Gateway } from './support/gateway.js';
import { objectsOf, watched } from './support/objects.js';
import { rejection, remote } from './support/remotes.js';
import { connected, next } from './support/syncs.js';

const CONFIG = `
[[validate.rules]]
databases = "adults"
selector = { age = { "$gte" = 18 } }

[[access.tokens]]
name = "writer"
token = "writes only"
rules = [{ databases = "written", rights = ["write"] }]
`;

let gateway;
let client;
let directory;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'settee-objects-'));
  const config = join(directory, 'settee.toml');
  await writeFile(config, CONFIG);
  gateway = await Gateway.start(['--config', config]);
  client = connected(gateway.url);
});

after(async () => {
  await client.end();
  await gateway.remove();
  await rm(directory, { recursive: true, force: true });
});

test('a saved object gets an id, a revision and is there for others', async () => {
  const todos = objectsOf(client, 'saved');
  const object = { title: 'milk', tags: ['a', { b: 1 }] };
  const saved = await todos.save(object);
  assert.deepEqual(object, { title: 'milk', tags: ['a', { b: 1 }] });
  assert.deepEqual(saved, { ...object, _id: saved._id, _rev: saved._rev });
  assert.match(saved._id, /^[0-9a-f]{32}$/);
  const other = objectsOf(client, 'saved');
  assert.deepEqual(await other.fetch(saved._id), saved);
  const changed = await todos.save({ ...saved, done: true });
  assert.match(changed._rev, /^2-/);
  await todos.destroy(changed);
  assert.equal(await other.fetch(saved._id), undefined);
  assert.deepEqual([todos.allObjects(), other.allObjects()], [[], []]);
});

test('fetched objects are among all objects, those that are not there are left out', async () => {
  const db = remote(client, 'fetched');
  await db.bulkDocs([{ _id: 'a', n: 1 }, { _id: 'b', n: 2 }, { _id: 'c', n: 3 }]);
  const objects = objectsOf(client, 'fetched');
  const events = watched(objects);
  const found = await objects.fetch(['a', 'nobody', 'b']);
  assert.deepEqual(found.map(({ _id, n }) => [_id, n]), [['a', 1], ['b', 2]]);
  assert.deepEqual(objects.allObjects(), found);
  const { rev } = await db.put({ ...(await db.get('a')), n: 10 });
  assert.equal((await objects.fetch('a'))._rev, rev);
  assert.equal(await objects.fetch('nobody'), undefined);
  objects.forget('b');
  assert.deepEqual(events.told, ['create a', 'create b', 'update a', 'leave b']);
  events.check();
});

test('any number of requests may be made at once', async () => {
  const objects = objectsOf(client, 'many');
  const saved = await Promise.all(Array.from({ length: 500 }, (_, n) => objects.save({ n })));
  const other = objectsOf(client, 'many');
  const found = await Promise.all(saved.map(({ _id }) => other.fetch(_id)));
  assert.deepEqual(found, saved);
});

test('an object is shown at once, with the revision that it will have', async () => {
  const objects = objectsOf(client, 'at-once');
  const events = watched(objects);
  const saving = objects.save({ _id: 'a', n: 1 });
  const [shown] = objects.allObjects();
  assert.deepEqual(await saving, shown);
  const again = [2, 3, 4].map((n) => objects.save({ _id: 'a', n }));
  const last = objects.allObjects()[0];
  assert.match(last._rev, /^4-/);
  assert.deepEqual((await Promise.all(again)).at(-1), last);
  const destroyed = objects.destroy('a');
  assert.deepEqual(objects.allObjects(), []);
  await destroyed;
  assert.deepEqual(events.told, ['create a', 'update a', 'update a', 'update a', 'destroy a']);
  assert.match((await objects.save({ _id: 'a', n: 5 }))._rev, /^6-/);
});

test('revisions are named here as the gateway names them', async () => {
  const db = remote(client, 'named');
  const objects = objectsOf(client, 'named');
  const bodies = [
    {},
    { b: [1.5, -0, 1e21, 1e-7, null, true], a: { z: { y: 1 }, Z: 2 } },
    { 'ü\u0001"\\\n\u2028': '\ud83d\ude00', '\uffee': 1, '\ud83d\ude00': 2, '10': 3, '9': 4 },
    { date: new Date(0), gone: undefined },
  ];
  for (const [index, body] of bodies.entries()) {
    const { _rev, ...doc } = await objects.save({ _id: `body-${index}`, ...body });
    assert.equal(_rev, nextRev(undefined, doc));
    const { rev } = await db.remove(doc._id, _rev);
    assert.equal(rev, nextRev(_rev, undefined));
  }
  const type = 'text/plain';
  const [b, a] = ['aGk=', ''].map((data) => ({ content_type: type, data }));
  await db.put({ _id: 'with', _attachments: { 'b.txt': b, a } });
  const held = await objects.fetch('with');
  const { _rev, ...doc } = await objects.save({ ...held, n: 1 });
  assert.equal(_rev, nextRev(held._rev, doc));
  assert.deepEqual(Object.keys((await db.get('with'))._attachments), ['a', 'b.txt']);
});

test('an object that did not change is not sent, unless that is asked for', async () => {
  const objects = objectsOf(client, 'unchanged');
  await objects.subscribe().ready;
  const saved = await objects.save({ _id: 'a', x: 1, y: { z: 2 } });
  assert.deepEqual(await objects.save({ y: { z: 2 }, x: 1, _id: 'a' }), saved);
  assert.deepEqual(await objects.save(saved), saved);
  const [first, second] = [objects.save({ ...saved, x: 2 }), objects.save({ ...saved, x: 2 })];
  assert.deepEqual(await first, await second);
  assert.match((await objects.save(await first, { always: true }))._rev, /^3-/);
});

test('an object that nobody follows is sent, since it may have changed', async () => {
  const [mine, theirs] = [objectsOf(client, 'unfollowed'), objectsOf(client, 'unfollowed')];
  const saved = await mine.save({ _id: 'a', n: 1 });
  await theirs.save({ ...(await theirs.fetch('a')), n: 2 });
  const failed = mine.subscribe({ selector: { n: { $nonsense: 1 } } });
  await rejection(failed.ready);
  assert.ok((await rejection(mine.save(saved))).isConflict);
  assert.equal((await mine.save({ _id: 'a', n: 1 })).n, 1);
  assert.equal((await theirs.fetch('a')).n, 1);
});

test('a conflict is told with the object of the gateway, which is shown again', async () => {
  const [mine, theirs] = [objectsOf(client, 'conflict'), objectsOf(client, 'conflict')];
  const saved = await mine.save({ _id: 'a', n: 1 });
  const other = await theirs.save({ ...(await theirs.fetch('a')), n: 2 });
  const events = watched(mine);
  const denied = next(mine, 'denied');
  const saving = mine.save({ ...saved, n: 3 });
  assert.equal(mine.allObjects()[0].n, 3);
  const error = await rejection(saving);
  assert.ok(error instanceof DeniedError && error.isConflict);
  const { status, name, id, attempted, object } = error;
  assert.deepEqual({ status, name, id, n: attempted.n }, { status: 409, name: 'conflict', id: 'a', n: 3 });
  assert.deepEqual(object, other);
  assert.deepEqual(mine.allObjects(), [other]);
  assert.deepEqual(await denied, [error]);
  assert.deepEqual(events.told, ['update a', 'update a']);
  assert.match((await mine.save({ ...object, n: 3 }))._rev, /^3-/);
  const conflicts = await remote(client, 'conflict').get('a', { conflicts: true });
  assert.equal(conflicts._conflicts, undefined);
});

test('the edits of one client follow each other, also those of an old copy', async () => {
  const objects = objectsOf(client, 'follow');
  const copy = await objects.save({ _id: 'a', n: 1 });
  for (const n of [2, 3]) await objects.save({ ...copy, n });
  await Promise.all([4, 5].map((n) => objects.save({ ...copy, n })));
  assert.equal(objects.allObjects()[0].n, 5);
  assert.match((await objects.fetch('a'))._rev, /^5-/);
});

test('what a validator refuses goes back, and later edits do not suffer', async () => {
  const people = objectsOf(client, 'adults');
  const anna = await people.save({ _id: 'anna', age: 30 });
  const events = watched(people);
  const refused = people.save({ ...anna, age: 3 });
  const taken = people.save({ ...anna, age: 31 });
  const young = people.save({ _id: 'young', age: 5 });
  assert.deepEqual(people.allObjects().map(({ age }) => age), [31, 5]);
  const error = await rejection(refused);
  assert.deepEqual([error.status, error.name, error.id], [403, 'forbidden', 'anna']);
  assert.deepEqual([error.attempted.age, error.object.age], [3, 30]);
  assert.match((await taken)._rev, /^2-/);
  assert.equal((await rejection(young)).object, undefined);
  assert.deepEqual(people.allObjects(), [await taken]);
  await rejection(people.save({ _id: 'anna', age: 4 }));
  assert.deepEqual(people.allObjects(), [await taken]);
  events.check();
  assert.deepEqual(events.told.slice(-2), ['update anna', 'update anna']);
});

test('what is deleted can be destroyed, and what was changed cannot by its old revision', async () => {
  const [mine, theirs] = [objectsOf(client, 'destroyed'), objectsOf(client, 'destroyed')];
  const [a, b] = await Promise.all([mine.save({ _id: 'a' }), mine.save({ _id: 'b', n: 1 })]);
  await theirs.destroy('a');
  for (const gone of [a, 'a', a, 'never-there']) await mine.destroy(gone);
  const { _rev } = await mine.save({ _id: 'a' });
  assert.match(_rev, /^3-/, 'it was deleted once');
  await theirs.save({ ...b, n: 2 });
  const events = watched(mine);
  const error = await rejection(mine.destroy(b));
  assert.ok(error.isConflict);
  assert.deepEqual([error.attempted, error.object.n], [undefined, 2]);
  assert.deepEqual(events.told, ['destroy b', 'create b']);
  await mine.destroy('b');
  assert.deepEqual(mine.allObjects(), [{ _id: 'a', _rev }]);
});

test('who may not read can save, and is told of a conflict without the object', async () => {
  const readers = objectsOf(client, 'written');
  const saved = await readers.save({ _id: 'a', n: 1 });
  const objects = objectsOf(client, 'written', { credentials: { token: 'writes only' }, create: false });
  const { _rev } = await objects.save({ ...saved, n: 2 });
  assert.equal((await readers.fetch('a'))._rev, _rev);
  const other = await readers.save({ _id: 'a', n: 3 });
  const error = await rejection(objects.save({ _id: 'a', _rev, n: 4 }));
  assert.ok(error.isConflict);
  assert.equal((await objects.save({ ...other, n: 5 })).n, 5);
  assert.equal((await rejection(objects.fetch('a'))).status, 403);
  assert.equal((await rejection(objects.subscribe().ready)).status, 403);
});

test('objects given away are the caller\'s own', async () => {
  const objects = objectsOf(client, 'own');
  objects.on('create', (object) => (object.list = 'spoilt'));
  const saved = await objects.save({ _id: 'a', list: [1] });
  objects.allObjects()[0].list.push(2);
  saved.list.push(3);
  assert.deepEqual((await objects.save(saved)).list, [1, 3]);
  assert.deepEqual(objects.allObjects()[0].list, [1, 3]);
});

test('a denied database fails every request, and harms nobody who does not listen', async () => {
  const objects = client.objects('denied', { credentials: { token: 'wrong' } });
  objects.save({ _id: 'nobody waits for this' });
  assert.equal((await rejection(objects.save({ n: 1 }))).status, 401);
  assert.deepEqual(objects.allObjects(), []);
  const told = next(objects, 'error');
  assert.equal((await rejection(objects.fetch('a'))).status, 401);
  assert.equal((await told)[0].status, 401);
  assert.equal((await rejection(objects.subscribe().ready)).status, 401);
});

test('what is not an object is refused before it is sent', async () => {
  const objects = objectsOf(client, 'wrong');
  for (const wrong of [null, 1, [], { _id: 1 }, { _id: '' }, { _rev: 1 }, { _deleted: true }]) {
    assert.equal((await rejection(objects.save(wrong))).status, 400);
  }
  assert.equal((await rejection(objects.destroy({ n: 1 }))).status, 400);
  assert.equal((await rejection(objects.save({ _odd: 1 }))).name, 'doc_validation');
  objects.close();
  for (const after of [objects.save({}), objects.fetch('a'), objects.destroy('a')]) {
    assert.equal((await rejection(after)).name, 'closed');
  }
  assert.throws(() => objects.subscribe(), { name: 'closed' });
});
