/**
 * The part of Node's EventEmitter that PouchDB's users know. A listener that throws does not
 * disturb the sender: its error is reported as uncaught.
 */
export class Emitter {
  /** @type {Map<string, Array<{listener: Function, once: boolean}>>} */
  #listeners = new Map();

  /**
   * @param {string} event
   * @param {(...args: any[]) => void} listener
   */
  on(event, listener) {
    return this.#add(event, listener, false);
  }

  /**
   * @param {string} event
   * @param {(...args: any[]) => void} listener
   */
  once(event, listener) {
    return this.#add(event, listener, true);
  }

  /**
   * @param {string} event
   * @param {(...args: any[]) => void} listener
   */
  addListener(event, listener) {
    return this.on(event, listener);
  }

  /**
   * @param {string} event
   * @param {(...args: any[]) => void} listener
   */
  off(event, listener) {
    const entries = this.#listeners.get(event) ?? [];
    const index = entries.findLastIndex((entry) => entry.listener === listener);
    if (index >= 0) this.#listeners.set(event, entries.toSpliced(index, 1));
    return this;
  }

  /**
   * @param {string} event
   * @param {(...args: any[]) => void} listener
   */
  removeListener(event, listener) {
    return this.off(event, listener);
  }

  /** @param {string} [event] */
  removeAllListeners(event) {
    if (event === undefined) this.#listeners.clear();
    else this.#listeners.delete(event);
    return this;
  }

  /** @param {string} event */
  listenerCount(event) {
    return this.#listeners.get(event)?.length ?? 0;
  }

  /**
   * @param {string} event
   * @param {...any} args
   */
  emit(event, ...args) {
    const entries = this.#listeners.get(event) ?? [];
    for (const { listener, once } of entries) {
      if (once) this.off(event, /** @type {any} */ (listener));
      try {
        listener.apply(this, args);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    return entries.length > 0;
  }

  /**
   * @param {string} event
   * @param {Function} listener
   * @param {boolean} once
   */
  #add(event, listener, once) {
    const entries = this.#listeners.get(event) ?? [];
    this.#listeners.set(event, [...entries, { listener, once }]);
    return this;
  }
}
