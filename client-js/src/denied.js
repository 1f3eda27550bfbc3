/**
 * Documents that a target refused: kept until they are taken, over restarts.
 *
 * A checkpoint passes a refused document only because it stands in this list, which is a local
 * document of the local database and is written before the checkpoint.
 */

import { revsOf } from './documents.js';

/** @typedef {import('./documents.js').Doc} Doc */
/** @typedef {import('./reporter.js').Direction} Direction */

/**
 * A document that was refused. `name` and `message` repeat `error` and `reason`, for readers of
 * PouchDB's errors.
 * @typedef {object} Refusal
 * @property {string} id
 * @property {string} rev
 * @property {number} status
 * @property {string} error
 * @property {string} reason
 * @property {string} name
 * @property {string} message
 */

/** @typedef {Refusal & {direction: Direction}} Denied */

/**
 * @param {Doc} doc
 * @param {{status?: number, error?: any, name?: string, reason?: string, message?: string}} why
 * @returns {Refusal}
 */
export function refusal(doc, why) {
  const error = (typeof why.error === 'string' && why.error) || why.name || 'unknown_error';
  const reason = why.reason || why.message || error;
  const status = why.status ?? 500;
  return { id: doc._id, rev: doc._rev, status, error, reason, name: error, message: reason };
}

export class DeniedList {
  #local;
  /** @type {Denied[]} */
  #list = [];
  /** @type {string | undefined} */
  #place;
  /** @type {Promise<void>} */
  #saving = Promise.resolve();

  /** @param {import('./checkpoint.js').LocalDocs} local */
  constructor(local) {
    this.#local = local;
  }

  get size() {
    return this.#list.length;
  }

  list() {
    return this.#list.map((denied) => ({ ...denied }));
  }

  /**
   * Reads what an earlier run left, once the remote database is known.
   * @param {string} remote
   */
  async load(remote) {
    const place = `_local/settee-denied-${remote}`;
    if (this.#place === place) return;
    const stored = await this.#local.get(place);
    this.#list = stored?.denied ?? [];
    this.#place = place;
  }

  /**
   * Takes note of what became of a write. Returns the refusals that are new, or have another reason
   * than before.
   * @param {Direction} direction
   * @param {Doc[]} written
   * @param {Refusal[]} refused
   */
  async note(direction, written, refused) {
    const before = this.#list.length;
    if (before > 0) this.#forgetTaken(direction, written, refused);
    const news = [];
    for (const one of refused) {
      const same = (/** @type {Denied} */ d) =>
        d.direction === direction && d.id === one.id && d.rev === one.rev;
      const known = this.#list.find(same);
      if (known?.error === one.error && known.reason === one.reason) continue;
      if (known) Object.assign(known, one);
      else this.#list.push({ direction, ...one });
      news.push(one);
    }
    if (news.length > 0 || this.#list.length !== before) await this.#save();
    return news;
  }

  /**
   * Forgets entries whose revisions are not there any more.
   * @param {Direction} direction
   * @param {Array<[id: string, rev: string]>} gone
   */
  async forget(direction, gone) {
    if (gone.length === 0) return;
    const keys = new Set(gone.map(([id, rev]) => `${rev} ${id}`));
    const stays = (/** @type {Denied} */ d) =>
      d.direction !== direction || !keys.has(`${d.rev} ${d.id}`);
    this.#list = this.#list.filter(stays);
    await this.#save();
  }

  /**
   * A written document brought its earlier revisions along.
   * @param {Direction} direction
   * @param {Doc[]} written
   * @param {Refusal[]} refused
   */
  #forgetTaken(direction, written, refused) {
    const refusedKeys = new Set(refused.map(({ id, rev }) => `${rev} ${id}`));
    const taken = new Set();
    for (const doc of written) {
      if (refusedKeys.has(`${doc._rev} ${doc._id}`)) continue;
      for (const rev of revsOf(doc)) taken.add(`${rev} ${doc._id}`);
    }
    const stays = (/** @type {Denied} */ d) =>
      d.direction !== direction || !taken.has(`${d.rev} ${d.id}`);
    this.#list = this.#list.filter(stays);
  }

  /** One at a time, so that an older list never follows a newer one. */
  #save() {
    const place = this.#place;
    if (!place) return Promise.resolve();
    const saved = this.#saving.then(() => this.#local.set(place, { denied: this.list() }));
    this.#saving = saved.catch(() => {});
    return saved;
  }
}
