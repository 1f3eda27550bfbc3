/**
 * A live view of objects: all of them, those with some ids, or those that a selector matches.
 *
 * The hard case is an object that no longer matches: a feed with a selector passes over it, and only
 * the gateway judges selectors. So a view with a selector follows the places of all changes and asks,
 * for every message of them, which of these objects match at present.
 */

import { pauseAfter } from './connection.js';
import { chunked } from './documents.js';
import { asError, SetteeError } from './errors.js';
import { Shown } from './objects-shown.js';

/** @typedef {import('./channel.js').Channel} Channel */
/** @typedef {import('./objects-table.js').Row} Row */

/**
 * What a view shows: objects that pass all that is given; `{}` for all objects.
 * @typedef {{ids?: string[], selector?: object}} ViewDefinition
 */

/** Objects asked about at a time. */
const IDS_MAX = 500;

/**
 * Events: those of {@link Shown}, and `error` (error) when the gateway does not take the definition:
 * then nothing more comes until `change`.
 * @template {object} [T=Record<string, any>]
 * @extends {Shown<T>}
 */
export class ObjectsView extends Shown {
  #table;
  #times;
  #end;
  /** @type {ViewDefinition} */
  #definition;
  /** Counts what makes everything be read anew. */
  #round = 0;
  /** Where to go on, once the objects of the definition are here. @type {string | undefined} */
  #since;
  /** @type {import('./channel.js').CallStream | undefined} */
  #stream;
  /** Why nothing more comes. @type {Error | undefined} */
  #error;
  #failures = 0;
  /** @type {Array<{resolve: (value: any) => void, reject: (error: Error) => void}>} */
  #waiting = [];
  #wake = () => {};
  /** The ids of its objects. @type {Set<string>} */
  members = new Set();

  /**
   * @param {import('./objects-table.js').Table} table
   * @param {import('./connection.js').Times} times
   * @param {ViewDefinition} definition
   * @param {(view: ObjectsView<any>) => void} end Called when it is closed.
   */
  constructor(table, times, definition, end) {
    super();
    this.#table = table;
    this.#times = times;
    this.#definition = checked(definition);
    this.#end = end;
  }

