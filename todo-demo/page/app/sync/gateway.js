/**
 * The gateway as the page sees it: one client, so one socket, with a sync for each database; the
 * token; and the switch that says whether there may be a connection at all.
 */

import { createClient } from '/_settee/client.js';
import { summarize } from './summary.js';
import { Unsent } from './unsent.js';

/** Somebody is looking at the page, so that it does not wait long. In milliseconds. */
const TIMES = { pauseFirst: 300, pauseMax: 4_000 };

const TOKEN = 'todo.token';
const SWITCH = 'todo.offline';

/** A database that is synced. */
class Followed {
  /** @type {any} */
  sync;
  /** Why the sync has ended. @type {Error | undefined} */
  error;

  /** @param {any} db */
  constructor(db) {
    this.db = db;
    this.unsent = new Unsent(db);
  }

  /** @returns {import('./summary.js').Standing} */
  get standing() {
    const { state, pendingPush, pendingPull, lastExchange } = this.sync.status();
    return {
      name: this.db.name,
      state,
      // A gateway that has lost its data is sent everything again, of which only the sync knows.
      toSend: Math.max(this.unsent.count, pendingPush),
      toFetch: pendingPull,
      lastExchange,
      denied: this.sync.denied(),
      error: this.error,
    };
  }
}

/** Events: `change`. */
export class Gateway extends EventTarget {
  #url;
  #client = createClient({ times: TIMES });
  /** @type {Map<string, Followed>} */
  #followed = new Map();
  #token = localStorage.getItem(TOKEN) ?? '';
  #isOnline = localStorage.getItem(SWITCH) !== 'yes';
  #isWanted = false;
  /** Why the token was refused; empty if it was not. */
  #refusal = '';
  #problem = '';

  /** @param {string} url */
  constructor(url) {
    super();
    this.#url = url;
    this.#client.on('connect', () => this.#changed());
    this.#client.on('disconnect', (error) => {
      this.#problem = error.message;
      this.#changed();
    });
    this.#client.on('error', (error) => console.warn(error.message));
    this.#connect();
  }

  get token() {
    return this.#token;
  }

  /** @param {string} token */
  set token(token) {
    this.#token = token;
    this.#refusal = '';
    // Channels that are open were opened with the other one.
    this.#disconnect();
    localStorage.setItem(TOKEN, token);
    this.#restart();
  }

  get isOnline() {
    return this.#isOnline;
  }

  /** The switch. Off means that there is no socket; everything else goes on. */
  set isOnline(isOnline) {
    this.#isOnline = isOnline;
    localStorage.setItem(SWITCH, isOnline ? 'no' : 'yes');
    this.#restart();
  }

  /**
   * Keeps a database in sync from now on.
   * @param {any} db
   */
  async follow(db) {
    const followed = new Followed(db);
    this.#followed.set(db.name, followed);
    this.#begin(followed);
    followed.unsent.addEventListener('change', () => this.#changed());
    await followed.unsent.open();
  }

  /** @param {string} name */
  async unfollow(name) {
    const followed = this.#followed.get(name);
    if (!followed) return;
    this.#followed.delete(name);
    followed.unsent.close();
    await followed.sync.cancel();
    this.#changed();
  }

  /** Tries again what was refused and what has failed. */
  async retry() {
    this.#restart();
    await Promise.all([...this.#followed.values()].map(({ sync }) => sync.retryDenied()));
    this.#changed();
  }

  /** @returns {import('./summary.js').Summary} */
  get summary() {
    const connection = {
      isOnline: this.#isOnline,
      needsToken: this.#token === '' || this.#refusal !== '',
      refusal: this.#refusal,
      isConnected: this.#client.isConnected,
      problem: this.#problem,
    };
    return summarize(connection, this.standings);
  }

  get standings() {
    return [...this.#followed.values()].map(({ standing }) => standing);
  }

  /** @param {Followed} followed */
  #begin(followed) {
    followed.error = undefined;
    const sync = this.#client.sync(followed.db, { credentials: () => this.#token && { token: this.#token }, create: true });
    followed.sync = sync;
    sync.on('status', ({ state, lastError, pushedTo }) => {
      if (state === 'auth-needed') this.#refused(lastError);
      followed.unsent.reached(pushedTo);
      this.#changed();
    });
    sync.on('error', (/** @type {any} */ error) => {
      if (error.status === 401) this.#refused(error);
      followed.error = error;
      this.#changed();
    });
  }

  /** @param {Error} error */
  #refused(error) {
    this.#refusal = error.message;
    this.#connect();
  }

  #restart() {
    for (const followed of this.#followed.values()) if (followed.error) this.#begin(followed);
    this.#connect();
    this.#changed();
  }

  /** A connection without a token that may be good would only be refused. */
  #connect() {
    const isWanted = this.#isOnline && this.#token !== '' && this.#refusal === '';
    if (isWanted === this.#isWanted) return;
    this.#isWanted = isWanted;
    if (isWanted) this.#client.connect(this.#url);
    else this.#client.disconnect();
  }

  #disconnect() {
    this.#isWanted = false;
    this.#client.disconnect();
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}
