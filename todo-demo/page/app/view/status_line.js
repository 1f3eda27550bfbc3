/** The true state in one line, and behind it the token, each list's state and what was refused. */

import { deviceName } from '../store/device.js';
import { REGISTRY } from '../store/lists.js';
import { announce } from './announce.js';
import { find, h, timeText } from './dom.js';

/** @type {Record<import('../sync/summary.js').State, string>} */
const TEXTS = {
  'switched-off': 'Offline (switched off)',
  'auth-needed': 'Token needed',
  offline: 'Offline: no connection',
  failed: 'Not syncing',
  'catching-up': 'Catching up…',
  'some-denied': 'Some changes refused',
  'up-to-date': 'Up to date',
};

/** @type {Record<string, string>} */
const LIST_TEXTS = {
  'catching-up': 'catching up',
  'up-to-date': 'up to date',
  'some-denied': 'some refused',
  offline: 'waiting',
  'auth-needed': 'waiting',
  ended: 'ended',
};

export class StatusLine {
  #gateway;
  #lists;
  #isPlanned = false;
  #announced = '';
  #shown = '';

  /**
   * @param {import('../sync/gateway.js').Gateway} gateway
   * @param {import('../store/lists.js').Lists} lists
   */
  constructor(gateway, lists) {
    this.#gateway = gateway;
    this.#lists = lists;
    find('#device').textContent = deviceName();
    const token = find('#token');
    token.value = gateway.token;
    find('#connect').addEventListener('submit', (/** @type {Event} */ event) => {
      event.preventDefault();
      gateway.token = token.value.trim();
    });
    const online = find('#online');
    online.checked = gateway.isOnline;
    online.addEventListener('change', () => (gateway.isOnline = online.checked));
    find('#retry').addEventListener('click', () => gateway.retry());
    gateway.addEventListener('change', () => this.#plan());
    lists.addEventListener('change', () => this.#plan());
    this.#show();
  }

  /** Much may change within one frame. */
  #plan() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    // Not a frame of animation: there are none in a window that is hidden.
    setTimeout(() => {
      this.#isPlanned = false;
      this.#show();
    }, 16);
  }

  #show() {
    const { state, toSend, toFetch, lastExchange, denied, reason } = this.#gateway.summary;
    document.documentElement.dataset.sync = state;
    find('#state').textContent = TEXTS[state];
    find('#to-send').textContent = String(toSend);
    find('#to-fetch').textContent = toFetch === null ? '?' : String(toFetch);
    find('#to-fetch').title = toFetch === null ? 'Nobody can know without a connection' : '';
    find('#last-exchange').textContent = lastExchange ? `last exchange ${clock(lastExchange)}` : '';
    find('#reason').textContent = reason;
    this.#announce(state);
    if (state === 'auth-needed' && state !== this.#shown) find('#details').open = true;
    this.#shown = state;
    this.#showLists();
    this.#showDenied(denied);
  }

  /** @param {import('../sync/summary.js').State} state */
  #announce(state) {
    // Catching up takes a moment and happens with every change.
    if (state === this.#announced || state === 'catching-up') return;
    this.#announced = state;
    announce(TEXTS[state]);
  }

  #showLists() {
    const rows = this.#gateway.standings.map(({ name, state, toSend, toFetch, error }) => {
      const text = error ? `ended: ${error.message}` : LIST_TEXTS[state];
      return h(
        'tr',
        { 'data-database': name },
        h('th', { scope: 'row' }, this.#nameOf(name)),
        h('td', {}, text),
        h('td', { class: 'number' }, String(toSend)),
        h('td', { class: 'number' }, state === 'offline' ? '?' : String(toFetch)),
      );
    });
    find('#standings').replaceChildren(...rows);
  }

  /** @param {Array<any>} denied */
  #showDenied(denied) {
    find('#denied').hidden = denied.length === 0;
    const items = denied.map(({ database, id, reason, direction }) => {
      const todo = this.#lists.entries.find((entry) => entry.id === database)?.list.find(id);
      const name = todo?.doc.title ?? id;
      const way = direction === 'push' ? 'not taken by the gateway' : 'not stored here';
      return h('li', {}, h('strong', {}, name), `In ${this.#nameOf(database)}, ${way}: ${reason}`);
    });
    find('#denied-list').replaceChildren(...items);
  }

  /** @param {string} database */
  #nameOf(database) {
    if (database === REGISTRY) return 'Names of the lists';
    return this.#lists.entries.find(({ id }) => id === database)?.name ?? database;
  }
}

/** @param {Date} time */
function clock(time) {
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday ? time.toLocaleTimeString([], { timeStyle: 'medium' }) : timeText(time);
}
