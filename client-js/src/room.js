/**
 * A channel of events that a client is in, over one connection after another.
 */

import { Emitter } from './emitter.js';

/**
 * A user with all its connections, or a connection without a user.
 * @typedef {{id: string, user?: string, connections: number, state: any}} Member
 */

/**
 * @typedef {object} Ways
 * @property {(...message: any[]) => void} tell
 * @property {(event: string, payload: any) => Promise<number>} send
 * @property {() => void} leave
 */

/**
 * Events: `members` (array) when it is joined, also anew, or changes were missed; `join`, `leave` and
 * `state` (member); `left` (error) when the gateway ends it. All but `left` need presence.
 */
export class Room extends Emitter {
  #ways;
  #presence;
  #state;
  #resolve = () => {};
  /** @type {(error: Error) => void} */
  #reject = () => {};

  /**
   * @param {string} name
   * @param {boolean} presence
   * @param {any} state
   * @param {Ways} ways
   */
  constructor(name, presence, state, ways) {
    super();
    this.name = name;
    this.#presence = presence;
    this.#state = state;
    this.#ways = ways;
    /** Who is there, by id. @type {Map<string, Member>} */
    this.members = new Map();
    /** Resolves when it is joined for the first time. @type {Promise<void>} */
    this.joined = new Promise((resolve, reject) => {
      this.#resolve = () => resolve(undefined);
      this.#reject = reject;
    });
    // Whoever listens to `left` only must not end the program.
    this.joined.catch(() => {});
  }

  /** What `join` tells the gateway. */
  options() {
    return this.#presence ? { presence: true, state: this.#state ?? null } : {};
  }

  /**
   * Changes what the others see of this member.
   * @param {any} state Any small JSON.
   */
  setState(state) {
    this.#state = state;
    if (this.#presence) this.#ways.tell('state', this.name, state ?? null);
  }

  /**
   * Sends an event to everybody in the channel.
   * @param {string} event
   * @param {any} [payload]
   */
  send(event, payload) {
    return this.#ways.send(event, payload);
  }

  leave() {
    this.#ways.leave();
    this.members.clear();
  }

  /**
   * @param {string} verb
   * @param {any[]} rest
   */
  receive(verb, rest) {
    if (verb === 'presence') {
      const [change, member] = /** @type {[string, Member]} */ (rest);
      if (change === 'leave') this.members.delete(member.id);
      else this.members.set(member.id, member);
      this.emit(change, member);
      return;
    }
    const members = /** @type {Member[]} */ (rest[0] ?? []);
    this.members = new Map(members.map((member) => [member.id, member]));
    if (verb === 'joined') this.#resolve();
    if (this.#presence) this.emit('members', members);
  }

  /** @param {Error} error */
  fail(error) {
    this.members.clear();
    this.#reject(error);
    this.emit('left', error);
  }
}
