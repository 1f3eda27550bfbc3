/**
 * A sync over a client's connection: both directions over one channel after another.
 */

import { DeniedList } from './denied.js';
import { withoutHistory } from './documents.js';
import { Emitter } from './emitter.js';
import { asError } from './errors.js';
import { Keeper } from './keeper.js';
import { LocalDatabase } from './local.js';
import { Pull } from './pull.js';
import { Push } from './push.js';
import { RecentRevs } from './recent.js';
import { RemoteDatabase } from './remote.js';
import { Reporter } from './reporter.js';

/** @typedef {import('./reporter.js').Direction} Direction */
/** @typedef {import('./documents.js').Doc} Doc */

/**
 * What a sync does.
 * @typedef {DirectionOptions & CommonOptions} SyncOptions
 */

/**
 * What is the same for both directions.
 * @typedef {object} CommonOptions
 * @property {string} [remoteName] The database behind the gateway; the local one's name if not given.
 * @property {any} [credentials] What to show the gateway: any JSON, or a function that returns it or
 *   a promise of it, and is asked for every new channel, before a grant ends and after a refusal.
 * @property {boolean} [live] Whether to go on until cancelled; true if not given.
 * @property {boolean} [retry] Whether to wait for another connection when there is none; as `live`
 *   if not given.
 * @property {boolean | DirectionOptions} [push] False to pull only, or options of this direction.
 * @property {boolean | DirectionOptions} [pull] False to push only, or options of this direction.
 * @property {boolean} [create] Whether to have the database made if it is not there.
 */

/**
 * What may differ between the directions.
 * @typedef {object} DirectionOptions
 * @property {boolean} [live]
 * @property {string[]} [doc_ids] Only these documents.
 * @property {object} [selector] Only documents that this Mango selector matches.
 * @property {Filter} [filter] Only documents that the function lets pass.
 * @property {any} [query_params] For the filter.
 * @property {number} [batch_size] Local changes read at a time; 500 if not given.
 * @property {number} [batches_limit] Local batches in flight at a time; 4 if not given.
 */

/**
 * Sees the winning rev, also where it is a tombstone.
 * @callback Filter
 * @param {Doc} doc
 * @param {{query: any}} request With `query_params`.
 * @returns {any} Truthy to let the document pass.
 */

/** @typedef {DirectionOptions & {live: boolean, batch_size: number, batches_limit: number}} FlowOptions */

/**
 * What one batch did so far.
 * @typedef {{docs: any[], docs_read: number, errors: import('./denied.js').Refusal[]}} Written
 */

const BATCH_SIZE = 500;

const BATCHES_LIMIT = 4;

/** How long a cancelled sync may take to finish what it is writing. */
const CANCEL_WAIT_MS = 10_000;

/** What both directions share over one connection. */
export class Run {
  /**
   * @param {object} parts
   * @param {LocalDatabase} parts.local
   * @param {string} parts.localId
   * @param {RemoteDatabase} parts.remote
   * @param {Record<Direction, FlowOptions>} parts.options
   * @param {Reporter} parts.reporter
   * @param {DeniedList} parts.denied
   * @param {Record<Direction, RecentRevs>} parts.moved Revisions that one direction moved, for the
   *   other not to send back.
   * @param {string} parts.sessionId
   */
  constructor({ local, localId, remote, options, reporter, denied, moved, sessionId }) {
    this.local = local;
    this.localId = localId;
    this.remote = remote;
    this.options = options;
    this.reporter = reporter;
    this.denied = denied;
    this.moved = moved;
    this.sessionId = sessionId;
  }

  /**
   * What makes a replication a part of a whole one.
   * @param {Direction} direction
   */
  narrowing(direction) {
    const { doc_ids, selector, filter, query_params } = this.options[direction];
    return { doc_ids, selector, filter: filter && String(filter), query_params };
  }

  /**
   * Takes note of what is about to be written: one side has it already, and the change that the
   * write makes on the other side may be told before the write's answer.
   * @param {Direction} direction
   * @param {Doc[]} docs
   */
  moving(direction, docs) {
    this.reporter.work(direction);
    for (const doc of docs) this.moved[direction].add(doc._id, doc._rev);
  }

  /**
   * Takes note of what became of a write.
   * @param {Direction} direction
   * @param {Doc[]} docs
   * @param {import('./denied.js').Refusal[]} refused
   * @param {Written} written
   */
  async note(direction, docs, refused, written) {
    const news = await this.denied.note(direction, docs, refused);
    this.reporter.deniedCount(this.denied.size);
    for (const one of news) this.reporter.denied(direction, one);
    const refusedKeys = new Set(refused.map(({ id, rev }) => `${rev} ${id}`));
    written.docs_read += docs.length;
    written.errors.push(...refused);
    for (const doc of docs) {
      if (refusedKeys.has(`${doc._rev} ${doc._id}`)) continue;
      written.docs.push(withoutHistory(doc));
    }
  }
}

/**
 * A running sync. Events: `change`, `active`, `paused`, `denied`, `complete`, `error`, `status`;
 * also a promise of what `complete` tells.
 */
export class Sync extends Emitter {
  #connection;
  #keeper;
  #local;
  #options;
  #reporter;
  #denied;
  /** @type {Direction[]} */
  #directions;
  #moved = { push: new RecentRevs(), pull: new RecentRevs() };
  #sessionId = crypto.randomUUID();
  /** @type {Array<Push | Pull>} */
  #flows = [];
  /** @type {Promise<any>} */
  #promise;

