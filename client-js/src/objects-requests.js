/**
 * Requests that are not answered: made over one channel after another until there is an answer, or
 * until there are too many, or until it took too long.
 */

import { pauseAfter } from './connection.js';
import { asError, SetteeError } from './errors.js';
import { TIMER_MAX_MS } from './keeper.js';

/** @typedef {import('./channel.js').Channel} Channel */

/**
 * How much may wait for an answer, with and without a connection.
 * @typedef {object} Buffer
 * @property {number} requests
 * @property {number} bytes Of the objects to be saved, as JSON.
 * @property {number} ms How long one request waits.
 */

/** @type {Buffer} */
export const BUFFER = { requests: 10_000, bytes: 16 * 1024 * 1024, ms: 300_000 };

/**
 * Makes the request once. `isRepeated` tells that it was made before, without an answer.
 * @callback Attempt
 * @param {Channel} channel
 * @param {boolean} isRepeated
 * @returns {Promise<any>}
 */

/**
 * @typedef {object} Request
 * @property {Attempt} attempt
 * @property {number} bytes
 * @property {number} due
 * @property {boolean} isSent
 * @property {number} failures
 * @property {(value: any) => void} resolve
 * @property {(error: Error) => void} reject
 */

export class Requests {
  #times;
  #buffer;
  #bytes = 0;
  /** In the order of `due`. @type {Set<Request>} */
  #waiting = new Set();
  /** Those that may be made as soon as there is a channel. @type {Set<Request>} */
  #startable = new Set();
  /** @type {Channel | undefined} */
  #channel;
  /** @type {any} */
  #timer;

  /**
   * @param {import('./connection.js').Times} times
   * @param {Partial<Buffer>} buffer
   */
  constructor(times, buffer) {
    this.#times = times;
    this.#buffer = { ...BUFFER, ...buffer };
  }

  /**
   * Throws if there is no room.
   * @param {number} bytes
   */
  checkRoom(bytes) {
    const { requests, bytes: bytesMax } = this.#buffer;
    if (this.#waiting.size < requests && this.#bytes + bytes <= bytesMax) return;
    const reason = `${this.#waiting.size} requests of ${this.#bytes} bytes wait for an answer`;
    throw new SetteeError({ status: 0, error: 'buffer_full', reason });
  }

  /**
   * @param {Attempt} attempt
   * @param {number} [bytes]
   * @returns {{request: Request, answer: Promise<any>}}
   */
  add(attempt, bytes = 0) {
    const due = Date.now() + this.#buffer.ms;
    /** @type {any} */
    const request = { attempt, bytes, due, isSent: false, failures: 0 };
    const answer = new Promise((resolve, reject) => Object.assign(request, { resolve, reject }));
    this.#waiting.add(request);
    this.#bytes += bytes;
    if (this.#waiting.size === 1) this.#watch();
    return { request, answer };
  }

  /**
   * Makes a request, now or as soon as there is a channel.
   * @param {Request} request
   */
  start(request) {
    if (!this.#waiting.has(request)) return;
    if (this.#channel && !this.#channel.isOver) this.#make(request, this.#channel);
    else this.#startable.add(request);
  }

  /** @param {Channel | undefined} channel The one to use from now on. */
  use(channel) {
    this.#channel = channel;
    if (!channel) return;
    const startable = [...this.#startable];
    this.#startable.clear();
    for (const request of startable) this.start(request);
  }

  /**
   * Nothing of what waits can be done.
   * @param {Error} error
   */
  fail(error) {
    for (const request of [...this.#waiting]) {
      if (this.#remove(request)) request.reject(error);
    }
  }

  /**
   * @param {Request} request
   * @param {Channel} channel
   */
  async #make(request, channel) {
    const isRepeated = request.isSent;
    request.isSent = true;
    try {
      const value = await request.attempt(channel, isRepeated);
      if (this.#remove(request)) request.resolve(value);
    } catch (thrown) {
      const error = asError(thrown);
      const isTransient = error instanceof SetteeError && error.isTransient;
      if (channel.isOver) this.start(request);
      else if (isTransient) this.#later(request);
      else if (this.#remove(request)) request.reject(error);
    }
  }

  /** @param {Request} request */
  #later(request) {
    request.failures += 1;
    const pause = pauseAfter(request.failures, this.#times, Math.random());
    setTimeout(() => this.start(request), Math.min(pause, Math.max(0, request.due - Date.now())));
  }

  /** @param {Request} request */
  #remove(request) {
    if (!this.#waiting.delete(request)) return false;
    this.#startable.delete(request);
    this.#bytes -= request.bytes;
    if (this.#waiting.size === 0) clearTimeout(this.#timer);
    return true;
  }

  /** Waits for the oldest request to be due. */
  #watch() {
    const [oldest] = this.#waiting;
    if (!oldest) return;
    const wait = Math.min(Math.max(0, oldest.due - Date.now()), TIMER_MAX_MS);
    this.#timer = setTimeout(() => this.#expire(), wait);
  }

  #expire() {
    const now = Date.now();
    for (const request of [...this.#waiting]) {
      if (request.due > now) break;
      this.#remove(request);
      const doubt = request.isSent ? '; whether it took effect is not known' : '';
      const reason = `no answer within ${this.#buffer.ms / 1000} s${doubt}`;
      request.reject(new SetteeError({ status: 0, error: 'buffer_expired', reason }));
    }
    clearTimeout(this.#timer);
    this.#watch();
  }
}
