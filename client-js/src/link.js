/**
 * One socket's life: which message is for which channel.
 */

import { Channel } from './channel.js';
import { asError, broken, SetteeError } from './errors.js';
import { decode, decodePiece, encode } from './protocol.js';
import { Semaphore } from './semaphore.js';

/** Calls in progress on one connection; a gateway refuses more than 128. */
const CALLS_MAX = 64;

/**
 * What to open.
 * @typedef {{database: string, credentials: any, create: boolean}} OpenRequest
 */

/**
 * What waits for an `open` to be answered.
 * @typedef {{resolve: (channel: Channel) => void, reject: (error: Error) => void}} Opening
 */

export class Link {
  #socket;
  #complain;
  #lastChannel = 0;
  /** @type {Map<number, Opening>} */
  #opening = new Map();
  /** @type {Map<number, Channel>} */
  #channels = new Map();
  /** @type {Error | undefined} */
  #error;

  /**
   * @param {WebSocket} socket
   * @param {(error: Error) => void} complain Told what nobody else is told.
   */
  constructor(socket, complain) {
    this.#socket = socket;
    this.#complain = complain;
    this.calls = new Semaphore(CALLS_MAX);
    /** Told what is about events. @type {(verb: string, rest: any[]) => void} */
    this.onEvent = () => {};
  }

  get isOver() {
    return this.#error !== undefined;
  }

  /**
   * Opens a database.
   * @param {OpenRequest} request
   * @returns {Promise<Channel>}
   */
  open(request) {
    if (this.#error) return Promise.reject(this.#error);
    const id = (this.#lastChannel += 1);
    return new Promise((resolve, reject) => {
      this.#opening.set(id, { resolve, reject });
      this.send(encode('open', id, request));
    });
  }

  /** @param {string | Uint8Array} message */
  send(message) {
    // A socket that is closing fails everything in a moment, when its end is told.
    if (!this.#error && this.#socket.readyState === 1) this.#socket.send(/** @type {any} */ (message));
  }

  /**
   * Takes a channel off the table, before its end is told to the gateway.
   * @param {number} channel
   */
  forget(channel) {
    this.#channels.delete(channel);
  }

  /**
   * @param {any} data A text message, or a binary one as ArrayBuffer.
   */
  receive(data) {
    try {
      if (typeof data === 'string') this.#text(decode(data));
      else {
        const { channel, call, bytes } = decodePiece(data);
        this.#channels.get(channel)?.receive('piece', call, bytes);
      }
    } catch (error) {
      this.#complain(asError(error));
    }
  }

  /** @param {any[]} message */
  #text([verb, ...rest]) {
    switch (verb) {
      case 'opened':
        return this.#opened(rest[0], rest[1]);
      case 'refused':
        return this.#refused(rest[0], new SetteeError(rest[1]));
      case 'closed':
        return this.#closed(rest[0], rest[1]);
      case 'reply':
      case 'fail':
      case 'rows':
      case 'end':
      case 'more':
        return this.#channels.get(rest[0])?.receive(verb, rest[1], rest[2], rest[3]);
      case 'ping':
        return this.send(encode('pong', rest[0] ?? null));
      case 'pong':
        return undefined;
      case 'error':
        return this.#complain(new SetteeError(rest[0]));
      case 'identified':
      case 'unidentified':
      case 'joined':
      case 'left':
      case 'sent':
      case 'unsent':
      case 'event':
      case 'presence':
      case 'members':
      case 'lost':
        return this.onEvent(verb, rest);
      default:
        // A later version may say more; what is not known is not needed.
        return undefined;
    }
  }

  /**
   * @param {number} id
   * @param {import('./channel.js').Opened} opened
   */
  #opened(id, opened) {
    const known = this.#channels.get(id);
    if (known) {
      known.opened = opened;
      known.onGrant(opened);
      return;
    }
    const opening = this.#opening.get(id);
    if (!opening) return;
    this.#opening.delete(id);
    const channel = new Channel(this, id, opened);
    this.#channels.set(id, channel);
    opening.resolve(channel);
  }

  /**
   * @param {number} id
   * @param {SetteeError} error
   */
  #refused(id, error) {
    const opening = this.#opening.get(id);
    this.#opening.delete(id);
    opening?.reject(error);
  }

  /**
   * @param {number} id
   * @param {import('./errors.js').WireError | null} why
   */
  #closed(id, why) {
    const channel = this.#channels.get(id);
    this.#channels.delete(id);
    channel?.fail(why ? new SetteeError(why) : broken('the gateway closed the channel'));
  }

  /**
   * The socket is gone: everything that waits for it fails.
   * @param {Error} error
   */
  end(error) {
    if (this.#error) return;
    this.#error = error;
    for (const { reject } of this.#opening.values()) reject(error);
    this.#opening.clear();
    for (const channel of this.#channels.values()) channel.fail(error);
    this.#channels.clear();
  }
}
