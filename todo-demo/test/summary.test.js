import assert from 'node:assert/strict';
import { test } from 'node:test';
import { summarize } from '../page/app/sync/summary.js';

const CONNECTED = { isOnline: true, needsToken: false, refusal: '', isConnected: true, problem: 'cut' };
const RESTING = { name: 'a', state: 'up-to-date', toSend: 0, toFetch: 0, lastExchange: null, denied: [] };

function check(connection, standings, expected) {
  const all = standings.map((one) => ({ ...RESTING, ...one }));
  const summary = summarize({ ...CONNECTED, ...connection }, all);
  const told = Object.fromEntries(Object.keys(expected).map((key) => [key, summary[key]]));
  assert.deepEqual(told, expected);
}

test('the worst of all states is told, and what nobody can know is not', () => {
  check({}, [{}, {}], { state: 'up-to-date', toSend: 0, toFetch: 0 });
  check({}, [{}, { state: 'catching-up', toFetch: 7 }], { state: 'catching-up', toFetch: 7 });
  check({}, [{ toSend: 1 }, {}], { state: 'catching-up', toSend: 1 });
  check({}, [{ state: 'some-denied', denied: [{ id: 'x' }] }, {}], {
    state: 'some-denied',
    denied: [{ id: 'x', database: 'a' }],
  });
  check({}, [{ state: 'some-denied' }, { state: 'catching-up' }], { state: 'catching-up' });
  check({}, [{ state: 'ended', error: new Error('why') }, {}], { state: 'failed', reason: 'why' });
  check({}, [{ state: 'offline' }, {}], { state: 'offline', toFetch: null });
  check({ isConnected: false }, [{ toSend: 2 }, { toSend: 3 }], { state: 'offline', toSend: 5, toFetch: null, reason: 'cut' });
  check({ needsToken: true, refusal: 'no' }, [{ state: 'offline' }], { state: 'auth-needed', reason: 'no' });
  check({ isOnline: false, needsToken: true }, [{}], { state: 'switched-off', toFetch: null });
});

test('the last exchange is the latest of all', () => {
  const [early, late] = [new Date(1_000), new Date(2_000)];
  check({}, [{ lastExchange: late }, { lastExchange: early }, {}], { lastExchange: late });
});
