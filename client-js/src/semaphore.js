/**
 * Lets so many in at a time; the others wait. Each owner has a line of its own and the lines take
 * turns, so that nobody waits behind all that another has asked for.
 */
export class Semaphore {
  #free;
  /** The owner whose turn it is comes first. @type {Map<any, Array<() => void>>} */
  #lines = new Map();

  /** @param {number} places */
  constructor(places) {
    this.#free = places;
  }

  /** @param {any} [owner] */
  async acquire(owner) {
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await new Promise((resolve) => {
      const line = this.#lines.get(owner) ?? [];
      line.push(() => resolve(undefined));
      this.#lines.set(owner, line);
    });
  }

  release() {
    for (const [owner, line] of this.#lines) {
      const next = line.shift();
      this.#lines.delete(owner);
      if (line.length > 0) this.#lines.set(owner, line);
      next?.();
      return;
    }
    this.#free += 1;
  }
}
