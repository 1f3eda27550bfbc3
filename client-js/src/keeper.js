/**
 * Keeps a database open: a channel over one connection after another, with credentials that are
 * asked for anew before a grant ends and after a refusal.
 */

import { pauseAfter } from './connection.js';
import { asError, ended, SetteeError } from './errors.js';

/**
 * What to keep open.
 * @typedef {object} Kept
 * @property {string} database
 * @property {any} credentials Any JSON, or a function that returns it or a promise of it.
 * @property {boolean} create Whether to have the database made if it is not there.
 * @property {boolean} retry Whether to wait for another connection when there is none.
 */

/**
 * Told why nothing can be done at present.
 * @typedef {(state: 'offline' | 'auth-needed', error: Error) => void} Interrupted
 */

/** Refusals in a row before one that can ask for credentials gives up. */
const REFUSALS_MAX = 5;

/** Shortest time between two sets of credentials. */
const REFRESH_MIN_MS = 1_000;

/** Longest time that a timer can be set to. */
export const TIMER_MAX_MS = 2 ** 31 - 1;

/** Name of the error of a credentials function that failed. */
const NO_CREDENTIALS = 'no_credentials';

export class Keeper {
  #connection;
  #times;
  #kept;
  #interrupted;
  #stopped = false;
  #stop = () => {};
  /** @type {Promise<void>} */
  #stopping = new Promise((resolve) => (this.#stop = resolve));
  /** The channel in use. @type {import('./channel.js').Channel | undefined} */
  channel;

  /**
   * @param {import('./connection.js').Connection} connection
   * @param {import('./connection.js').Times} times
   * @param {Kept} kept
   * @param {Interrupted} interrupted
   */
  constructor(connection, times, kept, interrupted) {
    this.#connection = connection;
    this.#times = times;
    this.#kept = kept;
    this.#interrupted = interrupted;
  }

  get isStopped() {
    return this.#stopped;
  }

  /** No other channel is opened; what uses the present one is left to end. */
  stop() {
    this.#stopped = true;
    this.#stop();
  }

  /**
   * Has every channel used, one after another, until one use ends well or `stop`. Throws what cannot
   * be overcome.
   * @param {(channel: import('./channel.js').Channel) => Promise<void>} use
   */
  async run(use) {
    let failures = 0;
    let refusals = 0;
    for (;;) {
      const link = await this.#waitForLink();
      if (!link) return;
      const began = Date.now();
      const { opened, error } = await this.#over(link, use);
      if (!error || this.#stopped) return;
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
    if (error.isTransient && this.#kept.retry) {
      this.#interrupted(error.error === NO_CREDENTIALS ? 'auth-needed' : 'offline', error);
      return;
    }
    // A grant that had worked has ended: the same credentials may bring another.
    const mayAsk = typeof this.#kept.credentials === 'function' || opened;
    if (!error.isUnauthorized || !mayAsk || refusals >= REFUSALS_MAX) throw error;
    this.#interrupted('auth-needed', error);
  }

  /** @param {number} ms */
  async #pause(ms) {
    let timer;
    const over = new Promise((resolve) => (timer = setTimeout(resolve, ms)));
    await Promise.race([over, this.#stopping]);
    clearTimeout(timer);
  }

  /** The connection's link, once there is one; undefined when stopped meanwhile. */
  async #waitForLink() {
    const connection = this.#connection;
    while (!this.#stopped) {
      if (connection.isClosed) throw ended();
      if (connection.link) return connection.link;
      if (connection.failures > 0) {
        if (!this.#kept.retry) throw connection.cause;
        this.#interrupted('offline', connection.cause);
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
    return Promise.race([change, this.#stopping]).finally(() => {
      for (const event of events) connection.off(event, changed);
    });
  }

  /**
   * Opens and uses one channel.
   * @param {import('./link.js').Link} link
   * @param {(channel: import('./channel.js').Channel) => Promise<void>} use
   * @returns {Promise<{opened: boolean, error?: any}>}
   */
  async #over(link, use) {
    let channel;
    try {
      channel = await this.#open(link);
    } catch (error) {
      return { opened: false, error };
    }
    if (!channel) return { opened: false };
    this.channel = channel;
    const stopRefreshing = this.#refresh(channel);
    try {
      await use(channel);
      return { opened: true };
    } catch (error) {
      return { opened: true, error };
    } finally {
      stopRefreshing();
      channel.close();
      this.channel = undefined;
    }
  }

  /**
   * @param {import('./link.js').Link} link
   * @returns The channel, or undefined when stopped meanwhile.
   */
  async #open(link) {
    const { database, create } = this.#kept;
    const opening = (async () => {
      const credentials = await this.#ask();
      return this.#stopped ? undefined : link.open({ database, credentials, create });
    })();
    const channel = await Promise.race([opening, this.#stopping]);
    // One that opens too late is not left behind.
    if (!channel) opening.then((late) => late?.close(), () => {});
    return channel || undefined;
  }

  async #ask() {
    const { credentials } = this.#kept;
    if (typeof credentials !== 'function') return credentials;
    try {
      return (await credentials()) ?? null;
    } catch (thrown) {
      const reason = `no credentials: ${asError(thrown).message}`;
      throw new SetteeError({ status: 0, error: NO_CREDENTIALS, reason });
    }
  }

  /**
   * Shows new credentials before each grant ends. Returns what stops it.
   * @param {import('./channel.js').Channel} channel
   */
  #refresh(channel) {
    if (typeof this.#kept.credentials !== 'function') return () => {};
    /** @type {any} */
    let timer;
    let stopped = false;
    const show = async () => {
      try {
        const credentials = await this.#ask();
        if (!stopped) channel.credentials(credentials);
      } catch {
        // The grant still holds; when it ends, it is told that others are needed.
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
