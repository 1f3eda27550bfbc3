/**
 * Ephemeral events and presence over a client's connection, beside its syncs. Nothing is stored: who
 * is away misses what is sent.
 */

import { pauseAfter } from './connection.js';
import { Emitter } from './emitter.js';
import { asError, disconnected, ended, SetteeError } from './errors.js';
import { encode } from './protocol.js';
import { Room } from './room.js';

/**
 * For whom an event is: a name or names of users and channels, or everybody.
 * @typedef {{users?: string | string[], channels?: string | string[], broadcast?: boolean}} Targets
 */

/**
 * Why an event came, and the id of who sent it.
 * @typedef {{via: {user?: string, channels?: string[], broadcast?: boolean}, from?: string}} EventNote
 */

/**
 * Who this is to the gateway, and what it may.
 * @typedef {object} Identity
 * @property {string} id
 * @property {string} [user]
 * @property {string[]} channels
 * @property {string[]} joins
 * @property {string[]} sends
 * @property {boolean} sends_to_users
 * @property {boolean} broadcasts
 * @property {number} [expires_in_ms]
 * @property {{event_bytes_max: number, state_bytes_max: number, channels_max: number}} limits
 */

/** Refusals in a row before one that can ask for credentials gives up. */
const REFUSALS_MAX = 5;

/** Shortest time between two sets of credentials. */
const REFRESH_MIN_MS = 1_000;

/** Longest time that a timer can be set to. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Events that wait for an identity to be sent. */
const WAITING_MAX = 1_000;

/**
 * @typedef {object} Sending
 * @property {any} message
 * @property {(reached: number) => void} resolve
 * @property {(error: Error) => void} reject
 */

/**
 * A client's part in events. `on(event, listener)` listens to events of that name: the listener gets
 * the payload and a note with `via` and `from`. The connection's own news are events of the client:
 * `identified` (identity), `unidentified` (error), `lost` (count).
 */
export class Events extends Emitter {
  #connection;
  #times;
  #tell;
  /** @type {any} */
  #credentials;
  #wanted = false;
  #refusals = 0;
  /** Why there is nothing more to show. @type {Error | undefined} */
  #refusal;
  #attempt = 0;
  /** @type {any} */
  #timer;
  /** @type {import('./link.js').Link | undefined} */
  #link;
  /** @type {Map<string, Room>} */
  #rooms = new Map();
  /** @type {Sending[]} */
  #waiting = [];
  /** @type {Map<number, Sending>} */
  #sent = new Map();
  #lastSent = 0;

