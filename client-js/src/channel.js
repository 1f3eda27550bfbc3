/**
 * One open database on a connection: calls, streams with credit, uploads.
 */

import { disconnected, SetteeError } from './errors.js';
import { encode, encodeCall, encodePiece } from './protocol.js';

/** Messages that a stream may send before it hears from the reader. */
const CREDIT = 8;

/** Bytes of an attachment in one message. */
const PIECE_BYTES = 64 * 1024;

/** The one method whose call goes on without end, and so takes no place among the calls. */
const CHANGES = 'changes';

/**
 * What a call does with the messages that come for it. `reply` and `fail` are the last.
 * @typedef {object} CallHandler
 * @property {(value: any) => void} reply
 * @property {(error: Error) => void} fail
 * @property {(rows: any[], note: any) => void} [rows]
 * @property {(bytes: Uint8Array) => void} [piece]
 * @property {(credit: number) => void} [more]
 */

/**
 * What was opened.
 * @typedef {object} Opened
 * @property {{db_name: string, doc_count: number, update_seq: string, uuid: string}} info
 * @property {{read: boolean, write: boolean, destroy: boolean, user?: string, expires_in_ms?: number, view?: string}} access
 * @property {{bulk_rows_max: number, doc_bytes_max: number, upload_credit: number, uploads_max: number}} limits
 */

export class Channel {
  #link;
  #lastCall = 0;
  /** @type {Map<number, CallHandler>} */
  #calls = new Map();
  /** @type {Error | undefined} */
  #error;
  /** @type {(error: Error) => void} */
  #end = () => {};

  /**
   * @param {import('./link.js').Link} link
   * @param {number} id
   * @param {Opened} opened
   */
  constructor(link, id, opened) {
    this.#link = link;
    this.id = id;
    this.opened = opened;
    /** Resolves with the reason when the channel ends. @type {Promise<Error>} */
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    /** Told of every new grant. @type {(opened: Opened) => void} */
    this.onGrant = () => {};
  }

  /** Whether the channel has ended. */
  get isOver() {
    return this.#error !== undefined;
  }

  /**
   * @param {string} method
   * @param {object} [params]
   * @returns {Promise<any>} The reply.
   */
  call(method, params = {}) {
    return this.callText(method, JSON.stringify(params));
  }