  /**
   * Resolves when the objects of the present definition are here. Rejects if the gateway does not
   * take the definition, or if the view is closed before.
   * @returns {Promise<void>}
   */
  get ready() {
    if (this.#error) return Promise.reject(this.#error);
    if (this.#since !== undefined) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /**
   * Shows other objects: `leave` tells those that are not among them, `create` those that are new.
   * @param {ViewDefinition} definition
   * @returns {Promise<void>} As `ready`; may be left alone.
   */
  change(definition) {
    if (this.#error === CLOSED) throw CLOSED;
    this.#definition = checked(definition);
    this.#error = undefined;
    this.begin();
    const { ready } = this;
    ready.catch(() => {});
    return ready;
  }

  /** Ends the view; `leave` tells every object of it. */
  close() {
    if (this.#error === CLOSED) return;
    this.begin();
    this.fail(CLOSED);
    this.#end(this);
  }

  /** Has everything read anew. */
  begin() {
    this.#round += 1;
    this.#since = undefined;
    this.#stream?.cancel();
    this.wake();
  }

  /** Its channel has ended, or it has something else to do: it waits no longer after a failure. */
  wake() {
    this.#wake();
  }

  /**
   * Nothing more comes, until there is another definition or channel.
   * @param {Error} error
   */
  fail(error) {
    this.#error = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  /** Whether it follows the gateway, or does so again with the next channel. */
  get isLive() {
    return this.#error === undefined;
  }

  /**
   * Whether an object that is made here is one of its own before the gateway says so.
   * @param {string} id
   */
  takesNew(id) {
    const { ids, selector } = this.#definition;
    return !selector && (!ids || ids.includes(id));
  }

  /**
   * Follows the gateway until the channel ends or the view is closed.
   * @param {Channel} channel
   */
  async run(channel) {
    if (this.#error !== CLOSED) this.#error = undefined;
    while (!channel.isOver && this.#error !== CLOSED) {
      const round = this.#round;
      try {
        if (this.#since === undefined) await this.#load(channel, round);
        if (round === this.#round) await this.#listen(channel, round);
      } catch (thrown) {
        if (!channel.isOver && round === this.#round) await this.#failed(asError(thrown));
      }
    }
  }

  /** The definition as a feed has it. @returns {{doc_ids?: string[], selector?: object}} */
  #narrowing() {
    const { ids, selector } = this.#definition;
    return { ...(ids ? { doc_ids: ids } : {}), ...(selector ? { selector } : {}) };
  }

  /**
   * Reads the objects as they are, and tells what is not among them any more.
   * @param {Channel} channel
   * @param {number} round
   */
  async #load(channel, round) {
    const seen = new Set();
    const params = { ...this.#narrowing(), include_docs: true, skip_tombstones: true };
    const stream = await channel.stream('changes', params);
    this.#stream = stream;
    for (let item = await stream.next(); item; item = await stream.next()) {
      if (round !== this.#round) return stream.cancel();
      for (const row of item.rows) {
        seen.add(row.id);
        this.#takeMember(row);
      }
    }
    if (round !== this.#round) return;
    const lost = [...this.members].filter((id) => !seen.has(id) && !this.#table.isNew(id));
    await this.#drop(channel, lost);
    if (round !== this.#round) return;
    this.#since = stream.value.last_seq;
    this.#failures = 0;
    for (const { resolve } of this.#waiting.splice(0)) resolve(undefined);
  }

  /**
   * @param {Channel} channel
   * @param {number} round
   */
  async #listen(channel, round) {
    const { selector, ...narrowing } = this.#narrowing();
    const params = { since: this.#since, live: true, include_docs: !selector };
    const stream = await channel.stream('changes', { ...params, ...narrowing });
    this.#stream = stream;
    if (round !== this.#round) return stream.cancel();
    for (let item = await stream.next(); item; item = await stream.next()) {
      for (const rows of chunked(item.rows, idsMax(channel))) {
        if (selector) await this.#judge(channel, rows);
        else rows.forEach((/** @type {Row} */ row) => this.#takeMember(row));
        if (round !== this.#round) return stream.cancel();
      }
      this.#since = item.note.last_seq;
    }
  }

  /**
   * Takes changes of which it is not known whether they match.
   * @param {Channel} channel
   * @param {Row[]} rows
   */
  async #judge(channel, rows) {
    const round = this.#round;
    const ids = rows.filter(({ deleted }) => !deleted).map(({ id }) => id);
    const { selector } = this.#definition;
    const found = ids.length > 0 ? await rowsOf(channel, this.#table, { doc_ids: ids, selector }) : [];
    if (round !== this.#round) return;
    const matching = new Map(found.map((row) => [row.id, row]));
    const left = [];
    for (const row of rows) {
      const match = row.deleted ? row : matching.get(row.id);
      if (match) this.#takeMember(match);
      else if (this.members.has(row.id)) left.push(row.id);
    }
    await this.#drop(channel, left);
  }

  /** @param {Row} row */
  #takeMember(row) {
    if (!row.deleted) this.members.add(row.id);
    this.#table.take(row);
  }

  /**
   * Objects are not among these any more; they may be deleted.
   * @param {Channel} channel
   * @param {string[]} ids
   */
  async #drop(channel, ids) {
    // What they have become is of no interest here: `leave` comes without an `update` before it.
    for (const id of ids) this.members.delete(id);
    try {
      await look(channel, this.#table, ids);
    } finally {
      for (const id of ids) this.#table.tell(id);
    }
  }

  /**
   * Waits for a while, or for another definition where the gateway does not take this one.
   * @param {Error} error
   */
  async #failed(error) {
    const isTransient = error instanceof SetteeError && error.isTransient;
    let timer;
    const woken = new Promise((resolve) => {
      this.#wake = () => resolve(undefined);
      if (!isTransient) return;
      this.#failures += 1;
      timer = setTimeout(resolve, pauseAfter(this.#failures, this.#times, Math.random()));
    });
    if (!isTransient) {
      this.fail(error);
      this.emit('error', error);
    }
    // Not raced against the channel's end: a promise that long lived keeps something of every race.
    await woken;
    clearTimeout(timer);
  }
}

const CLOSED = new SetteeError({ status: 410, error: 'closed', reason: 'the view was closed' });

/**
 * @param {ViewDefinition} definition
 * @returns {ViewDefinition}
 */
function checked({ ids, selector, ...others }) {
  const [unknown] = Object.keys(others);
  if (unknown) throw new TypeError(`a view has ids and a selector, not ${unknown}`);
  if (ids !== undefined && !Array.isArray(ids)) throw new TypeError('ids must be a list');
  return { ...(ids ? { ids: [...ids] } : {}), ...(selector ? { selector } : {}) };
}

/** @param {Channel} channel */
function idsMax(channel) {
  return Math.min(IDS_MAX, channel.opened.limits.bulk_rows_max);
}

/**
 * Rows of the feed, once.
 * @param {Channel} channel
 * @param {import('./objects-table.js').Table} table
 * @param {object} params
 * @returns {Promise<Row[]>}
 */
async function rowsOf(channel, table, params) {
  await table.reads.acquire();
  try {
    const stream = await channel.stream('changes', { ...params, include_docs: true });
    const rows = [];
    for (let item = await stream.next(); item; item = await stream.next()) rows.push(...item.rows);
    return rows;
  } finally {
    table.reads.release();
  }
}

/**
 * Reads objects as they are at present.
 * @param {Channel} channel
 * @param {import('./objects-table.js').Table} table
 * @param {string[]} ids
 * @param {boolean} [isKept] Whether to keep them, also where no view has them.
 */
export async function look(channel, table, ids, isKept = false) {
  for (const some of chunked(ids, idsMax(channel))) {
    const versions = new Map(some.map((id) => [id, table.version(id)]));
    const rows = await rowsOf(channel, table, { doc_ids: some });
    for (const row of rows) {
      versions.delete(row.id);
      table.take(row, isKept);
    }
    for (const [id, version] of versions) table.takeMissing(id, version);
  }
}
