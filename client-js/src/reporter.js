/**
 * What a sync tells: its events, in the order of a grammar, and its state at every moment.
 *
 *     events = [paused] {active {change | denied} paused} [active {change | denied}] (complete | error)
 *
 * `paused` means that both directions rest.
 */

/** Refusals that `complete` names at most; its counts are always whole. */
const ERRORS_MAX = 100;

/** @typedef {'push' | 'pull'} Direction */

/** @typedef {'catching-up' | 'up-to-date' | 'some-denied' | 'offline' | 'auth-needed' | 'ended'} State */

/**
 * What is known of a sync at one moment.
 * @typedef {object} Status
 * @property {State} state
 * @property {number} pendingPush Changes still to push, as far as is known.
 * @property {number} pendingPull Changes still to pull, as far as is known.
 * @property {string | null} pushedTo The place of the local feed up to which everything was taken, or
 *   refused and listed; what changed after it is still to push, also while there is no connection.
 * @property {Error | null} lastError What went wrong last, even if it was overcome.
 * @property {Date | null} lastExchange When the other side was last heard.
 */

/**
 * Documents that were exchanged, with PouchDB's members.
 * @typedef {object} Change
 * @property {true} ok
 * @property {Date} start_time When the sync began.
 * @property {number} docs_read
 * @property {number} docs_written
 * @property {number} doc_write_failures
 * @property {any[]} errors
 * @property {string} last_seq The source's place that was reached.
 * @property {any[]} docs What was written.
 * @property {number} pending Changes still to come, as far as is known.
 */

export class Reporter {
  #emitter;
  #startTime = new Date();
  /** Directions that have something to do. @type {Set<Direction>} */
  #working = new Set();
  /** Directions whose work has neither begun nor ended over this connection. @type {Set<Direction>} */
  #unsettled;
  /** Which of `active` and `paused` came last. @type {'neither' | 'active' | 'paused'} */
  #spell = 'neither';
  /** Whether there is no connection, whatever is still being finished. */
  #isInterrupted = false;
  #ended = false;
  #denied = 0;
  /** @type {Status} */
  #status = {
    state: 'catching-up',
    pendingPush: 0,
    pendingPull: 0,
    pushedTo: null,
    lastError: null,
    lastExchange: null,
  };
  /** @type {Partial<Record<Direction, any>>} */
  #summary = {};

  /**
   * @param {import('./emitter.js').Emitter} emitter
   * @param {Direction[]} directions
   */
  constructor(emitter, directions) {
    this.#emitter = emitter;
    this.#unsettled = new Set(directions);
    for (const direction of directions) {
      this.#summary[direction] = {
        ok: true,
        start_time: this.#startTime,
        docs_read: 0,
        docs_written: 0,
        doc_write_failures: 0,
        errors: [],
        last_seq: null,
      };
    }
  }

  status() {
    return { ...this.#status };
  }

  /**
   * A connection was made: what there is to do is to be found out.
   * @param {Direction[]} directions
   */
  connected(directions) {
    this.#unsettled = new Set(directions);
    this.#isInterrupted = false;
    this.#update({ state: 'catching-up', lastExchange: new Date() });
  }

  /** @param {Direction} direction */
  work(direction) {
    this.#unsettled.delete(direction);
    this.#working.add(direction);
    this.#activate(direction);
    if (!this.#isInterrupted) this.#update({ state: 'catching-up' });
  }

  /** @param {Direction} direction */
  rest(direction) {
    this.#unsettled.delete(direction);
    this.#working.delete(direction);
    const allRest = this.#working.size === 0 && this.#unsettled.size === 0;
    const state = this.#denied > 0 ? 'some-denied' : 'up-to-date';
    this.#update({
      ...pendingOf(direction, 0),
      ...(allRest && !this.#isInterrupted ? { state } : {}),
      lastExchange: new Date(),
    });
    if (allRest) this.#pause();
  }

  /**
   * Whether nothing is known that is left to do.
   * @param {Direction} direction
   */
  isResting(direction) {
    return !this.#working.has(direction) && !this.#unsettled.has(direction);
  }

  /**
   * @param {Direction} direction
   * @param {Pick<Change, 'docs' | 'docs_read' | 'errors' | 'last_seq' | 'pending'>} batch
   */
  change(direction, batch) {
    const summary = this.#summary[direction];
    const failures = batch.errors.length;
    summary.docs_read += batch.docs_read;
    summary.docs_written += batch.docs.length;
    summary.doc_write_failures += failures;
    summary.errors = [...summary.errors, ...batch.errors].slice(-ERRORS_MAX);
    summary.last_seq = batch.last_seq;
    const reached = direction === 'push' ? { pushedTo: batch.last_seq } : {};
    this.#update({ ...pendingOf(direction, batch.pending), ...reached, lastExchange: new Date() });
    if (batch.docs_read === 0) return;
    this.#activate(direction);
    /** @type {Change} */
    const change = {
      ok: true,
      start_time: this.#startTime,
      docs_written: batch.docs.length,
      doc_write_failures: failures,
      ...batch,
    };
    this.#emit('change', { direction, change });
  }

  /**
   * @param {Direction} direction
   * @param {object} doc
   */
  denied(direction, doc) {
    this.#activate(direction);
    this.#emit('denied', { direction, doc });
  }

  /** @param {number} count Documents that are refused at present. */
  deniedCount(count) {
    this.#denied = count;
  }

  /**
   * The connection is gone; what is under way ends soon.
   * @param {Error} error
   */
  lost(error) {
    if (this.#ended) return;
    this.#isInterrupted = true;
    this.#update({ state: 'offline', lastError: error });
  }

  /**
   * Nothing can be done at present.
   * @param {'offline' | 'auth-needed'} state
   * @param {Error} error
   */
  interrupted(state, error) {
    this.#working.clear();
    this.#isInterrupted = true;
    this.#update({ state, lastError: error });
    this.#pause(error);
  }

  /**
   * The sync is over; without an error it is complete. Returns what `complete` tells.
   * @param {Error | undefined} error
   * @param {boolean} cancelled
   */
  end(error, cancelled) {
    this.#ended = true;
    const status = cancelled ? 'cancelled' : 'complete';
    const end_time = new Date();
    /** @type {any} */
    const info = {};
    for (const [direction, summary] of Object.entries(this.#summary)) {
      info[direction] = { ...summary, end_time, status };
    }
    this.#update(error ? { state: 'ended', lastError: error } : { state: 'ended' });
    if (error) this.#emitter.emit('error', error);
    else this.#emitter.emit('complete', info);
    return info;
  }

  /** @param {Direction} direction */
  #activate(direction) {
    if (this.#spell === 'active') return;
    this.#spell = 'active';
    this.#emit('active', { direction });
  }

  /** @param {Error} [error] */
  #pause(error) {
    if (this.#spell === 'paused') return;
    this.#spell = 'paused';
    this.#emit('paused', ...(error ? [error] : []));
  }

  /**
   * @param {string} event
   * @param {...any} args
   */
  #emit(event, ...args) {
    if (!this.#ended) this.#emitter.emit(event, ...args);
  }

  /** @param {Partial<Status>} news */
  #update(news) {
    this.#status = { ...this.#status, ...news };
    this.#emitter.emit('status', this.status());
  }
}

/**
 * @param {Direction} direction
 * @param {number} pending
 * @returns {Partial<Status>}
 */
function pendingOf(direction, pending) {
  return direction === 'push' ? { pendingPush: pending } : { pendingPull: pending };
}
