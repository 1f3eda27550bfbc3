/**
 * A client: one connection to a gateway, and the syncs over it.
 */

import { Connection, TIMES } from './connection.js';
import { Emitter } from './emitter.js';
import { Events } from './events.js';
import { Keeper } from './keeper.js';
import { Objects } from './objects.js';
import { Session } from './session.js';
import { Sync } from './sync.js';

/**
 * @typedef {object} ClientOptions
 * @property {any} [WebSocket] The class to make connections with, such as the one of the `ws`
 *   package; the global one if not given.
 * @property {Partial<import('./connection.js').Times>} [times] Pauses and timeouts in milliseconds.
 */

/**
 * Events: `connect`; `disconnect` (error) when the connection is lost or could not be made;
 * `reconnect` (attempt, pause in milliseconds) before every attempt, of which the first is 0;
 * `error` for what no sync is told. Of `events`: `identified` (identity), `unidentified` (error) and
 * `lost` (count).
 */
export class Client extends Emitter {
  #connection;
  #times;
  /** @type {Set<Sync>} */
  #syncs = new Set();

  /** @param {ClientOptions} [options] */
  constructor({ WebSocket: WebSocketClass = globalThis.WebSocket, times } = {}) {
    super();
    if (typeof WebSocketClass !== 'function') {
      throw new TypeError('there is no global WebSocket here; give one: createClient({ WebSocket })');
    }
    this.#times = { ...TIMES, ...times };
    const connection = new Connection(WebSocketClass, this.#times);
    this.#connection = connection;
    connection.on('up', () => this.emit('connect'));
    connection.on('down', (error) => connection.isClosed || this.emit('disconnect', error));
    connection.on('attempt', (attempt, pause) => this.emit('reconnect', attempt, pause));
    connection.on('complaint', (error) => this.emit('error', error));
    /** Ephemeral events and presence. */
    this.events = new Events(connection, this.#times, (event, argument) => this.emit(event, argument));
  }

  /** The gateway's address, once `connect` told it. */
  get url() {
    return this.#connection.url;
  }

  /** Whether there is a connection. */
  get isConnected() {
    return this.#connection.link !== undefined;
  }

  /**
   * Connects, and connects again whenever the connection is lost, until `disconnect` or `end`.
   * @param {string} url `ws://HOST:PORT` or `wss://HOST`; `http` and `https` stand for them.
   */
  connect(url) {
    const { protocol, href } = new URL(url.replace(/^http/i, 'ws'));
    if (!/^wss?:$/.test(protocol)) throw new TypeError(`${url} is not the address of a gateway`);
    if (this.#connection.url) throw new Error('this client is connected already');
    this.#connection.url = href;
    // Whoever connects attaches listeners first.
    queueMicrotask(() => this.#connection.start(href));
    return this;
  }

  /**
   * Ends the connection and makes no other until `connect` is called again. Syncs that retry wait
   * for that, offline; what a cut leaves unfinished is done then.
   */
  disconnect() {
    this.#connection.pause();
    return this;
  }

  /**
   * Syncs a PouchDB with a database behind the gateway; before there is a connection, or at any
   * time after.
   * @param {any} db
   * @param {import('./sync.js').SyncOptions} [options]
   */
  sync(db, options = {}) {
    const sync = new Sync(this.#connection, this.#times, db, options);
    this.#syncs.add(sync);
    const forget = () => this.#syncs.delete(sync);
    sync.then(forget, forget);
    return sync;
  }

  /**
   * Plain objects of a database behind the gateway, without a local database; before there is a
   * connection, or at any time after.
   * @template {object} [T=Record<string, any>]
   * @param {string} database
   * @param {import('./objects.js').ObjectsOptions} [options]
   * @returns {Objects<T>}
   */
  objects(database, options = {}) {
    return new Objects(this.#connection, this.#times, database, options);
  }

  /**
   * A database for the PouchDB adapter, opened when it is first used.
   * @param {Omit<import('./keeper.js').Kept, 'retry'>} kept
   */
  session(kept) {
    return new Session(new Keeper(this.#connection, this.#times, { ...kept, retry: true }, () => {}));
  }

  /**
   * Cancels the syncs, which finish what they are writing, then ends the connection.
   * @returns {Promise<void>}
   */
  async end() {
    await Promise.all([...this.#syncs].map((sync) => sync.cancel()));
    this.#connection.close();
  }

  /** Ends the connection at once; syncs complete without finishing what they are writing. */
  async destroy() {
    const cancelled = [...this.#syncs].map((sync) => sync.cancel());
    this.#connection.close();
    await Promise.all(cancelled);
  }
}

/** @param {ClientOptions} [options] */
export function createClient(options) {
  return new Client(options);
}
