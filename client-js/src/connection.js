/**
 * Makes the connection, keeps it, and makes it again after growing, jittered pauses.
 */

import { disconnected, ended } from './errors.js';
import { Emitter } from './emitter.js';
import { Link } from './link.js';
import { Liveness } from './liveness.js';
import { encode, SUBPROTOCOL } from './protocol.js';

/**
 * Times in milliseconds.
 * @typedef {object} Times
 * @property {number} pauseFirst The pause before the second attempt; each next one is twice as long.
 * @property {number} pauseMax The longest pause.
 * @property {number} connectTimeout How long a connection may take to be made.
 * @property {number} settled A connection that lived this long counts as a success; a shorter one
 *   does not stop the pauses from growing, so that a gateway that drops every one is not hammered.
 * @property {number} pingInterval Silence after which the gateway is pinged.
 * @property {number} silenceTimeout Silence after which it counts as dead.
 * @property {number} probeTimeout The same after the machine woke up.
 */

/** @type {Times} */
export const TIMES = {
  pauseFirst: 500,
  pauseMax: 30_000,
  connectTimeout: 15_000,
  settled: 5_000,
  pingInterval: 20_000,
  silenceTimeout: 45_000,
  probeTimeout: 5_000,
};

/**
 * The pause after so many failures, shortened by a random part of up to half, so that many clients
 * do not come back at one moment.
 * @param {number} failures
 * @param {Times} times
 * @param {number} random From 0 to 1.
 */
export function pauseAfter(failures, { pauseFirst, pauseMax }, random) {
  const full = Math.min(pauseMax, pauseFirst * 2 ** Math.min(failures - 1, 16));
  return full * (1 - random / 2);
}

/**
 * Events: `up` (link), `down` (error), `attempt` (number from 0, pause before it), `complaint`
 * (error), `closed`.
 */
export class Connection extends Emitter {
  #WebSocket;
  #times;
  /** @type {WebSocket | undefined} */
  #socket;
  /** @type {any} */
  #timer;
  #failures = 0;
  #heard = 0;
  #upSince = 0;
  #started = false;
  #closed = false;
  #stopWaking = () => {};

  /**
   * @param {typeof WebSocket} WebSocketClass
   * @param {Times} times
   */
  constructor(WebSocketClass, times) {
    super();
    this.url = '';
    this.#WebSocket = WebSocketClass;
    this.#times = times;
    /** The socket's life, while there is one. @type {Link | undefined} */
    this.link = undefined;
    /** Why there is no connection. @type {Error} */
    this.cause = disconnected('not connected yet');
  }

  get failures() {
    return this.#failures;
  }

  get isClosed() {
    return this.#closed;
  }

