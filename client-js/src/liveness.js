/**
 * When to ping a silent peer and when to give it up. Times are milliseconds.
 */
export class Liveness {
  #pingInterval;
  #silenceTimeout;
  #pingedAt;

  /**
   * @param {number} pingInterval
   * @param {number} silenceTimeout
   * @param {number} now
   */
  constructor(pingInterval, silenceTimeout, now) {
    this.#pingInterval = pingInterval;
    this.#silenceTimeout = silenceTimeout;
    this.#pingedAt = now;
  }

  /**
   * Judges a peer that was last heard at `heard`.
   * @param {number} now
   * @param {number} heard
   * @returns {{verdict: 'dead' | 'ping' | 'wait', lookAgainIn: number}}
   */
  judge(now, heard) {
    const untilDead = this.#silenceTimeout - (now - heard);
    if (untilDead <= 0) return { verdict: 'dead', lookAgainIn: 0 };
    const quiet = now - Math.max(heard, this.#pingedAt);
    if (quiet >= this.#pingInterval) {
      this.#pingedAt = now;
      return { verdict: 'ping', lookAgainIn: Math.min(this.#pingInterval, untilDead) };
    }
    return { verdict: 'wait', lookAgainIn: Math.min(this.#pingInterval - quiet, untilDead) };
  }
}
