/**
 * The local database's changes: read in pages, then listened to when there are no more.
 */

/**
 * A changed document.
 * @typedef {object} ChangedDoc
 * @property {string} id
 * @property {string[]} leaves
 * @property {import('./documents.js').Doc} doc The winning rev, without its history.
 */

/**
 * @typedef {object} LocalBatch
 * @property {ChangedDoc[]} rows
 * @property {number | string} last_seq
 * @property {number} pending Changes still to come, as far as is known.
 */

export class LocalFeed {
  #db;
  #options;
  #since;
  /** @type {'pages' | 'listening' | 'over'} */
  #phase = 'pages';
  /** @type {any} */
  #listener;
  /** @type {any[]} */
  #heard = [];
  #wake = () => {};
  #closed = false;
  /** @type {any} */
  #error;

  /**
   * @param {any} db
   * @param {import('./sync.js').FlowOptions & {since: number | string}} options
   */
  constructor(db, { since, ...options }) {
    this.#db = db;
    this.#options = options;
    this.#since = since;
  }

  /**
   * The next batch, or null at the end. The first one without anything pending may be empty.
   * @returns {Promise<LocalBatch | null>}
   */
  async next() {
    if (this.#phase === 'listening') await this.#hear();
    if (this.#error) throw this.#error;
    if (this.#closed || this.#phase === 'over') return null;
    return this.#phase === 'pages' ? this.#page() : this.#take();
  }

  /** Ends the feed. */
  close() {
    this.#closed = true;
    this.#listener?.cancel();
    this.#wake();
  }

  async #hear() {
    while (this.#heard.length === 0 && this.#phase === 'listening' && !this.#closed && !this.#error) {
      await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    }
  }

  #take() {
    const rows = this.#heard;
    this.#heard = [];
    this.#since = rows[rows.length - 1].seq;
    return { rows: rows.map(changedDoc), last_seq: this.#since, pending: 0 };
  }

  async #page() {
    const { batch_size } = this.#options;
    const found = await this.#db.changes({ ...this.#query(), limit: batch_size });
    const full = found.results.length >= batch_size;
    const { update_seq } = full ? await this.#db.info() : { update_seq: found.last_seq };
    this.#since = found.last_seq;
    if (!full) this.#pagesEnded();
    const pending = full ? Math.max(1, Number(update_seq) - Number(this.#since)) : 0;
    return { rows: found.results.map(changedDoc), last_seq: this.#since, pending };
  }

  #query() {
    const { batch_size, doc_ids, selector, filter, query_params } = this.#options;
    return {
      since: this.#since,
      style: 'all_docs',
      include_docs: true,
      batch_size,
      ...(doc_ids ? { doc_ids } : {}),
      ...(selector ? { selector } : {}),
      ...(filter ? { filter, query_params } : {}),
    };
  }

  #pagesEnded() {
    if (!this.#options.live) {
      this.#phase = 'over';
      return;
    }
    this.#phase = 'listening';
    if (this.#closed) return;
    const listener = this.#db.changes({ ...this.#query(), live: true, return_docs: false });
    this.#listener = listener;
    listener.on('change', (/** @type {any} */ row) => this.#listened(listener, row));
    listener.on('error', (/** @type {any} */ error) => {
      this.#error = error;
      this.#wake();
    });
  }

  /**
   * @param {any} listener
   * @param {any} row
   */
  #listened(listener, row) {
    if (this.#listener !== listener) return;
    if (this.#heard.length >= this.#options.batch_size) {
      // More is happening than is being pushed: what was heard is read again, in pages.
      this.#heard = [];
      this.#phase = 'pages';
      this.#listener = undefined;
      listener.cancel();
    } else this.#heard.push(row);
    this.#wake();
  }
}

/**
 * @param {any} row
 * @returns {ChangedDoc}
 */
function changedDoc({ id, changes, doc }) {
  return { id, leaves: changes.map((/** @type {any} */ change) => change.rev), doc };
}
