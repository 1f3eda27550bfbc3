/**
 * The changes feed of the PouchDB adapter: one stream after another, so that a live feed outlives a
 * lost connection without losing or repeating a change.
 */

import { fill } from './adapter-attachments.js';
import { filtered, withoutHistory } from './documents.js';

/** @typedef {import('./session.js').Session} Session */

/**
 * PouchDB's options of `_changes`.
 * @typedef {object} ChangesOptions
 * @property {string | number} [since]
 * @property {number} [limit]
 * @property {boolean} [continuous]
 * @property {boolean} [descending]
 * @property {'main_only' | 'all_docs'} [style]
 * @property {boolean} [include_docs]
 * @property {boolean} [conflicts]
 * @property {boolean} [attachments]
 * @property {boolean} [binary]
 * @property {string[]} [doc_ids]
 * @property {object} [selector]
 * @property {any} [query_params]
 * @property {any} [filter] A function; a name has become one.
 * @property {boolean} [return_docs]
 * @property {(change: any, pending: number, lastSeq: string) => void} onChange
 */

export class Changes {
  #session;
  #options;
  #since;
  #left;
  /** @type {any[]} */
  #results = [];
  /** @type {import('./channel.js').CallStream | undefined} */
  #stream;
  #cancelled = false;

  /**
   * @param {Session} session
   * @param {ChangesOptions} options
   */
  constructor(session, options) {
    this.#session = session;
    this.#options = options;
    this.#since = options.since ?? 0;
    this.#left = options.limit ?? Infinity;
  }

  get isCancelled() {
    return this.#cancelled;
  }

  /** No more changes are told. */
  cancel() {
    this.#cancelled = true;
    this.#stream?.cancel();
  }

  /** Runs until there is nothing more, or for ever if live. */
  async run() {
    await this.#session.call((channel) => this.#read(channel));
    return { results: this.#results, last_seq: this.#since };
  }

  /** @param {import('./channel.js').Channel} channel */
  async #read(channel) {
    if (this.#cancelled) return;
    const { descending } = this.#options;
    const stream = await channel.stream('changes', this.#params());
    this.#stream = stream;
    if (this.#cancelled) stream.cancel();
    /** @type {any[]} */
    const held = [];
    for (let item = await stream.next(); item; item = await stream.next()) {
      // Downwards there is no place to resume from: nothing is told before all of it is here.
      if (descending) held.push(...item.rows);
      else await this.#take(item.rows, item.note);
      if (this.#left <= 0) stream.cancel();
    }
    if (this.#cancelled || this.#left <= 0) return;
    await this.#take(held, stream.value);
  }

  #params() {
    const { continuous, descending, style, include_docs, conflicts, doc_ids, selector, filter } =
      this.#options;
    return {
      since: this.#since,
      ...(continuous ? { live: true } : {}),
      ...(descending ? { descending } : {}),
      // What the filter leaves out does not count.
      ...(Number.isFinite(this.#left) && !continuous && !filter ? { limit: this.#left } : {}),
      ...(doc_ids ? { doc_ids } : {}),
      ...(selector ? { selector } : {}),
      // Conflicts are found among the leaves.
      ...(conflicts && include_docs
        ? { docs: true, style: 'all_docs', echo: true }
        : { style: style ?? 'main_only', include_docs: Boolean(include_docs || filter) }),
    };
  }

  /**
   * Tells rows. All of them belong to a place that is resumed from only when they were told.
   * @param {any[]} rows
   * @param {{last_seq: string, pending: number}} note
   */
  async #take(rows, { last_seq, pending }) {
    for (const [index, row] of rows.entries()) {
      if (this.#cancelled) return;
      const change = this.#change(row);
      if (!this.#passes(change)) continue;
      await this.#finish(change);
      if (this.#cancelled) return;
      if (this.#options.return_docs) this.#results.push(change);
      this.#options.onChange(change, pending + rows.length - index - 1, change.seq);
      this.#left -= 1;
      if (this.#left <= 0) {
        this.#since = change.seq;
        return;
      }
    }
    this.#since = last_seq;
  }

  /** @param {any} row */
  #change({ docs, ...row }) {
    if (!docs) return row;
    const [winner, ...others] = row.changes;
    const leaf = docs.find((/** @type {any} */ doc) => doc._rev === winner.rev);
    const isConflict = (/** @type {any} */ { rev }) =>
      docs.some((/** @type {any} */ doc) => doc._rev === rev && !doc._deleted);
    const doc = withoutHistory(leaf);
    const conflicts = others.filter(isConflict).map((/** @type {any} */ { rev }) => rev);
    if (conflicts.length > 0) doc._conflicts = conflicts;
    const changes = this.#options.style === 'all_docs' ? row.changes : [winner];
    return { ...row, changes, doc };
  }

  /** @param {any} change */
  #passes({ doc }) {
    const { filter, query_params } = this.#options;
    return !filter || filtered(filter, doc, query_params);
  }

  /** @param {any} change */
  async #finish(change) {
    const { include_docs, attachments, binary } = this.#options;
    if (!include_docs) delete change.doc;
    else if (attachments) await fill(this.#session, [change.doc], binary);
  }
}