  /**
   * @param {import('./connection.js').Connection} connection
   * @param {import('./connection.js').Times} times
   * @param {(event: string, argument: any) => void} tell
   */
  constructor(connection, times, tell) {
    super();
    this.#connection = connection;
    this.#times = times;
    this.#tell = tell;
    /** Who this is, while the gateway knows it. @type {Identity | undefined} */
    this.identity = undefined;
    connection.on('up', (link) => this.#up(link));
    connection.on('down', (error) => this.#down(error));
    connection.on('closed', () => this.#fail(ended()));
  }

  /**
   * Tells the gateway who this is, over this connection and every later one.
   * @param {any} credentials Any JSON, or a function that returns it or a promise of it.
   */
  identify(credentials = null) {
    this.#credentials = credentials;
    this.#wanted = true;
    this.#refusals = 0;
    this.#refusal = undefined;
    const { link } = this.#connection;
    if (link) this.#up(link);
    return this;
  }

  /**
   * Joins a channel, and joins it again over every later connection, until it is left.
   * @param {string} name
   * @param {{presence?: boolean, state?: any}} [options]
   * @returns {Room}
   */
  join(name, { presence = false, state } = {}) {
    const known = this.#rooms.get(name);
    if (known) throw new Error(`the channel ${name} is joined already`);
    const room = new Room(name, presence, state, {
      tell: (...message) => this.#say(...message),
      send: (event, payload) => this.send({ channels: name }, event, payload),
      leave: () => this.#leave(name),
    });
    this.#rooms.set(name, room);
    if (this.identity) this.#say('join', name, room.options());
    return room;
  }

  /**
   * Sends an event, once; waits until the gateway knows who this is.
   * @param {Targets} targets
   * @param {string} event
   * @param {any} [payload]
   * @returns {Promise<number>} How many connections get it.
   */
  send(targets, event, payload = null) {
    const answer = new Promise((resolve, reject) => {
      const sending = { message: { event, targets, payload }, resolve, reject };
      if (this.#connection.isClosed) reject(ended());
      else if (this.#refusal) reject(this.#refusal);
      else if (this.identity) this.#send(sending);
      else if (this.#waiting.length < WAITING_MAX) this.#waiting.push(sending);
      else reject(disconnected('too many events wait for an identity'));
    });
    // Whoever does not wait for the answer does not want to hear of it.
    answer.catch(() => {});
    return answer;
  }

  /**
   * @param {string | string[]} users
   * @param {string} event
   * @param {any} [payload]
   */
  toUser(users, event, payload) {
    return this.send({ users }, event, payload);
  }

  /**
   * @param {string | string[]} channels
   * @param {string} event
   * @param {any} [payload]
   */
  toChannel(channels, event, payload) {
    return this.send({ channels }, event, payload);
  }

  /**
   * @param {string} event
   * @param {any} [payload]
   */
  broadcast(event, payload) {
    return this.send({ broadcast: true }, event, payload);
  }

  /** @param {...any} message */
  #say(...[verb, ...rest]) {
    if (this.identity) this.#link?.send(encode(verb, ...rest));
  }

  /** @param {Sending} sending */
  #send(sending) {
    const number = (this.#lastSent += 1);
    this.#sent.set(number, sending);
    this.#say('send', number, sending.message);
  }

  /** @param {string} name */
  #leave(name) {
    if (this.#rooms.delete(name)) this.#say('leave', name);
  }

  /** @param {import('./link.js').Link} link */
  #up(link) {
    if (!this.#wanted) return;
    this.#link = link;
    link.onEvent = (verb, rest) => this.#receive(verb, rest);
    this.#show(link);
  }

  /** @param {Error} error */
  #down(error) {
    clearTimeout(this.#timer);
    this.#attempt += 1;
    this.#link = undefined;
    this.identity = undefined;
    this.#refusals = 0;
    this.#refusal = undefined;
    // Whether they were sent is not known, and an event is sent once at most.
    for (const { reject } of this.#sent.values()) reject(error);
    this.#sent.clear();
  }

  /** @param {Error} error */
  #fail(error) {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    for (const room of this.#rooms.values()) room.fail(error);
    this.#rooms.clear();
  }

  /**
   * Shows credentials. Newer ones, and a lost connection, make older ones of no interest.
   * @param {import('./link.js').Link} link
   */
  async #show(link) {
    clearTimeout(this.#timer);
    const attempt = (this.#attempt += 1);
    const credentials = this.#credentials;
    let shown;
    try {
      shown = typeof credentials === 'function' ? ((await credentials()) ?? null) : credentials;
    } catch (thrown) {
      if (attempt === this.#attempt) this.#refused(asError(thrown), true);
      return;
    }
    if (attempt === this.#attempt) link.send(encode('identify', shown));
  }

  /**
   * @param {Error} error
   * @param {boolean} mayRetry
   */
  #refused(error, mayRetry) {
    const had = this.identity !== undefined;
    this.identity = undefined;
    this.#refusals += 1;
    this.#tell('unidentified', error);
    // An identity that had worked has ended: the same credentials may bring another.
    if ((mayRetry || had) && this.#refusals <= REFUSALS_MAX) {
      const pause = had ? 0 : pauseAfter(this.#refusals, this.#times, Math.random());
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#link && this.#show(this.#link), pause);
      return;
    }
    this.#refusal = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  /** @param {Identity} identity */
  #identified(identity) {
    this.identity = identity;
    this.#refusals = 0;
    for (const room of this.#rooms.values()) {
      if (!identity.channels.includes(room.name)) this.#say('join', room.name, room.options());
    }
    for (const sending of this.#waiting.splice(0)) this.#send(sending);
    const { expires_in_ms: ms } = identity;
    clearTimeout(this.#timer);
    if (ms !== undefined && typeof this.#credentials === 'function') {
      // Early enough for the answer to arrive, and not at once again and again.
      const wait = Math.min(Math.max(ms * 0.8, REFRESH_MIN_MS), TIMER_MAX_MS);
      this.#timer = setTimeout(() => this.#link && this.#show(this.#link), wait);
    }
    this.#tell('identified', identity);
  }

  /**
   * @param {string} verb
   * @param {any[]} rest
   */
  #receive(verb, rest) {
    switch (verb) {
      case 'identified':
        return this.#identified(rest[0]);
      case 'unidentified': {
        const error = new SetteeError(rest[0]);
        const isAskable = error.isUnauthorized && typeof this.#credentials === 'function';
        return this.#refused(error, isAskable || error.isTransient);
      }
      case 'event':
        return void this.emit(rest[0], rest[1], /** @type {EventNote} */ (rest[2]));
      case 'lost':
        return this.#tell('lost', rest[0]);
      case 'sent':
      case 'unsent': {
        const sending = this.#sent.get(rest[0]);
        this.#sent.delete(rest[0]);
        if (verb === 'sent') sending?.resolve(rest[1].reached);
        else sending?.reject(new SetteeError(rest[1]));
        return undefined;
      }
      default:
        return this.#inRoom(verb, rest);
    }
  }

  /**
   * @param {string} verb
   * @param {any[]} rest
   */
  #inRoom(verb, [name, ...rest]) {
    const room = this.#rooms.get(name);
    if (verb !== 'left') return room?.receive(verb, rest);
    const error = rest[0] && new SetteeError(rest[0]);
    // Who is not identified at present joins again after that.
    if (!room || !error || error.isUnauthorized) return undefined;
    this.#rooms.delete(name);
    return room.fail(error);
  }
}
