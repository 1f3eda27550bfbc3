/**
 * The lists there are: a document for each in a database of its own, so that another browser sees a
 * new list as soon as it has synced. Opens and closes the lists as they come and go.
 */

import PouchDB from '/vendor/pouchdb.js';
import { TodoList } from './list.js';

/** The database of the lists. */
export const REGISTRY = 'todo-lists';

/** A connection has at most 32 channels; one is the registry's. */
export const LISTS_MAX = 30;

/** Every browser begins with this list, with the same id, so that they do not begin with several. */
const FIRST = { _id: 'list-first', name: 'To do' };

/** @typedef {{id: string, name: string, list: TodoList}} ListEntry */

/** Events: `change`; `opened` and `closed`, whose detail is the TodoList. */
export class Lists extends EventTarget {
  db = new PouchDB(REGISTRY);
  /** @type {Map<string, ListEntry>} */
  #entries = new Map();
  #taken = Promise.resolve();
  /** Whether all lists of this browser have been read. */
  isOpen = false;

  async open() {
    await this.#addFirst();
    const options = { include_docs: true };
    const { results, last_seq } = await this.db.changes({ ...options, since: 0 });
    for (const row of results) await this.#take(row);
    this.isOpen = true;
    this.dispatchEvent(new Event('change'));
    const feed = this.db.changes({ ...options, since: last_seq, live: true, return_docs: false });
    feed.on('change', (/** @type {any} */ row) => {
      this.#taken = this.#taken.then(() => this.#take(row));
    });
  }

  /** By name. @returns {ListEntry[]} */
  get entries() {
    const { compare } = new Intl.Collator();
    return [...this.#entries.values()].sort((a, b) => compare(a.name, b.name) || compare(a.id, b.id));
  }

  get isFull() {
    return this.#entries.size >= LISTS_MAX;
  }

  /**
   * Resolves when the list is open.
   * @param {string} name
   * @returns {Promise<string>} The new list's id.
   */
  async add(name) {
    const _id = `list-${crypto.randomUUID()}`;
    const opened = new Promise((resolve) => {
      const look = (/** @type {any} */ { detail }) => {
        if (detail.name !== _id) return;
        this.removeEventListener('opened', look);
        resolve(undefined);
      };
      this.addEventListener('opened', look);
    });
    await this.db.put({ _id, name });
    await opened;
    return _id;
  }

  /**
   * The last name given wins; names that lost are forgotten.
   * @param {string} id
   * @param {string} name
   */
  async rename(id, name) {
    const { _conflicts = [], ...doc } = await this.db.get(id, { conflicts: true });
    await this.db.put({ ...doc, name });
    for (const rev of _conflicts) await this.db.remove(id, rev);
  }

  /**
   * Deletes a list, here and in every browser that syncs.
   * @param {string} id
   */
  async remove(id) {
    const { _rev, _conflicts = [] } = await this.db.get(id, { conflicts: true });
    for (const rev of [..._conflicts, _rev]) await this.db.remove(id, rev);
  }

  async #addFirst() {
    try {
      await this.db.get(FIRST._id);
    } catch (error) {
      // A deleted list is not made again.
      if (/** @type {any} */ (error).reason === 'missing') await this.db.put(FIRST);
    }
  }

  /** @param {any} row Of the changes feed. */
  async #take({ id, deleted, doc }) {
    if (!id.startsWith('list-')) return;
    const known = this.#entries.get(id);
    if (deleted && known) {
      this.#entries.delete(id);
      this.dispatchEvent(new CustomEvent('closed', { detail: known.list }));
    } else if (known) {
      known.name = doc.name;
    } else if (!deleted) {
      const list = new TodoList(id);
      await list.open();
      this.#entries.set(id, { id, name: doc.name, list });
      this.dispatchEvent(new CustomEvent('opened', { detail: list }));
    }
    this.dispatchEvent(new Event('change'));
  }
}
