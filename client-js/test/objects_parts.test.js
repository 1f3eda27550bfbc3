/** What is known of objects, when news cross each other. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SetteeError } from '../src/errors.js';
import { Requests } from '../src/objects-requests.js';
import { Shown } from '../src/objects-shown.js';
import { Table } from '../src/objects-table.js';
import { ObjectsView } from '../src/objects-view.js';
import { watched } from './support/objects.js';
import { QUICK } from './support/syncs.js';

const row = (place, rev, more = {}) => ({
  id: 'a',
  seq: `${place}-x`,
  changes: [{ rev }],
  ...(more.deleted ? more : { doc: { _id: 'a', _rev: rev, ...more } }),
});

/** A table, what it shows, and its events. */
function table() {
  const shown = new Shown();
  const known = new Table(shown);
  const keeping = (told) => known.take(told, true);
  return { known, keeping, events: watched(shown), revs: () => shown.list().map(({ _rev }) => _rev) };
}

test('an older place does not take back what a newer one told', () => {
  const { keeping, revs, events } = table();
  keeping(row(5, '2-b'));
  keeping(row(4, '1-a'));
  keeping(row(5, '2-b'));
  assert.deepEqual(revs(), ['2-b']);
  keeping(row(7, '3-c', { deleted: true }));
  keeping(row(6, '2-d'));
  assert.deepEqual(revs(), []);
  keeping(row(8, '4-e'));
  assert.deepEqual(events.told, ['create a', 'destroy a', 'create a']);
  events.check();
});

test('a place of what an own edit has replaced is passed over', () => {
  const { known, keeping, revs, events } = table();
  keeping(row(1, '1-a'));
  const write = known.begun('a', { _id: 'a', n: 1 }, '1-a');
  known.ended(write, true, write.rev);
  keeping(row(2, '1-a'));
  assert.deepEqual(revs(), [write.rev]);
  keeping(row(3, write.rev, { n: 1 }));
  assert.deepEqual(events.told, ['create a', 'update a']);
});

test('an answer does not take back what somebody has made of it since', () => {
  const { known, keeping, revs } = table();
  keeping(row(1, '1-a'));
  const write = known.begun('a', { _id: 'a', n: 1 }, '1-a');
  keeping(row(3, '3-theirs'));
  assert.deepEqual(revs(), [write.rev]);
  known.ended(write, true, write.rev);
  assert.deepEqual(revs(), ['3-theirs']);
  const made = known.begun('a', { _id: 'a', n: 2 }, undefined);
  keeping(row(4, '5-gone', { deleted: true }));
  known.ended(made, true, made.rev);
  assert.deepEqual(revs(), []);
});

test('that an object was missing is of no interest once it was made', () => {
  const { known, revs } = table();
  const asked = known.version('a');
  const write = known.begun('a', { _id: 'a' }, undefined);
  known.ended(write, true, write.rev);
  known.takeMissing('a', asked);
  assert.deepEqual(revs(), [write.rev]);
  known.takeMissing('a', known.version('a'));
  assert.deepEqual(revs(), []);
});

test('edits that follow one that was refused take its place', () => {
  const { known, keeping, revs } = table();
  keeping(row(1, '1-a'));
  const [first, second, third] = [1, 2, 3].map((n) => known.begun('a', { _id: 'a', n }, '1-a'));
  assert.deepEqual([second.parent, third.parent], [first.rev, second.rev]);
  assert.equal(known.ended(first, false), second);
  assert.equal(second.parent, '1-a');
  const [copy] = revs();
  assert.equal(known.ended(second, true, '2-other'), third);
  assert.equal(third.parent, '2-other');
  assert.match(revs()[0], /^3-/);
  const taken = third.rev;
  known.ended(third, true, taken);
  assert.notEqual(copy, taken);
  for (const base of ['1-a', copy, taken]) {
    const next = known.begun('a', { _id: 'a', base }, base);
    assert.equal(next.parent, taken);
    known.ended(next, false);
  }
});

test('deleted objects are not remembered for ever', () => {
  const shown = new Shown();
  const known = new Table(shown);
  for (let n = 0; n < 1_001; n += 1) {
    known.take({ id: `o${n}`, seq: `${n + 1}-x`, changes: [{ rev: '2-a' }], deleted: true });
  }
  assert.deepEqual([known.rev('o0'), known.rev('o1')], [undefined, '2-a']);
});

test('a wait longer than a timer can be set to, or without end, sets none that fires at once', (t) => {
  for (const ms of [2 ** 31, Infinity]) {
    const { mock } = t.mock.method(globalThis, 'setTimeout');
    const requests = new Requests(QUICK, { ms });
    const { answer } = requests.add(async () => {});
    answer.catch(() => {});
    requests.fail(new Error('over'));
    assert.deepEqual(mock.calls.map(({ arguments: [, wait] }) => wait), [2 ** 31 - 1]);
    t.mock.restoreAll();
  }
});

test('a view that fails again and again leaves nothing behind at its channel', async () => {
  const ended = new Promise(() => {});
  let reactions = 0;
  ended.then = (...how) => {
    reactions += 1;
    return Promise.prototype.then.apply(ended, how);
  };
  const view = new ObjectsView(new Table(new Shown()), { pauseFirst: 0, pauseMax: 0 }, {}, () => {});
  let failures = 0;
  const stream = async () => {
    failures += 1;
    if (failures === 20) view.close();
    throw new SetteeError({ status: 503, error: 'unavailable', reason: 'not now' });
  };
  await view.run({ isOver: false, ended, stream });
  assert.deepEqual([failures, reactions], [20, 0]);
});