  /**
   * Begins to dial; goes on until `pause` or `close`. Does nothing if it has begun, or if `url` is not
   * wanted any more.
   * @param {string} url
   */
  start(url) {
    if (this.#closed || this.#started || this.url !== url) return;
    this.#started = true;
    this.#failures = 0;
    this.#stopWaking = onWake(() => this.wake());
    this.#dial(0);
  }

  /** Ends the connection and makes no other until `start`. */
  pause() {
    if (this.#closed || !this.url) return;
    this.url = '';
    this.#stop();
    // Who does not wait for a connection is told that there is none.
    this.#failures = 1;
    const socket = this.#socket;
    this.#lose(disconnected('disconnected'));
    socket?.close(1000);
  }

  /** Ends the connection and makes no other. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#stop();
    const socket = this.#socket;
    this.#lose(ended());
    socket?.close(1000);
    this.emit('closed');
  }

  /**
   * The machine or its network came back: dials at once, or finds out whether the socket still
   * lives.
   */
  wake() {
    if (!this.#started) return;
    if (this.link) this.#probe(this.link);
    else if (!this.#socket) {
      clearTimeout(this.#timer);
      this.#dial(0);
    }
  }

  #stop() {
    this.#started = false;
    this.#stopWaking();
    clearTimeout(this.#timer);
  }

  /** @param {number} pause How long this attempt was put off. */
  #dial(pause) {
    this.emit('attempt', this.#failures, pause);
    if (!this.#started || this.#socket) return;
    let socket;
    try {
      socket = new this.#WebSocket(this.url, SUBPROTOCOL);
    } catch (error) {
      this.#fail(disconnected(String(error)));
      return;
    }
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    const seconds = this.#times.connectTimeout / 1000;
    const slow = () => this.#drop(socket, `no answer within ${seconds} s`);
    this.#timer = setTimeout(slow, this.#times.connectTimeout);
    let problem = '';
    socket.addEventListener('open', () => this.#opened(socket));
    socket.addEventListener('error', (event) => {
      problem = /** @type {any} */ (event).message ?? '';
    });
    socket.addEventListener('close', (event) => {
      const reason = event.reason || problem || `the connection ended with code ${event.code}`;
      if (this.#socket === socket) this.#fail(disconnected(reason));
    });
  }

  /** @param {WebSocket} socket */
  #opened(socket) {
    if (this.#socket !== socket) return;
    clearTimeout(this.#timer);
    if (socket.protocol !== SUBPROTOCOL) {
      this.#drop(socket, `the server does not speak ${SUBPROTOCOL}`);
      return;
    }
    const link = new Link(socket, (error) => this.emit('complaint', error));
    this.#heard = Date.now();
    socket.addEventListener('message', (event) => {
      this.#heard = Date.now();
      if (this.#socket === socket) link.receive(event.data);
    });
    this.link = link;
    this.#upSince = this.#heard;
    const { pingInterval, silenceTimeout } = this.#times;
    this.#watch(socket, new Liveness(pingInterval, silenceTimeout, this.#heard));
    this.emit('up', link);
  }

  /**
   * @param {WebSocket} socket
   * @param {Liveness} liveness
   */
  #watch(socket, liveness) {
    const { verdict, lookAgainIn } = liveness.judge(Date.now(), this.#heard);
    if (verdict === 'dead') {
      this.#drop(socket, `nothing was heard for ${this.#times.silenceTimeout / 1000} s`);
      return;
    }
    if (verdict === 'ping') this.link?.send(encode('ping', null));
    this.#timer = setTimeout(() => this.#watch(socket, liveness), lookAgainIn);
  }

  /** @param {Link} link */
  #probe(link) {
    const socket = /** @type {WebSocket} */ (this.#socket);
    const asked = Date.now();
    link.send(encode('ping', null));
    setTimeout(() => {
      const silent = this.link === link && this.#heard < asked;
      if (silent) this.#drop(socket, 'the connection did not survive a sleep');
    }, this.#times.probeTimeout);
  }

  /**
   * Gives a socket up without waiting for its close: a dead one never answers.
   * @param {WebSocket} socket
   * @param {string} reason
   */
  #drop(socket, reason) {
    this.#fail(disconnected(reason));
    const { terminate } = /** @type {any} */ (socket);
    if (terminate) terminate.call(socket);
    else socket.close();
  }

  /** @param {Error} error */
  #fail(error) {
    if (!this.#started) return;
    const settled = this.link && Date.now() - this.#upSince >= this.#times.settled;
    this.#failures = settled ? 1 : this.#failures + 1;
    this.#lose(error);
    if (!this.#started || this.#socket) return;
    const pause = pauseAfter(this.#failures, this.#times, Math.random());
    this.#timer = setTimeout(() => this.#dial(pause), pause);
  }

  /** @param {Error} error */
  #lose(error) {
    clearTimeout(this.#timer);
    const link = this.link;
    this.#socket = undefined;
    this.link = undefined;
    this.cause = error;
    link?.end(error);
    this.emit('down', error, link !== undefined);
  }
}

/**
 * Calls back when a page's network returns or the page becomes visible. Returns what ends it.
 * @param {() => void} wake
 */
function onWake(wake) {
  const scope = /** @type {any} */ (globalThis);
  if (typeof scope.addEventListener !== 'function') return () => {};
  const page = scope.document;
  const visible = () => page.visibilityState === 'visible' && wake();
  scope.addEventListener('online', wake);
  page?.addEventListener('visibilitychange', visible);
  return () => {
    scope.removeEventListener('online', wake);
    page?.removeEventListener('visibilitychange', visible);
  };
}
