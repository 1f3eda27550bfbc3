/** Clients and syncs of tests, with their events written down. */

import assert from 'node:assert/strict';
import { WebSocket } from 'ws';
import { createClient } from '../../src/index.js';
import { CREDENTIALS } from './gateway.js';

/** Short pauses, so that a test of reconnecting takes no longer than it must. */
export const QUICK = { pauseFirst: 20, pauseMax: 100 };

/** A client of a gateway. */
export function connected(url, times = QUICK) {
  return createClient({ WebSocket, times }).connect(url);
}

export function live(remoteName, more = {}) {
  return { remoteName, credentials: CREDENTIALS, create: true, ...more };
}

export function oneShot(remoteName, more = {}) {
  return live(remoteName, { live: false, ...more });
}

/** Resolves with an event's arguments. */
export function next(emitter, event, passes = () => true) {
  return new Promise((resolve) => {
    const listen = (...args) => {
      if (!passes(...args)) return;
      emitter.off(event, listen);
      resolve(args);
    };
    emitter.on(event, listen);
  });
}

/** Writes a sync's events down, in order. */
export function recorded(sync) {
  const events = [];
  for (const name of ['active', 'change', 'denied', 'paused', 'complete', 'error']) {
    sync.on(name, (value) => events.push({ name, value }));
  }
  return events;
}

/**
 * events = [paused] {active {change | denied} paused} [active {change | denied}] (complete | error)
 */
export function assertGrammar(events, { ended = true } = {}) {
  const letters = { active: 'a', change: 'c', denied: 'd', paused: 'p', complete: 'e', error: 'e' };
  const text = events.map(({ name }) => letters[name]).join('');
  const grammar = ended ? /^p?(a[cd]*p)*(a[cd]*)?e$/ : /^p?(a[cd]*p)*(a[cd]*)?$/;
  assert.match(text, grammar);
}
