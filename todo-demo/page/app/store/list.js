/**
 * One list: a PouchDB database with a document for each to-do, kept in memory as it changes. What is
 * shown is always what the database holds, whoever wrote it.
 */

import PouchDB from '/vendor/pouchdb.js';
import { deletion, IMAGE, keep, versionsOf } from './conflicts.js';
import { deviceName } from './device.js';
import { byOrder, keysAt } from './order.js';

/**
 * @typedef {object} TodoDoc
 * @property {string} _id
 * @property {string} _rev
 * @property {boolean} [_deleted]
 * @property {Record<string, any>} [_attachments]
 * @property {string} title
 * @property {string} [note]
 * @property {boolean} done
 * @property {string} order A key of order.js.
 * @property {string} edited When, in ISO 8601.
 * @property {string} by The browser that did.
 * @property {string} [deletedAt]
 */

/**
 * A to-do and, if it is in conflict, all its versions.
 * @typedef {{doc: TodoDoc, versions: TodoDoc[]}} Todo
 */

/** Images are synced as they are, so that they should not be huge. */
export const IMAGE_BYTES_MAX = 5_000_000;

/** Events: `change`. */
export class TodoList extends EventTarget {
  /** @type {Map<string, Todo>} */
  #todos = new Map();
  /** @type {any} */
  #feed;
  /** Changes are taken in one after another. */
  #taken = Promise.resolve();

  /** @param {string} name Of the database, here and behind the gateway. */
  constructor(name) {
    super();
    this.name = name;
    this.db = new PouchDB(name);
  }

  /** Reads the list and follows it. */
  async open() {
    const options = { style: 'all_docs', include_docs: true };
    const { results, last_seq } = await this.db.changes({ ...options, since: 0 });
    for (const row of results) await this.#take(row);
    this.dispatchEvent(new Event('change'));
    this.#feed = this.db.changes({ ...options, since: last_seq, live: true, return_docs: false });
    this.#feed.on('change', (/** @type {any} */ row) => {
      this.#taken = this.#taken.then(async () => {
        await this.#take(row);
        this.dispatchEvent(new Event('change'));
      });
    });
  }

  async close() {
    this.#feed?.cancel();
    await this.#taken;
  }

  /** Removes the list from this browser. */
  async destroy() {
    await this.close();
    await this.db.destroy();
  }

  /** In order. @returns {Todo[]} */
  get todos() {
    return [...this.#todos.values()].sort((a, b) => byOrder(a.doc, b.doc));
  }

  /** @param {string} id */
  find(id) {
    return this.#todos.get(id);
  }

  /** @param {string} title */
  async add(title) {
    const docs = this.#docs();
    const { own } = keysAt(docs, docs.length);
    const _id = `todo-${crypto.randomUUID()}`;
    await this.db.put({ _id, title, done: false, order: own, ...signature() });
    return _id;
  }

  /**
   * Changes members, whatever the latest revision is.
   * @param {string} id
   * @param {Partial<TodoDoc>} members
   */
  change(id, members) {
    return this.#onLatest(id, (doc) => ({ ...doc, ...members, ...signature() }));
  }

  /**
   * Saves what was made of one revision. Fails with status 409 if there is a newer one, so that
   * nobody overwrites what they have not seen.
   * @param {TodoDoc} doc The revision.
   * @param {{title: string, note: string}} members
   * @param {File | Blob | null | undefined} image `null` removes it, undefined leaves it.
   */
  async save(doc, members, image) {
    const { _attachments, ...rest } = doc;
    const attachments = image === undefined ? { _attachments } : attached(image);
    await this.db.put({ ...rest, ...members, ...signature(), ...attachments });
  }

  /** @param {TodoDoc} doc */
  remove({ _id }) {
    return this.#onLatest(_id, (doc) => deletion(doc, signature()));
  }

  /**
   * Brings a removed to-do back.
   * @param {TodoDoc} doc Its last revision before that.
   */
  async restore(doc) {
    const { _id, _rev, _attachments, ...members } = doc;
    const image = _attachments?.[IMAGE] ? await this.image(doc) : null;
    await this.db.put({ _id, ...members, ...signature(), ...attached(image) });
  }

  /**
   * Puts a to-do at a place among the others.
   * @param {string} id
   * @param {{after: string} | {before: string}} place
   */
  async move(id, place) {
    const others = this.#docs().filter((doc) => doc._id !== id);
    const neighbour = 'after' in place ? place.after : place.before;
    const found = others.findIndex((doc) => doc._id === neighbour);
    if (found < 0) return;
    const index = 'after' in place ? found + 1 : found;
    const { own, later } = keysAt(others, index);
    await this.change(id, { order: own });
    for (const [n, order] of later.entries()) await this.change(others[index + n]._id, { order });
  }

  /**
   * @param {TodoDoc} doc
   * @returns {Promise<Blob>}
   */
  image({ _id, _rev }) {
    return this.db.getAttachment(_id, IMAGE, { rev: _rev });
  }

  /**
   * Ends a conflict.
   * @param {TodoDoc[]} versions
   * @param {TodoDoc} chosen
   */
  keep(versions, chosen) {
    return keep(this.db, versions, chosen, signature());
  }

  /**
   * Writes what is made of the latest revision. A to-do that was deleted meanwhile stays deleted.
   * @param {string} id
   * @param {(doc: TodoDoc) => object} make
   */
  async #onLatest(id, make) {
    for (;;) {
      try {
        return await this.db.put(make(await this.db.get(id)));
      } catch (error) {
        if (/** @type {any} */ (error).status === 404) return undefined;
        // A newer revision came between reading and writing.
        if (!isConflict(error)) throw error;
      }
    }
  }

  #docs() {
    return this.todos.map(({ doc }) => doc);
  }

  /** @param {any} row Of the changes feed, with all leaves. */
  async #take({ id, changes, deleted, doc }) {
    if (!id.startsWith('todo-')) return;
    if (deleted) {
      this.#todos.delete(id);
      return;
    }
    const versions = changes.length > 1 ? await versionsOf(this.db, id) : [];
    this.#todos.set(id, { doc, versions: versions.length > 1 ? versions : [] });
  }
}

/**
 * @param {Blob | null} image
 * @returns {{_attachments?: Record<string, any>}}
 */
function attached(image) {
  return image ? { _attachments: { [IMAGE]: { content_type: image.type, data: image } } } : {};
}

/** What every write says about itself. */
function signature() {
  return { edited: new Date().toISOString(), by: deviceName() };
}

/** @param {any} error */
export function isConflict(error) {
  return error.status === 409;
}
