/**
 * Plain objects of a database behind the gateway, for applications without a local database.
 *
 * An edit is shown at once and sent as soon as there is a channel, again where its answer was lost.
 * What is refused is taken back.
 */

import { asError, DeniedError, SetteeError } from './errors.js';
import { Keeper } from './keeper.js';
import { holdsSame, newId, plain, wrong } from './objects-rev.js';
import { Requests } from './objects-requests.js';
import { Shown } from './objects-shown.js';
import { Table } from './objects-table.js';
import { look, ObjectsView } from './objects-view.js';
import { send } from './objects-write.js';

/** @typedef {import('./channel.js').Channel} Channel */
/** @typedef {import('./documents.js').Doc} Doc */
/** @typedef {import('./objects-table.js').Write} Write */
/** @typedef {import('./objects-view.js').ViewDefinition} ViewDefinition */

/**
 * @typedef {object} ObjectsOptions
 * @property {any} [credentials] What to show the gateway: any JSON, or a function that returns it or
 *   a promise of it, and is asked for every new channel, before a grant ends and after a refusal.
 * @property {boolean} [create] Whether to have the database made if it is not there.
 * @property {Partial<import('./objects-requests.js').Buffer>} [buffer] How much may wait for an answer.
 */

/**
 * An object as it is stored.
 * @template {object} T
 * @typedef {T & {_id: string, _rev: string}} Stored
 */

/**
 * An object to be saved.
 * @template {object} T
 * @typedef {T & {_id?: string, _rev?: string}} Savable
 */

/** Views at a time: each is a call that does not end, of which a connection has few. */
const VIEWS_MAX = 32;

/**
 * Events: those of {@link Shown} for every object that is known; `denied` (error) for an edit that was
 * taken back; `connect` and `disconnect` (error) of the database; `error` (error) when it cannot be
 * opened. Nobody has to listen to any of them.
 * @template {object} [T=Record<string, any>]
 * @extends {Shown<T>}
 */
export class Objects extends Shown {
  #keeper;
  #times;
  #requests;
  #table = new Table(this);
  /** @type {Channel | undefined} */
  #channel;
  /** Which database was seen last. @type {string | undefined} */
  #uuid;
  /** @type {Set<Promise<void>>} */
  #following = new Set();
  /** @type {WeakMap<Write, {request: import('./objects-requests.js').Request, answer: Promise<any>}>} */
  #edits = new WeakMap();
  #isRunning = false;
  #isClosed = false;

  /**
   * @param {import('./connection.js').Connection} connection
   * @param {import('./connection.js').Times} times
   * @param {string} database
   * @param {ObjectsOptions} options
   */
  constructor(connection, times, database, { credentials = null, create = false, buffer = {} }) {
    super();
    const kept = { database, credentials, create, retry: true };
    this.#keeper = new Keeper(connection, times, kept, () => {});
    this.#times = times;
    this.#requests = new Requests(times, buffer);
    // Whoever opens it attaches listeners first.
    queueMicrotask(() => this.#open());
  }

  /** Whether the database is open. */
  get isConnected() {
    return this.#channel !== undefined;
  }

  /** Every object that is known: of a view, fetched, or saved and in no view since. */
  allObjects() {
    return this.list();
  }

  /**
   * Saves an object and shows it at once. Without `_id` it is a new one. Without `_rev` it takes the
   * place of the one that is known here, if there is one.
   * @param {Savable<T>} object Left as it is.
   * @param {{always?: boolean}} [options] `always`: also what a view shows the same already.
   * @returns {Promise<Stored<T>>} Rejects with a {@link DeniedError} if it was taken back.
   */
  save(object, { always = false } = {}) {
    return this.#quiet(() => {
      const { _rev, ...doc } = plain(object);
      doc._id ??= newId();
      const shown = this.#table.shown(doc._id);
      const isKnown = shown && this.#table.isFollowed(doc._id);
      if (!isKnown || always || !holdsSame(shown, doc)) return this.#edit(doc._id, doc, _rev);
      const write = this.#table.lastWrite(doc._id);
      return (write && this.#edits.get(write)?.answer) ?? Promise.resolve(structuredClone(shown));
    });
  }

