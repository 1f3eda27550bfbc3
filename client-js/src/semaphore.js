/** Lets so many in at a time; the others wait in line. */
export class Semaphore {
  #free;
  /** @type {Array<() => void>} */
  #waiting = [];

  /** @param {number} places */
  constructor(places) {
    this.#free = places;
  }

  async acquire() {
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
  }

  release() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
  }
}
