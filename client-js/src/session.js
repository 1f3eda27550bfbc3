/**
 * A database behind a gateway that is opened when it is first used, and again whenever its channel
 * is lost. What is asked for without a connection waits for one.
 */

import { asError, SetteeError } from './errors.js';

export class Session {
  #keeper;
  #isKept = false;
  #closed = false;
  /** @type {import('./link.js').Opening[]} */
  #waiting = [];

  /** @param {import('./keeper.js').Keeper} keeper */
  constructor(keeper) {
    this.#keeper = keeper;
  }

  /**
   * The open channel; waits for one as long as the client tries to connect. Rejects if the database
   * is denied or the client has ended; the next request tries again.
   * @returns {Promise<import('./channel.js').Channel>}
   */
  channel() {
    if (this.#closed) return Promise.reject(closed());
    const { channel } = this.#keeper;
    if (channel && !channel.isOver) return Promise.resolve(channel);
    const opened = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    if (!this.#isKept) this.#keep();
    return /** @type {any} */ (opened);
  }

  /**
   * Does work on the open channel, and again on the next one if the channel is lost meanwhile.
   * @template T
   * @param {(channel: import('./channel.js').Channel) => Promise<T>} work
   * @param {() => boolean} [mayRepeat] Asked after a loss.
   * @returns {Promise<T>}
   */
  async call(work, mayRepeat = () => true) {
    for (;;) {
      const channel = await this.channel();
      try {
        return await work(channel);
      } catch (error) {
        if (!channel.isOver || this.#closed) throw error;
        if (!mayRepeat()) throw inDoubt(error);
      }
    }
  }

  /** Closes the channel; what is under way fails. */
  close() {
    this.#closed = true;
    this.#keeper.stop();
    this.#keeper.channel?.close();
  }

  async #keep() {
    this.#isKept = true;
    /** @type {Error} */
    let error = closed();
    try {
      await this.#keeper.run((channel) => this.#use(channel));
    } catch (thrown) {
      error = asError(thrown);
    }
    this.#isKept = false;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  /** @param {import('./channel.js').Channel} channel */
  async #use(channel) {
    for (const { resolve } of this.#waiting.splice(0)) resolve(channel);
    throw await channel.ended;
  }
}

function closed() {
  return new SetteeError({ status: 410, error: 'closed', reason: 'the database was closed' });
}

/**
 * The channel was lost after something was asked and before it was answered.
 * @param {any} error
 */
function inDoubt(error) {
  const { status, error: name, reason } = error;
  return new SetteeError({
    status,
    error: name,
    reason: `${reason}; whether it took effect is not known`,
  });
}
