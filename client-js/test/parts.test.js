import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mock, test } from 'node:test';
import { commonPoint, nextCheckpoint, replicationId } from '../src/checkpoint.js';
import { pauseAfter, TIMES } from '../src/connection.js';
import { revsOf } from '../src/documents.js';
import { Emitter } from '../src/emitter.js';
import { Liveness } from '../src/liveness.js';
import { decode, decodePiece, encodePiece } from '../src/protocol.js';
import { RecentRevs } from '../src/recent.js';
import { sha256 } from '../src/sha256.js';
import { Reporter } from '../src/reporter.js';
import { assertGrammar, recorded } from './support/syncs.js';

test('sha256 agrees with the platform, around every block edge', () => {
  for (let length = 0; length < 200; length += 1) {
    const text = 'ä'.repeat(length % 7) + 'x'.repeat(length);
    assert.equal(sha256(text), createHash('sha256').update(text).digest('hex'));
  }
});

test('a piece is read as it was written', () => {
  const bytes = new Uint8Array([1, 2, 255]);
  const message = encodePiece(7, 0xfffffffe, true, bytes);
  const expected = { channel: 7, call: 0xfffffffe, last: true, bytes };
  assert.deepEqual(decodePiece(message.buffer), expected);
  assert.throws(() => decodePiece(new ArrayBuffer(8)));
  assert.throws(() => decodePiece(new Uint8Array(9).fill(2).buffer));
});

test('only arrays with a verb first are messages', () => {
  assert.deepEqual(decode('["ping",1]'), ['ping', 1]);
  for (const text of ['nonsense', '{}', '[]', '[1]']) {
    assert.throws(() => decode(text), { name: 'protocol_error' });
  }
});

test('a replication id depends on everything that narrows', () => {
  const identity = { source: 'a', target: 'b' };
  const ids = [
    identity,
    { source: 'b', target: 'a' },
    { ...identity, doc_ids: [] },
    { ...identity, doc_ids: ['x'] },
    { ...identity, view: 'v' },
    { ...identity, selector: { a: 1 } },
    { ...identity, selector: { a: 2 } },
    { ...identity, filter: '() => true' },
    { ...identity, filter: '() => true', query_params: { a: 1 } },
  ].map(replicationId);
  assert.equal(new Set(ids).size, ids.length);
  assert.match(ids[0], /^[0-9a-f]{32}$/);
  const selectors = [{ a: 1, b: [{ c: 2, d: 3 }] }, { b: [{ d: 3, c: 2 }], a: 1 }];
  const [one, other] = selectors.map((selector) => replicationId({ ...identity, selector }));
  assert.equal(one, other);
  const repeated = replicationId({ ...identity, doc_ids: ['x', 'y', 'x'] });
  assert.equal(repeated, replicationId({ ...identity, doc_ids: ['y', 'x'] }));
});

test('a replication resumes at the newest common run', () => {
  const first = nextCheckpoint(undefined, 'run1', '10');
  const second = nextCheckpoint(first, 'run2', '20');
  const third = nextCheckpoint(second, 'run3', '30');
  const stranger = nextCheckpoint(undefined, 'other', '99');
  for (const [source, target, expected] of [
    [undefined, undefined, undefined],
    [first, undefined, undefined],
    [undefined, first, undefined],
    [second, second, '20'],
    [second, third, '20'],
    [third, second, '20'],
    [first, stranger, undefined],
  ]) {
    assert.equal(commonPoint(source, target), expected);
  }
});

test('one run has one entry and history is bounded', () => {
  let checkpoint;
  for (let run = 0; run < 20; run += 1) {
    for (let step = 0; step < 3; step += 1) {
      checkpoint = nextCheckpoint(checkpoint, `run${run}`, `${run}${step}`);
    }
  }
  assert.deepEqual(
    checkpoint.history.map((entry) => entry.last_seq),
    ['192', '182', '172', '162', '152'],
  );
});

test('pauses grow, are jittered and capped', () => {
  const pauses = [1, 2, 3, 7, 1000].map((failures) => pauseAfter(failures, TIMES, 0));
  assert.deepEqual(pauses, [500, 1000, 2000, 30_000, 30_000]);
  assert.equal(pauseAfter(1, TIMES, 1), 250);
});

test('a silent peer is pinged twice and given up; one that answers lives', () => {
  const silent = new Liveness(20, 45, 0);
  const verdicts = [0, 20, 40, 45].map((now) => silent.judge(now, 0));
  assert.deepEqual(verdicts, [
    { verdict: 'wait', lookAgainIn: 20 },
    { verdict: 'ping', lookAgainIn: 20 },
    { verdict: 'ping', lookAgainIn: 5 },
    { verdict: 'dead', lookAgainIn: 0 },
  ]);
  const answering = new Liveness(20, 45, 0);
  assert.equal(answering.judge(20, 0).verdict, 'ping');
  assert.deepEqual(answering.judge(40, 21), { verdict: 'wait', lookAgainIn: 1 });
});

test('recent revisions forget the oldest and want every leaf', () => {
  const recent = new RecentRevs();
  for (let n = 0; n <= 16_384; n += 1) recent.add('a', `1-${n}`);
  assert.equal(recent.hasAll('a', ['1-0']), false);
  assert.equal(recent.hasAll('a', ['1-1', '1-16384']), true);
  assert.equal(recent.hasAll('a', ['1-1', '1-16385']), false);
  assert.equal(recent.hasAll('b', ['1-1']), false);
});

test('a document brings its earlier revisions along', () => {
  const _revisions = { start: 3, ids: ['c', 'b'] };
  assert.deepEqual(revsOf({ _id: 'a', _rev: '3-c', _revisions }), ['3-c', '2-b']);
});

test('a listener that throws is reported and disturbs nobody', () => {
  const emitter = new Emitter();
  const reported = mock.method(globalThis, 'queueMicrotask', () => {});
  const heard = [];
  emitter.on('event', () => {
    throw new Error('in the listener');
  });
  emitter.once('event', (value) => heard.push(value));
  assert.equal(emitter.emit('event', 1), true);
  emitter.emit('event', 2);
  reported.mock.restore();
  assert.deepEqual(heard, [1]);
  assert.throws(reported.mock.calls[0].arguments[0], { message: 'in the listener' });
  assert.equal(emitter.emit('other'), false);
});

test('paused waits for both directions and does not follow itself', () => {
  const emitter = new Emitter();
  const reporter = new Reporter(emitter, ['push', 'pull']);
  const events = recorded(emitter);
  const names = () => events.map(({ name }) => name);
  const nothing = { docs: [], docs_read: 0, errors: [], last_seq: '1', pending: 0 };
  reporter.rest('push');
  assert.deepEqual(names(), []);
  reporter.rest('pull');
  reporter.work('push');
  reporter.work('pull');
  reporter.rest('push');
  reporter.change('push', nothing);
  assert.deepEqual(names(), ['paused', 'active']);
  reporter.rest('pull');
  reporter.interrupted('offline', new Error('cut'));
  assert.deepEqual(names(), ['paused', 'active', 'paused']);
  assert.equal(reporter.status().state, 'offline');
  reporter.end(undefined, true);
  reporter.work('push');
  assert.deepEqual(names(), ['paused', 'active', 'paused', 'complete']);
  assertGrammar(events);
});
