/** Objects of a gateway's databases, with their events written down. */

import assert from 'node:assert/strict';
import { CREDENTIALS } from './gateway.js';

export function objectsOf(client, name, more = {}) {
  return client.objects(name, { credentials: CREDENTIALS, create: true, ...more });
}

/** Writes down what is told of objects from now on. */
export function watched(shown) {
  const told = [];
  const wrong = [];
  const held = new Map(shown.list().map((object) => [object._id, object]));
  const tell = (event, id, isRight) => {
    told.push(`${event} ${id}`);
    if (!isRight) wrong.push(`${event} ${id}`);
  };
  shown.on('create', (object) => {
    tell('create', object._id, !held.has(object._id));
    held.set(object._id, object);
  });
  shown.on('update', (object) => {
    const before = held.get(object._id);
    tell('update', object._id, before && before._rev !== object._rev);
    held.set(object._id, object);
  });
  for (const gone of ['destroy', 'leave']) shown.on(gone, (id) => tell(gone, id, held.delete(id)));
  return {
    told,
    /**
     * Nothing was made twice, nothing changed or went that was not there, and all of it adds up to
     * what is shown.
     */
    check() {
      assert.deepEqual(wrong, []);
      assert.deepEqual(byId(shown.list()), byId([...held.values()]));
    },
  };
}

/** In an order to compare. */
export function byId(objects) {
  return [...objects].sort((one, other) => (one._id < other._id ? -1 : 1));
}
