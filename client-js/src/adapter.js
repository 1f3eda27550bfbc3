/**
 * The PouchDB adapter: `new PouchDB('todos', { adapter: 'settee', client })` is the database `todos`
 * behind the client's gateway.
 *
 * PouchDB's own methods check arguments and make `put`, `post`, `remove` and the attachment methods
 * out of `_bulkDocs` and `get`. What a gateway answers in one call is answered so, and replaces
 * PouchDB's way through revision trees, which a remote database does not show.
 */

import { read } from './adapter-attachments.js';
import { Changes } from './adapter-changes.js';
import { Documents } from './adapter-documents.js';
import { pouchError } from './adapter-errors.js';

/** @typedef {(error: any, result?: any) => void} Callback */

/**
 * Options of a database with `adapter: 'settee'`, beside PouchDB's own.
 * @typedef {object} AdapterOptions
 * @property {import('./client.js').Client} client The connection to use.
 * @property {any} [credentials] What to show the gateway: any JSON, or a function that returns it or
 *   a promise of it, and is asked for every new channel, before a grant ends and after a refusal.
 * @property {boolean} [create] Whether to have the database made if it is not there.
 */

/**
 * The plugin: `PouchDB.plugin(Settee)`.
 * @param {any} PouchDB
 */
export function Settee(PouchDB) {
  PouchDB.adapter('settee', SetteeAdapter);
}

/**
 * PouchDB calls this with the database as `this`.
 * @this {any}
 * @param {AdapterOptions & {name: string}} options
 * @param {Callback} callback
 */
function SetteeAdapter(options, callback) {
  const { client, credentials = null, create = false, name } = options;
  if (typeof client?.session !== 'function') {
    const how = "new PouchDB(name, { adapter: 'settee', client })";
    throw new TypeError(`the adapter 'settee' needs a client: ${how}`);
  }
  const session = client.session({ database: name, credentials, create });
  this._remote = true;
  addReading(this, session);
  addWriting(this, session);
  addFeed(this, session);
  queueMicrotask(() => {
    const known = this.listeners('destroyed');
    callback(null, this);
    standAlone(this, known);
  });
}
SetteeAdapter.valid = () => true;
SetteeAdapter.use_prefix = false;

/**
 * When a database is destroyed, PouchDB tells all others of its name. A local database may have the
 * same name as this one, and neither is destroyed with the other.
 * @param {any} db
 * @param {Function[]} known Listeners to `destroyed` before PouchDB added its own.
 */
function standAlone(db, known) {
  for (const listener of db.listeners('destroyed')) {
    if (!known.includes(listener)) db.removeListener('destroyed', listener);
  }
  const byName = db.constructor._destructionListeners;
  const others = byName?.get(db.name)?.filter((/** @type {any} */ other) => other !== db) ?? [];
  if (others.length > 0) byName.set(db.name, others);
  else byName?.delete(db.name);
}

/**
 * @param {any} db
 * @param {import('./session.js').Session} session
 */
function addReading(db, session) {
  const documents = new Documents(session);
  db._info = told(() => documents.info());
  db._id = told(() => documents.identity());
  db._allDocs = told((options) => documents.allDocs(options));
  db.get = method(db, async (id, options = {}) => {
    const isText = typeof id === 'string';
    if (!isText) throw pouchError({ status: 400, error: 'bad_request', reason: NO_ID });
    return documents.get(id, options).catch((error) => Promise.reject(pouchError(error, id)));
  });
  db.bulkGet = method(db, (options) => documents.bulkGet(options));
  db.revsDiff = method(db, (asked) => documents.revsDiff(asked));
  db.getAttachment = method(db, (id, name, options = {}) =>
    read(session, { _id: id, _rev: options.rev }, name),
  );
}

/** PouchDB's text. */
const NO_ID = '_id field must contain a string';

/**
 * @param {any} db
 * @param {import('./session.js').Session} session
 */
function addWriting(db, session) {
  const documents = new Documents(session);
  db._bulkDocs = told(({ docs }, { new_edits }) => documents.bulkDocs(docs, new_edits));
  // The gateway keeps its storage small by itself.
  db.compact = method(db, async () => ({ ok: true }));
  db._destroy = told(async () => {
    const done = await documents.destroy();
    session.close();
    return done;
  });
  db._close = told(async () => session.close());
}

/**
 * @param {any} db
 * @param {import('./session.js').Session} session
 */
function addFeed(db, session) {
  const begin = (/** @type {any} */ options, /** @type {Changes} */ changes) => {
    const tell = (/** @type {any} */ result) => changes.isCancelled || options.complete(null, result);
    const fail = (/** @type {any} */ error) =>
      changes.isCancelled || options.complete(pouchError(error));
    changes.run().then(tell, fail);
  };
  db._changes = (/** @type {any} */ options) => {
    const { filter } = options;
    const isNamed = typeof filter === 'string';
    const isBuiltIn = options.doc_ids || options.selector || filter === DESIGN;
    if (isNamed && !isBuiltIn) return named(db, options, begin, session);
    const made = isNamed ? { ...options, filter: filter === DESIGN ? isDesign : undefined } : options;
    const changes = new Changes(session, made);
    begin(made, changes);
    return changes;
  };
}

/** CouchDB's filter for design documents, as PouchDB writes its name. */
const DESIGN = '_design/_design';

/** @param {{_id: string}} doc */
function isDesign({ _id }) {
  return _id.startsWith('_design/');
}

/**
 * A feed whose filter PouchDB makes of a function in a design document.
 * @param {any} db
 * @param {any} options
 * @param {(options: any, changes: Changes) => void} begin
 * @param {import('./session.js').Session} session
 */
function named(db, options, begin, session) {
  /** @type {Changes | undefined} */
  let changes;
  const handler = {
    db,
    isCancelled: false,
    doChanges(/** @type {any} */ made) {
      if (this.isCancelled) return;
      changes = new Changes(session, made);
      begin(made, changes);
    },
  };
  db.constructor._changesFilterPlugin.filter(handler, options);
  return {
    cancel() {
      handler.isCancelled = true;
      changes?.cancel();
    },
  };
}

/**
 * Work as PouchDB calls what an adapter provides: the callback last.
 * @param {(...args: any[]) => Promise<any>} work
 */
function told(work) {
  return (/** @type {any[]} */ ...args) => {
    /** @type {Callback} */
    const callback = args.pop();
    work(...args).then(
      (result) => callback(null, result),
      (error) => callback(pouchError(error)),
    );
  };
}

/**
 * A method as PouchDB's users call it: with a callback, or for a promise.
 * @param {any} db
 * @param {(...args: any[]) => Promise<any>} work
 */
function method(db, work) {
  return (/** @type {any[]} */ ...args) => {
    const callback = typeof args.at(-1) === 'function' ? args.pop() : undefined;
    const promise = run(db, () => work(...args));
    if (callback) promise.then((result) => callback(null, result), callback);
    return promise;
  };
}

/**
 * @param {any} db
 * @param {() => Promise<any>} work
 */
async function run(db, work) {
  if (db._closed) throw new Error('database is closed');
  if (db._destroyed) throw new Error('database is destroyed');
  try {
    return await work();
  } catch (error) {
    throw pouchError(error);
  }
}
