/**
 * A sync over a client's connection: opens a channel whenever there is a connection, and keeps its
 * credentials fresh.
 */

import { pauseAfter } from './connection.js';
import { DeniedList } from './denied.js';
import { withoutHistory } from './documents.js';
import { Emitter } from './emitter.js';
import { asError, ended, SetteeError } from './errors.js';
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
 * @typedef {object} SyncOptions
 * @property {string} [remoteName] The database behind the gateway; the local one's name if not given.
 * @property {any} [credentials] What to show the gateway: any JSON, or a function that returns it or
 *   a promise of it, and is asked for every new channel, before a grant ends and after a refusal.
 * @property {boolean} [live] Whether to go on until cancelled; true if not given.
 * @property {boolean} [retry] Whether to wait for another connection when there is none; as `live`
 *   if not given.
 * @property {boolean | object} [push] False to pull only.
 * @property {boolean | object} [pull] False to push only.
 * @property {string[]} [doc_ids] Only these documents.
 * @property {number} [batch_size] Local changes read at a time; 500 if not given.
 * @property {boolean} [create] Whether to have the database made if it is not there.
 */

/**
 * What one batch did so far.
 * @typedef {{docs: any[], docs_read: number, errors: import('./denied.js').Refusal[]}} Written
 */

const BATCH_SIZE = 500;

/** How long a cancelled sync may take to finish what it is writing. */
const CANCEL_WAIT_MS = 10_000;

/** Refusals in a row before a sync that can ask for credentials gives up. */
const REFUSALS_MAX = 5;

/** Shortest time between two sets of credentials. */
const REFRESH_MIN_MS = 1_000;

/** Longest time that a timer can be set to. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Name of the error of a credentials function that failed. */
const NO_CREDENTIALS = 'no_credentials';

