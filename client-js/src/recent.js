/**
 * Which revisions went by lately, so that they are not sent back to where they came from.
 */

/**
 * Revisions remembered at most; an older one is forgotten, and may then be sent back, which costs
 * a message and changes nothing.
 */
const REVS_MAX = 16_384;

export class RecentRevs {
  /** In the order of insertion. @type {Set<string>} */
  #known = new Set();

  /**
   * @param {string} id
   * @param {string} rev
   */
  add(id, rev) {
    this.#known.add(key(id, rev));
    if (this.#known.size > REVS_MAX) {
      const [oldest] = this.#known;
      this.#known.delete(oldest);
    }
  }

  /**
   * Whether all of a document's leaves went by. Only then may a change be left out: a leaf of
   * somebody else's must arrive.
   * @param {string} id
   * @param {string[]} revs
   */
  hasAll(id, revs) {
    return revs.every((rev) => this.#known.has(key(id, rev)));
  }
}

/**
 * @param {string} id
 * @param {string} rev
 */
function key(id, rev) {
  return `${rev} ${id}`;
}
