/** Views of objects: what enters, changes and leaves, and what they are while they change. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Gateway } from './support/gateway.js';
import { byId, objectsOf, watched } from './support/objects.js';
import { rejection, remote } from './support/remotes.js';
import { connected, next } from './support/syncs.js';

let gateway;
let client;
let writer;

before(async () => {
  gateway = await Gateway.start();
  client = connected(gateway.url);
  writer = connected(gateway.url);
});

after(async () => {
  await Promise.all([client.end(), writer.end()]);
  await gateway.remove();
});

/** A view of a database, with its events. */
async function follow(database, definition) {
  const objects = objectsOf(client, database);
  const view = objects.subscribe(definition);
  const events = watched(view);
  await view.ready;
  return { objects, view, events };
}

const ids = (objects) => byId(objects).map(({ _id }) => _id);

test('a view of all objects tells what there is and every change', async () => {
  const db = remote(writer, 'all');
  await db.bulkDocs([{ _id: 'a', n: 1 }, { _id: 'b', n: 1 }]);
  await db.remove(await db.get('b'));
  const { objects, view, events } = await follow('all', {});
  assert.deepEqual(view.list(), [await db.get('a')]);
  const gone = next(view, 'destroy');
  const { rev } = await db.put({ ...(await db.get('a')), n: 2 });
  await db.put({ _id: 'c' });
  await db.remove('a', rev);
  await gone;
  assert.deepEqual(events.told, ['create a', 'update a', 'create c', 'destroy a']);
  events.check();
  assert.deepEqual(objects.allObjects(), view.list());
});

test('one that listens from the beginning is told everything', async () => {
  await remote(writer, 'beginning').bulkDocs([{ _id: 'a' }, { _id: 'b' }]);
  const objects = objectsOf(client, 'beginning');
  const view = objects.subscribe();
  const both = [objects, view].map(watched);
  await view.ready;
  for (const { told, check } of both) {
    assert.deepEqual(told, ['create a', 'create b']);
    check();
  }
});

test('an object that no longer matches leaves, and comes back', async () => {
  const db = remote(writer, 'leaves');
  await db.bulkDocs(['a', 'b', 'c', 'd'].map((_id) => ({ _id, done: _id === 'd' })));
  const { objects, view, events } = await follow('leaves', { selector: { done: false } });
  assert.deepEqual(ids(view.list()), ['a', 'b', 'c']);
  events.told.length = 0;
  const edit = async (_id, more) => db.put({ ...(await db.get(_id)), ...more });
  const entered = next(view, 'create');
  await edit('a', { done: true });
  await edit('b', { text: 'new' });
  await db.remove(await db.get('c'));
  await edit('d', { done: false });
  await entered;
  const back = next(view, 'create', ({ _id }) => _id === 'a');
  await edit('a', { done: false });
  await back;
  assert.deepEqual(events.told, ['leave a', 'update b', 'destroy c', 'create d', 'create a']);
  events.check();
  assert.deepEqual(byId(objects.allObjects()), byId(view.list()));
});

test('a view of ids follows these alone', async () => {
  const db = remote(writer, 'ids');
  await db.bulkDocs([{ _id: 'a' }, { _id: 'b' }]);
  const { view, events } = await follow('ids', { ids: ['a', 'c'] });
  const last = next(view, 'create', ({ _id }) => _id === 'c');
  await db.remove(await db.get('a'));
  await db.put({ _id: 'd' });
  await db.put({ _id: 'c' });
  await last;
  assert.deepEqual(events.told, ['create a', 'destroy a', 'create c']);
});

test('a view that changes tells what leaves and what enters, and nothing of what stays', async () => {
  const db = remote(writer, 'changes');
  await db.bulkDocs([1, 2, 3, 4].map((n) => ({ _id: `n${n}`, n })));
  const { objects, view, events } = await follow('changes', { selector: { n: { $lte: 2 } } });
  const all = watched(objects);
  await view.change({ selector: { n: { $gte: 2 } } });
  assert.deepEqual(ids(view.list()), ['n2', 'n3', 'n4']);
  assert.deepEqual(events.told.sort(), ['create n1', 'create n2', 'create n3', 'create n4', 'leave n1']);
  // Only the newest of several definitions counts.
  view.change({ ids: ['n1'] });
  await view.change({ ids: ['n4'] });
  assert.deepEqual(ids(view.list()), ['n4']);
  const changed = next(view, 'update');
  await db.put({ ...(await db.get('n4')), n: 5 });
  assert.equal((await changed)[0].n, 5);
  view.close();
  assert.deepEqual([view.list(), objects.allObjects()], [[], []]);
  events.check();
  all.check();
  assert.equal((await rejection(view.ready)).name, 'closed');
});

test('a view that begins when the database opens tells everything once', async () => {
  await remote(writer, 'opening').put({ _id: 'a' });
  const objects = objectsOf(client, 'opening');
  const begun = new Promise((resolve) => {
    objects.once('connect', () => {
      const view = objects.subscribe();
      resolve({ view, events: watched(view) });
    });
  });
  const { view, events } = await begun;
  await view.ready;
  assert.deepEqual(events.told, ['create a']);
});

