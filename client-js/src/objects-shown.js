/**
 * Objects as an application sees them. Every change of them is one event, so whoever listens from the
 * beginning has what `list` tells.
 */

import { Emitter } from './emitter.js';

/** @typedef {import('./documents.js').Doc} Doc */

/**
 * Why an object is shown no more: it is deleted, or it is no concern of these any more.
 * @typedef {'destroy' | 'leave'} Gone
 */

/**
 * Events: `create` (object), `update` (object), `destroy` (id), `leave` (id).
 * @template {object} [T=Record<string, any>]
 */
export class Shown extends Emitter {
  /** Never changed and never given away. @type {Map<string, Doc>} */
  #objects = new Map();

  /**
   * What is shown, as the caller's own.
   * @returns {Array<import('./objects.js').Stored<T>>}
   */
  list() {
    return [...this.#objects.values()].map((object) => structuredClone(/** @type {any} */ (object)));
  }

  /**
   * Shows an object, or no more.
   * @param {string} id
   * @param {Doc | undefined} object
   * @param {Gone} gone
   */
  show(id, object, gone) {
    const before = this.#objects.get(id);
    if (!object) {
      if (this.#objects.delete(id)) this.emit(gone, id);
      return;
    }
    this.#objects.set(id, object);
    if (!before) this.emit('create', structuredClone(object));
    else if (before._rev !== object._rev) this.emit('update', structuredClone(object));
  }
}
