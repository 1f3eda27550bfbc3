/**
 * How many documents of a database wait to be sent, also while there is no connection and after a
 * reload: those that changed after the place that the last push reached.
 */

const MARK = '_local/todo-demo-pushed';

/** Events: `change`. */
export class Unsent extends EventTarget {
  #db;
  /** The place that the push has reached. */
  #pushed = 0;
  /** @type {any} */
  #feed;
  #isCounting = false;
  #isStale = false;
  #isClosed = false;
  count = 0;

  /** @param {any} db */
  constructor(db) {
    super();
    this.#db = db;
  }

  async open() {
    const mark = await this.#mark();
    this.#pushed = Math.max(this.#pushed, mark?.pushed ?? 0);
    this.#feed = this.#db.changes({ since: 'now', live: true, return_docs: false });
    this.#feed.on('change', () => this.#recount());
    this.#recount();
  }

  close() {
    this.#isClosed = true;
    this.#feed?.cancel();
  }

  /**
   * Everything up to here was taken by the gateway, or refused and listed.
   * @param {string | null} place
   */
  reached(place) {
    const seq = Number(place);
    if (!(seq > this.#pushed)) return;
    this.#pushed = seq;
    this.#recount();
  }

  /** One at a time: whatever happens meanwhile is counted after it. */
  async #recount() {
    this.#isStale = true;
    if (this.#isCounting) return;
    this.#isCounting = true;
    while (this.#isStale && !this.#isClosed) {
      this.#isStale = false;
      try {
        await this.#save();
        const { results } = await this.#db.changes({ since: this.#pushed });
        this.#tell(results.length);
      } catch (error) {
        // The database may be destroyed in the middle of it.
        if (!this.#isClosed) throw error;
      }
    }
    this.#isCounting = false;
  }

  /** @param {number} count */
  #tell(count) {
    if (count === this.count) return;
    this.count = count;
    this.dispatchEvent(new Event('change'));
  }

  async #save() {
    const mark = await this.#mark();
    if (mark && mark.pushed >= this.#pushed) return;
    try {
      await this.#db.put({ ...mark, _id: MARK, pushed: this.#pushed });
    } catch (error) {
      // Another window of this browser has written it just now.
      if (/** @type {any} */ (error).status !== 409) throw error;
    }
  }

  /** @returns {Promise<any>} */
  async #mark() {
    try {
      return await this.#db.get(MARK);
    } catch (error) {
      if (/** @type {any} */ (error).status === 404) return undefined;
      throw error;
    }
  }
}