/** What both directions share over one connection. */
export class Run {
  /**
   * @param {object} parts
   * @param {LocalDatabase} parts.local
   * @param {string} parts.localId
   * @param {RemoteDatabase} parts.remote
   * @param {{live: boolean, doc_ids?: string[], batch_size: number}} parts.options
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

  /** What makes this replication a part of a whole one. */
  get narrowing() {
    const { doc_ids } = this.options;
    return doc_ids ? { doc_ids } : {};
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
  #times;
  #local;
  #remoteName;
  #credentials;
  #create;
  #retry;
  #options;
  #reporter;
  #denied;
  /** @type {Direction[]} */
  #directions;
  #moved = { push: new RecentRevs(), pull: new RecentRevs() };
  #sessionId = crypto.randomUUID();
  /** @type {Array<Push | Pull>} */
  #flows = [];
  /** @type {import('./channel.js').Channel | undefined} */
  #channel;
  #isCancelled = false;
  #cancel = () => {};
  /** @type {Promise<void>} */
  #cancelled = new Promise((resolve) => (this.#cancel = resolve));
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
    const { live = true, batch_size = BATCH_SIZE, doc_ids } = options;
    this.#connection = connection;
    this.#times = times;
    this.#local = new LocalDatabase(db);
    this.#remoteName = options.remoteName ?? db.name;
    this.#credentials = options.credentials ?? null;
    this.#create = options.create ?? false;
    this.#retry = options.retry ?? live;
    this.#options = { live, batch_size, ...(doc_ids ? { doc_ids } : {}) };
    /** @type {Direction[]} */
    const both = ['push', 'pull'];
    this.#directions = both.filter((direction) => options[direction] !== false);
    this.#reporter = new Reporter(this, this.#directions);
    this.#denied = new DeniedList(this.#local);
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
    if (!this.#isCancelled) {
      this.#isCancelled = true;
      this.#cancel();
      for (const flow of this.#flows) flow.stop();
      const timer = setTimeout(() => this.#channel?.close(), CANCEL_WAIT_MS);
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
      await this.#keep();
    } catch (thrown) {
      if (!this.#isCancelled) error = asError(thrown);
    }
    db.removeListener('destroyed', destroyed);
    this.#connection.off('down', lost);
    const info = this.#reporter.end(error, this.#isCancelled);
    if (error) throw error;
    return info;
  }

  /** Syncs over one connection after another, until the sync is done or fails. */
  async #keep() {
    let failures = 0;
    let refusals = 0;
    for (;;) {
      const link = await this.#waitForLink();
      if (!link) return;
      const began = Date.now();
      const { opened, error } = await this.#over(link);
      if (!error || this.#isCancelled) return;
      const settled = opened && Date.now() - began >= this.#times.settled;
      failures = settled ? 1 : failures + 1;
      refusals = opened ? 0 : refusals + 1;
      this.#judge(error, opened, refusals);
      if (failures > 1) await this.#pause(pauseAfter(failures - 1, this.#times, Math.random()));
    }
  }

  /**
   * Tells why nothing can be done at present, or throws what cannot be overcome.
   * @param {Error} error
   * @param {boolean} opened
   * @param {number} refusals
   */
  #judge(error, opened, refusals) {
    if (!(error instanceof SetteeError)) throw error;
    if (error.isTransient && this.#retry) {
      const state = error.error === NO_CREDENTIALS ? 'auth-needed' : 'offline';
      this.#reporter.interrupted(state, error);
      return;
    }
    // A grant that had worked has ended: the same credentials may bring another.
    const mayAsk = typeof this.#credentials === 'function' || opened;
    if (!error.isUnauthorized || !mayAsk || refusals >= REFUSALS_MAX) throw error;
    this.#reporter.interrupted('auth-needed', error);
  }

  /** @param {number} ms */
  async #pause(ms) {
    let timer;
    const over = new Promise((resolve) => (timer = setTimeout(resolve, ms)));
    await Promise.race([over, this.#cancelled]);
    clearTimeout(timer);
  }

  /** The connection's link, once there is one; undefined when the sync is cancelled meanwhile. */
  async #waitForLink() {
    const connection = this.#connection;
    while (!this.#isCancelled) {
      if (connection.isClosed) throw ended();
      if (connection.link) return connection.link;
      if (connection.failures > 0) {
        if (!this.#retry) throw connection.cause;
        this.#reporter.interrupted('offline', connection.cause);
      }
      await this.#connectionChanges();
    }
    return undefined;
  }

  #connectionChanges() {
    const connection = this.#connection;
    const events = ['up', 'down', 'closed'];
    let changed = () => {};
    const change = new Promise((resolve) => (changed = () => resolve(undefined)));
    for (const event of events) connection.on(event, changed);
    return Promise.race([change, this.#cancelled]).finally(() => {
      for (const event of events) connection.off(event, changed);
    });
  }

  /**
   * Syncs over one connection.
   * @param {import('./link.js').Link} link
   * @returns {Promise<{opened: boolean, error?: any}>}
   */
  async #over(link) {
    let channel;
    try {
      channel = await this.#open(link);
    } catch (error) {
      return { opened: false, error };
    }
    if (!channel) return { opened: false };
    this.#channel = channel;
    const stopRefreshing = this.#refresh(channel);
    try {
      await this.#exchange(channel);
      return { opened: true };
    } catch (error) {
      return { opened: true, error };
    } finally {
      stopRefreshing();
      channel.close();
      this.#channel = undefined;
    }
  }

  /**
   * @param {import('./link.js').Link} link
   * @returns The channel, or undefined when the sync is cancelled meanwhile.
   */
  async #open(link) {
    const opening = (async () => {
      const credentials = await this.#ask();
      if (this.#isCancelled) return undefined;
      return link.open({ database: this.#remoteName, credentials, create: this.#create });
    })();
    const channel = await Promise.race([opening, this.#cancelled]);
    // One that opens too late is not left behind.
    if (!channel) opening.then((late) => late?.close(), () => {});
    return channel || undefined;
  }

  async #ask() {
    if (typeof this.#credentials !== 'function') return this.#credentials;
    try {
      return (await this.#credentials()) ?? null;
    } catch (thrown) {
      const reason = `no credentials: ${asError(thrown).message}`;
      throw new SetteeError({ status: 0, error: NO_CREDENTIALS, reason });
    }
  }

  /**
   * Runs the directions until they end or one fails. Nothing is left running when this returns.
   * @param {import('./channel.js').Channel} channel
   */
  async #exchange(channel) {
    const run = await this.#makeRun(channel);
    const flows = this.#directions.map((d) => (d === 'push' ? new Push(run) : new Pull(run)));
    this.#flows = flows;
    if (this.#isCancelled) for (const flow of flows) flow.stop();
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

  /**
   * Shows new credentials before each grant ends. Returns what stops it.
   * @param {import('./channel.js').Channel} channel
   */
  #refresh(channel) {
    if (typeof this.#credentials !== 'function') return () => {};
    /** @type {any} */
    let timer;
    let stopped = false;
    const show = async () => {
      try {
        const credentials = await this.#ask();
        if (!stopped) channel.credentials(credentials);
      } catch {
        // The grant still holds; when it ends, the sync tells that it needs others.
        if (!stopped) timer = setTimeout(show, REFRESH_MIN_MS);
      }
    };
    const plan = () => {
      clearTimeout(timer);
      const ms = channel.opened.access.expires_in_ms;
      // Early enough for the answer to arrive, and not at once again and again.
      const wait = Math.min(Math.max((ms ?? 0) * 0.8, REFRESH_MIN_MS), TIMER_MAX_MS);
      if (ms !== undefined && !stopped) timer = setTimeout(show, wait);
    };
    channel.onGrant = plan;
    plan();
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }
}