  /**
   * Deletes an object, which is shown no more at once. One that is not there is deleted already.
   * @param {string | Savable<T>} objectOrId An object with `_rev` is deleted only if it is still that one.
   * @returns {Promise<void>} Rejects with a {@link DeniedError} if it was taken back.
   */
  destroy(objectOrId) {
    return this.#quiet(() => {
      const isId = typeof objectOrId === 'string';
      const { _id, _rev } = isId ? { _id: objectOrId, _rev: undefined } : plain(objectOrId);
      if (!_id) throw wrong('only an object with an _id can be deleted');
      const write = this.#table.lastWrite(_id);
      const isUnderWay = write && !write.doc;
      return (isUnderWay && this.#edits.get(write)?.answer) || this.#edit(_id, undefined, _rev);
    });
  }

  /**
   * @overload
   * @param {string} ids
   * @returns {Promise<Stored<T> | undefined>}
   */
  /**
   * @overload
   * @param {string[]} ids
   * @returns {Promise<Array<Stored<T>>>}
   */
  /**
   * Reads objects from the gateway; they are known from then on. Those that are not there are left out.
   * @param {string | string[]} ids
   * @returns {Promise<any>}
   */
  fetch(ids) {
    return this.#quiet(async () => {
      const wanted = typeof ids === 'string' ? [ids] : [...ids];
      await this.#look(wanted);
      const found = wanted.map((id) => this.#table.shown(id)).filter((object) => object !== undefined);
      const copies = structuredClone(found);
      return typeof ids === 'string' ? copies[0] : copies;
    });
  }

  /**
   * Objects that no view has are not known any more; `leave` tells them.
   * @param {string | string[]} ids
   */
  forget(ids) {
    for (const id of typeof ids === 'string' ? [ids] : ids) this.#table.release(id);
  }

  /**
   * Follows objects: what is in the view, and every change of it.
   * @param {ViewDefinition} [definition] All objects if not given.
   * @returns {ObjectsView<T>}
   */
  subscribe(definition = {}) {
    if (this.#isClosed) throw closed();
    if (this.#table.views.size >= VIEWS_MAX) throw new RangeError(`there are ${VIEWS_MAX} views already`);
    /** @type {ObjectsView<T>} */
    const view = new ObjectsView(this.#table, this.#times, definition, () => this.#leave(view));
    this.#table.views.add(view);
    if (this.#channel) this.#follow(view, this.#channel);
    else this.#open();
    return view;
  }

  /** Ends it: views are closed, requests that are not answered fail with `closed`. */
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#keeper.stop();
    this.#keeper.channel?.close();
    this.#requests.fail(closed());
    for (const view of [...this.#table.views]) view.close();
  }

  /** @param {ObjectsView<any>} view */
  #leave(view) {
    const ids = [...view.members];
    view.members.clear();
    for (const id of ids) this.#table.tell(id);
    this.#table.views.delete(view);
  }

  async #open() {
    if (this.#isRunning || this.#isClosed) return;
    this.#isRunning = true;
    let error;
    try {
      await this.#keeper.run((channel) => this.#use(channel));
    } catch (thrown) {
      error = asError(thrown);
    }
    this.#isRunning = false;
    if (!error || this.#isClosed) return;
    this.#requests.fail(error);
    for (const view of this.#table.views) view.fail(error);
    if (error.name !== 'ended') this.emit('error', error);
  }

  /** @param {Channel} channel */
  async #use(channel) {
    const { uuid } = channel.opened.info;
    const isOther = this.#uuid !== undefined && this.#uuid !== uuid;
    this.#uuid = uuid;
    this.#channel = channel;
    if (isOther) this.#begin();
    this.#requests.use(channel);
    for (const view of this.#table.views) this.#follow(view, channel);
    this.emit('connect');
    const error = await channel.ended;
    this.#channel = undefined;
    this.#requests.use(undefined);
    for (const view of this.#table.views) view.wake();
    this.emit('disconnect', error);
    await Promise.all(this.#following);
    throw error;
  }

  /**
   * @param {ObjectsView<any>} view
   * @param {Channel} channel
   */
  #follow(view, channel) {
    const following = view.run(channel).finally(() => this.#following.delete(following));
    this.#following.add(following);
  }

  /** The database was destroyed and made again: everything is read anew. */
  #begin() {
    this.#table.begin();
    for (const view of this.#table.views) view.begin();
    this.#quiet(() => this.#look(this.#table.kept()));
  }

  /** @param {string[]} ids */
  #look(ids) {
    return this.#ask((channel) => look(channel, this.#table, ids, true));
  }

  /**
   * @param {import('./objects-requests.js').Attempt} attempt
   * @returns {Promise<any>}
   */
  #ask(attempt) {
    this.#check(0);
    const { request, answer } = this.#requests.add(attempt);
    this.#requests.start(request);
    return answer;
  }

  /** @param {number} bytes */
  #check(bytes) {
    if (this.#isClosed) throw closed();
    this.#requests.checkRoom(bytes);
    this.#open();
  }

  /**
   * @param {string} id
   * @param {Doc | undefined} doc
   * @param {string | undefined} base
   */
  #edit(id, doc, base) {
    const bytes = new TextEncoder().encode(JSON.stringify(doc ?? {})).length;
    this.#check(bytes);
    const write = this.#table.begun(id, doc, base);
    const attempt = (/** @type {Channel} */ channel, /** @type {boolean} */ isRepeated) =>
      send(channel, this.#table, write, isRepeated);
    const { request, answer } = this.#requests.add(attempt, bytes);
    const ended = answer.then(
      (rev) => this.#taken(write, rev),
      (error) => this.#refused(write, error),
    );
    this.#edits.set(write, { request, answer: ended });
    if (this.#table.isFirst(write)) this.#requests.start(request);
    return ended;
  }

  /**
   * @param {Write} write
   * @param {string | undefined} rev
   */
  #taken(write, rev) {
    this.#startNext(this.#table.ended(write, true, rev));
    const stored = this.#table.stored(write.id);
    return structuredClone(stored?._rev === rev ? stored : write.doc);
  }

  /**
   * @param {Write} write
   * @param {Error} error
   */
  #refused(write, error) {
    const { id, doc } = write;
    this.#startNext(this.#table.ended(write, false));
    const { status = 500, name, message: reason } = /** @type {SetteeError} */ (error);
    const [attempted, object] = structuredClone([doc, this.#table.stored(id)]);
    const denied = new DeniedError({ status, error: name, reason }, id, attempted, object);
    this.emit('denied', denied);
    throw denied;
  }

  /** @param {Write | undefined} write */
  #startNext(write) {
    const edit = write && this.#edits.get(write);
    if (edit) this.#requests.start(edit.request);
  }

  /**
   * What is asked for may be left alone: nobody has to hear of its failure.
   * @param {() => Promise<any>} work
   */
  #quiet(work) {
    /** @type {Promise<any>} */
    let done;
    try {
      done = work();
    } catch (thrown) {
      done = Promise.reject(thrown);
    }
    done.catch(() => {});
    return done;
  }
}

function closed() {
  return new SetteeError({ status: 410, error: 'closed', reason: 'the objects were closed' });
}