  /**
   * @param {import('./connection.js').Connection} connection
   * @param {import('./connection.js').Times} times
   * @param {any} db
   * @param {SyncOptions} options
   */
  constructor(connection, times, db, options) {
    super();
    const { live = true } = options;
    this.#connection = connection;
    this.#local = new LocalDatabase(db);
    this.#options = { push: optionsOf('push', options), pull: optionsOf('pull', options) };
    /** @type {Direction[]} */
    const both = ['push', 'pull'];
    this.#directions = both.filter((direction) => options[direction] !== false);
    this.#reporter = new Reporter(this, this.#directions);
    this.#denied = new DeniedList(this.#local);
    const kept = {
      database: options.remoteName ?? db.name,
      credentials: options.credentials ?? null,
      create: options.create ?? false,
      retry: options.retry ?? live,
    };
    const interrupted = this.#reporter.interrupted.bind(this.#reporter);
    this.#keeper = new Keeper(connection, times, kept, interrupted);
    this.#promise = this.#run();
    // Who listens to `error` need not catch as well.
    this.#promise.catch(() => {});
  }

  /**
   * Ends the sync: what is being written is finished, a last checkpoint is written, `complete`
   * tells. Resolves then, also if the sync fails instead.
   * @returns {Promise<void>}
   */
  async cancel() {
    if (!this.#keeper.isStopped) {
      this.#keeper.stop();
      for (const flow of this.#flows) flow.stop();
      const timer = setTimeout(() => this.#keeper.channel?.close(), CANCEL_WAIT_MS);
      this.#promise.catch(() => {}).finally(() => clearTimeout(timer));
    }
    await this.#promise.catch(() => {});
  }

  /** Where the sync stands. */
  status() {
    return this.#reporter.status();
  }

  /** Documents that were refused and not taken since, in either direction. */
  denied() {
    return this.#denied.list();
  }

  /**
   * Has the documents of `denied()` tried again now. They are also tried again with every new
   * connection, and when they are edited. Resolves when they were tried; without a connection, at
   * once.
   * @returns {Promise<void>}
   */
  async retryDenied() {
    await Promise.all(this.#flows.map((flow) => flow.retryDenied()));
  }

  /**
   * @template A, B
   * @param {((info: any) => A | PromiseLike<A>) | null} [completed]
   * @param {((error: any) => B | PromiseLike<B>) | null} [failed]
   */
  then(completed, failed) {
    return this.#promise.then(completed, failed);
  }

  /**
   * @template B
   * @param {((error: any) => B | PromiseLike<B>) | null} [failed]
   */
  catch(failed) {
    return this.#promise.catch(failed);
  }

  /** @param {(() => void) | null} [settled] */
  finally(settled) {
    return this.#promise.finally(settled);
  }

  async #run() {
    // Whoever began the sync attaches listeners first.
    await Promise.resolve();
    const { db } = this.#local;
    const destroyed = () => this.cancel();
    const lost = (/** @type {Error} */ cause) => this.#reporter.lost(cause);
    db.once('destroyed', destroyed);
    this.#connection.on('down', lost);
    let error;
    try {
      await this.#keeper.run((channel) => this.#exchange(channel));
    } catch (thrown) {
      if (!this.#keeper.isStopped) error = asError(thrown);
    }
    db.removeListener('destroyed', destroyed);
    this.#connection.off('down', lost);
    const info = this.#reporter.end(error, this.#keeper.isStopped);
    if (error) throw error;
    return info;
  }

  /**
   * Runs the directions until they end or one fails. Nothing is left running when this returns.
   * @param {import('./channel.js').Channel} channel
   */
  async #exchange(channel) {
    const run = await this.#makeRun(channel);
    const flows = this.#directions.map((d) => (d === 'push' ? new Push(run) : new Pull(run)));
    this.#flows = flows;
    if (this.#keeper.isStopped) for (const flow of flows) flow.stop();
    const running = flows.map((flow) => flow.run());
    const broke = channel.ended.then((error) => Promise.reject(error));
    broke.catch(() => {});
    try {
      await Promise.race([Promise.all(running), broke]);
    } catch (error) {
      for (const flow of flows) flow.abandon();
      channel.close();
      await Promise.allSettled(running);
      throw error;
    } finally {
      this.#flows = [];
    }
  }

  /** @param {import('./channel.js').Channel} channel */
  async #makeRun(channel) {
    const local = this.#local;
    const remote = new RemoteDatabase(channel);
    const localId = await local.identity();
    await this.#denied.load(remote.identity);
    this.#reporter.deniedCount(this.#denied.size);
    this.#reporter.connected(this.#directions);
    return new Run({
      local,
      localId,
      remote,
      options: this.#options,
      reporter: this.#reporter,
      denied: this.#denied,
      moved: this.#moved,
      sessionId: this.#sessionId,
    });
  }
}

/**
 * @param {Direction} direction
 * @param {SyncOptions} options
 * @returns {FlowOptions}
 */
function optionsOf(direction, options) {
  const own = typeof options[direction] === 'object' ? options[direction] : {};
  const { live = true, batch_size = BATCH_SIZE, batches_limit = BATCHES_LIMIT, ...others } = {
    ...options,
    ...own,
  };
  const { doc_ids, selector, filter, query_params } = others;
  if (filter !== undefined && typeof filter !== 'function') {
    throw new TypeError('filter must be a function');
  }
  if (filter && selector) throw new TypeError('give a filter or a selector, not both');
  return { live, batch_size, batches_limit, doc_ids, selector, filter, query_params };
}