test('an object that two views have stays until both have lost it', async () => {
  await remote(writer, 'two').bulkDocs([{ _id: 'a', n: 1 }, { _id: 'b', n: 2 }]);
  const objects = objectsOf(client, 'two');
  const views = [objects.subscribe({ ids: ['a'] }), objects.subscribe({ selector: { n: 1 } })];
  await Promise.all(views.map((view) => view.ready));
  const events = watched(objects);
  views[0].close();
  assert.deepEqual(events.told, []);
  await objects.fetch('b');
  views[1].close();
  assert.deepEqual(events.told, ['create b', 'leave a']);
});

test('a saved object is known until the view that came to show it has lost it, a fetched one longer', async () => {
  const { objects, view } = await follow('kept', { selector: { open: true } });
  const events = watched(objects);
  const came = next(view, 'create', ({ _id }) => _id === 'a');
  await objects.save({ _id: 'a', open: true });
  await came;
  await objects.save({ _id: 'never shown', open: false });
  await remote(writer, 'kept').put({ _id: 'b', open: true });
  await objects.fetch('b');
  const [a, b] = await Promise.all(['a', 'b'].map((id) => remote(writer, 'kept').get(id)));
  const left = next(view, 'leave', (id) => id === 'b');
  await remote(writer, 'kept').put({ ...a, open: false });
  await remote(writer, 'kept').put({ ...b, open: false });
  await left;
  assert.deepEqual(ids(objects.allObjects()), ['b', 'never shown']);
  events.check();
});

test('an edit is shown in the views at once, and taken back in them', async () => {
  const [mine, theirs] = [objectsOf(client, 'edits'), objectsOf(writer, 'edits')];
  const saved = await theirs.save({ _id: 'a', n: 1 });
  const view = mine.subscribe();
  const some = mine.subscribe({ selector: { n: 1 } });
  await Promise.all([view.ready, some.ready]);
  const events = [view, some].map(watched);
  const left = next(some, 'leave');
  await mine.save({ ...saved, n: 2 });
  const [id] = await left;
  assert.equal(id, 'a');
  assert.deepEqual(events.map(({ told }) => told), [['update a'], ['update a', 'leave a']]);
  await rejection(mine.save({ _id: 'b', _odd: 1 }));
  const gone = mine.destroy({ ...saved, _rev: '1-other' });
  assert.equal((await rejection(gone)).status, 409);
  assert.deepEqual(events[0].told, ['update a', 'create b', 'destroy b', 'destroy a', 'create a']);
  events.forEach(({ check }) => check());
});

test('what crosses an own edit is not told as a step back', async () => {
  const objects = objectsOf(client, 'crossing');
  const views = [objects.subscribe(), objects.subscribe({ selector: { n: { $gte: 0 } } })];
  await Promise.all(views.map((view) => view.ready));
  const events = [objects, ...views].map(watched);
  const revs = [];
  for (const shown of [objects, ...views]) {
    const note = ({ _rev }) => revs.push([shown, Number.parseInt(_rev, 10)]);
    shown.on('create', note).on('update', note);
  }
  for (let n = 0; n < 50; n += 1) await objects.save({ _id: 'a', n });
  const end = views.map((view) => next(view, 'create', ({ _id }) => _id === 'end'));
  await objects.save({ _id: 'end', n: 0 });
  await Promise.all(end);
  for (const shown of [objects, ...views]) {
    const own = revs.filter(([other]) => other === shown).map(([, rev]) => rev).slice(0, -1);
    assert.deepEqual(own, own.toSorted((a, b) => a - b));
  }
  events.forEach(({ check }) => check());
});

test('a selector that is none fails its view alone, until it is changed', async () => {
  const objects = objectsOf(client, 'wrong-view');
  await objects.save({ _id: 'a', n: 1 });
  const view = objects.subscribe({ selector: { n: { $odd: 1 } } });
  const error = await rejection(view.ready);
  assert.equal(error.name, 'invalid_operator');
  await view.change({ selector: { n: 1 } });
  assert.deepEqual(ids(view.list()), ['a']);
  assert.throws(() => objects.subscribe({ filter: 1 }), { name: 'TypeError' });
});

test('a database that is destroyed and made again is read anew', async () => {
  const objects = objectsOf(client, 'again');
  const view = objects.subscribe({ selector: { n: { $gte: 1 } } });
  await objects.save({ _id: 'a', n: 1 });
  await objects.save({ _id: 'b', n: 0 });
  await view.ready;
  const events = watched(objects);
  const closed = next(objects, 'disconnect');
  const failed = next(objects, 'error');
  await remote(writer, 'again').destroy();
  assert.equal((await closed)[0].status, 404);
  assert.equal((await failed)[0].status, 404);
  const db = remote(writer, 'again');
  await db.bulkDocs([{ _id: 'a', n: 2 }, { _id: 'c', n: 3 }]);
  const gone = next(objects, 'destroy');
  await objects.fetch('c');
  await view.ready;
  assert.deepEqual(await gone, ['b']);
  assert.deepEqual(byId(objects.allObjects()).map(({ _id, n }) => [_id, n]), [['a', 2], ['c', 3]]);
  events.check();
});
