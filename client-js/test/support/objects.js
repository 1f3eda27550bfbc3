/** Objects of a gateway's databases, with their events written down. */

import assert from 'node:assert/strict';
import { CREDENTIALS } from './gateway.js';

export function objectsOf(client, name, more = {}) {
  return client.objects(name, { credentials: CREDENTIALS, create: true, ...more });
}

/**
 * Writes down what is told of objects, and holds every event to what was told before: nothing is made
 * twice, nothing changes or goes that is not there.
 */
export function watched(shown) {
  const told = [];
  const held = new Map(shown.list().map((object) => [object._id, object]));
  shown.on('create', (object) => {
    assert.ok(!held.has(object._id), `${object._id} was there already`);
    held.set(object._id, object);
    told.push(`create ${object._id}`);
  });
  shown.on('update', (object) => {
    assert.notEqual(held.get(object._id)?._rev, object._rev, `${object._id} was told twice`);
    assert.ok(held.has(object._id), `${object._id} is not known`);
    held.set(object._id, object);
    told.push(`update ${object._id}`);
  });
  for (const gone of ['destroy', 'leave']) {
    shown.on(gone, (id) => {
      assert.ok(held.delete(id), `${id} is not known`);
      told.push(`${gone} ${id}`);
    });
  }
  return {
    told,
    /** What the events add up to is what is shown. */
    check() {
      assert.deepEqual(byId(shown.list()), byId([...held.values()]));
    },
  };
}

/** In an order to compare. */
export function byId(objects) {
  return [...objects].sort((one, other) => (one._id < other._id ? -1 : 1));
}