  /**
   * A call whose parameters are JSON text already.
   * @param {string} method
   * @param {string} params
   * @returns {Promise<any>}
   */
  async callText(method, params) {
    await this.#link.calls.acquire(this);
    try {
      return await new Promise((reply, fail) => this.#begin(method, params, { reply, fail }));
    } finally {
      this.#link.calls.release();
    }
  }

  /**
   * @param {string} method
   * @param {object} params
   * @returns {Promise<CallStream>}
   */
  async stream(method, params) {
    const counts = method !== CHANGES;
    if (counts) await this.#link.calls.acquire(this);
    const over = () => counts && this.#link.calls.release();
    const stream = new CallStream(this, over);
    const text = JSON.stringify({ ...params, credit: CREDIT });
    stream.call = this.#begin(method, text, stream.handler);
    return stream;
  }

  /**
   * Sends an attachment's bytes, for documents to refer to.
   * @param {{length: number, digest?: string}} params
   * @param {AsyncIterable<Uint8Array>} chunks
   * @returns {Promise<{digest: string, length: number}>}
   */
  async upload(params, chunks) {
    await this.#link.calls.acquire(this);
    try {
      return await this.#upload(params, chunks);
    } finally {
      this.#link.calls.release();
    }
  }

  /**
   * @param {object} params
   * @param {AsyncIterable<Uint8Array>} chunks
   */
  async #upload(params, chunks) {
    let credit = this.opened.limits.upload_credit;
    let settled = false;
    let wake = () => {};
    let call = 0;
    const reply = new Promise((resolve, reject) => {
      const settle = (/** @type {(value: any) => void} */ how) => (/** @type {any} */ value) => {
        settled = true;
        how(value);
        wake();
      };
      const more = (/** @type {number} */ added) => {
        credit += added;
        wake();
      };
      call = this.#begin('upload', JSON.stringify(params), {
        reply: settle(resolve),
        fail: settle(reject),
        more,
      });
    });
    reply.catch(() => {});
    for await (const bytes of inPieces(chunks)) {
      while (credit === 0 && !settled) await new Promise((resolve) => (wake = () => resolve(undefined)));
      if (settled) return reply;
      credit -= 1;
      this.#link.send(encodePiece(this.id, call, false, bytes));
    }
    // The last piece is empty, since only now is it known which one was the last.
    while (credit === 0 && !settled) await new Promise((resolve) => (wake = () => resolve(undefined)));
    if (!settled) this.#link.send(encodePiece(this.id, call, true, new Uint8Array(0)));
    return reply;
  }

  /**
   * Has other credentials judged; `onGrant` tells the new grant.
   * @param {any} credentials
   */
  credentials(credentials) {
    if (!this.#error) this.#link.send(encode('credentials', this.id, credentials ?? null));
  }

  /** Ends the channel from this side. */
  close() {
    if (this.#error) return;
    this.#link.forget(this.id);
    this.#link.send(encode('close', this.id));
    this.fail(disconnected('the channel was closed'));
  }

  /**
   * @param {string} method
   * @param {string} params
   * @param {CallHandler} handler
   */
  #begin(method, params, handler) {
    if (this.#error) {
      handler.fail(this.#error);
      return 0;
    }
    const call = this.#unusedCall();
    this.#calls.set(call, handler);
    this.#link.send(encodeCall(this.id, call, method, params));
    return call;
  }

  #unusedCall() {
    do this.#lastCall = (this.#lastCall % 0x7fffffff) + 1;
    while (this.#calls.has(this.#lastCall));
    return this.#lastCall;
  }

  /**
   * Gives a stream room for one more message.
   * @param {number} call
   */
  more(call) {
    if (this.#calls.has(call)) this.#link.send(encode('more', this.id, call, 1));
  }

  /**
   * Stops a call; no more messages come for it.
   * @param {number} call
   */
  cancel(call) {
    if (this.#calls.delete(call)) this.#link.send(encode('cancel', this.id, call));
  }

  /**
   * Takes a message for one of the calls. Messages for a call that is over have crossed its
   * cancellation and are passed over.
   * @param {string} verb
   * @param {number} call
   * @param {any} value
   * @param {any} [note]
   */
  receive(verb, call, value, note) {
    const handler = this.#calls.get(call);
    if (!handler) return;
    if (verb === 'reply' || verb === 'end') {
      this.#calls.delete(call);
      handler.reply(value);
    } else if (verb === 'fail') {
      this.#calls.delete(call);
      handler.fail(new SetteeError(value));
    } else if (verb === 'rows') handler.rows?.(value, note);
    else if (verb === 'more') handler.more?.(value);
    else if (verb === 'piece') handler.piece?.(value);
  }

  /**
   * The channel is over: everything that waits for it fails.
   * @param {Error} error
   */
  fail(error) {
    if (this.#error) return;
    this.#error = error;
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const handler of calls) handler.fail(error);
    this.#end(error);
  }
}

/**
 * What a streaming call sends: rows with their note, or pieces. One credit goes back for each
 * message that is taken, so that the reader sets the pace.
 */
export class CallStream {
  #channel;
  #over;
  /** @type {Array<{rows: any[], note: any} | Uint8Array>} */
  #queue = [];
  #wake = () => {};
  #ended = false;
  /** @type {Error | undefined} */
  #error;

  /**
   * @param {Channel} channel
   * @param {() => void} over
   */
  constructor(channel, over) {
    this.#channel = channel;
    this.#over = over;
    this.call = 0;
    /** What the stream ended with. @type {any} */
    this.value = undefined;
  }

  /** @type {CallHandler} */
  get handler() {
    return {
      rows: (rows, note) => this.#push({ rows, note }),
      piece: (bytes) => this.#push(bytes),
      reply: (value) => {
        this.value = value;
        this.#end();
      },
      fail: (error) => {
        this.#error = error;
        this.#queue = [];
        this.#end();
      },
    };
  }

  /** Whether a message is there already. */
  get ready() {
    return this.#queue.length > 0;
  }

  /**
   * @returns {Promise<any>} The next message, or null at the end.
   */
  async next() {
    for (;;) {
      const item = this.#queue.shift();
      if (item) {
        if (!this.#ended) this.#channel.more(this.call);
        return item;
      }
      if (this.#error) throw this.#error;
      if (this.#ended) return null;
      await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    }
  }

  /** Ends the stream here and there; what waits in it is dropped. */
  cancel() {
    if (this.#ended) return;
    this.#channel.cancel(this.call);
    this.#queue = [];
    this.#end();
  }

  /** @param {{rows: any[], note: any} | Uint8Array} item */
  #push(item) {
    this.#queue.push(item);
    this.#wake();
  }

  #end() {
    if (this.#ended) return;
    this.#ended = true;
    this.#over();
    this.#wake();
  }
}

/** @param {AsyncIterable<Uint8Array>} chunks */
async function* inPieces(chunks) {
  for await (const chunk of chunks) {
    for (let from = 0; from < chunk.length; from += PIECE_BYTES) {
      yield chunk.subarray(from, from + PIECE_BYTES);
    }
  }
}
