/**
 * Reading and writing of the PouchDB adapter: PouchDB's options and results over a channel's calls.
 */

import { fill, sendAhead, uploadsOf } from './adapter-attachments.js';
import { check } from './adapter-check.js';
import { PouchError } from './adapter-errors.js';
import { chunked } from './documents.js';
import { RemoteDatabase } from './remote.js';

/** @typedef {import('./documents.js').Doc} Doc */
/** @typedef {import('./channel.js').Channel} Channel */
/** @typedef {import('./session.js').Session} Session */

/** Options of `get` that the gateway knows. */
const GET = [
  'rev', 'latest', 'revs', 'revs_info', 'conflicts', 'deleted_conflicts', 'local_seq', 'open_revs',
];

/** Options of `allDocs` that the gateway knows. */
const ALL_DOCS = [
  'startkey', 'endkey', 'inclusive_end', 'key', 'descending', 'limit', 'skip', 'include_docs', 'conflicts',
];

export class Documents {
  #session;

  /** @param {Session} session */
  constructor(session) {
    this.#session = session;
  }

  info() {
    return this.#session.call((channel) => channel.call('info'));
  }

  /** Names the database, and the part of it that the grant shows, for ever. */
  async identity() {
    const { opened } = await this.#session.channel();
    const { info, access } = opened;
    return access.view === undefined ? info.uuid : `${info.uuid} ${access.view}`;
  }

  /**
   * @param {string} id
   * @param {any} options
   */
  async get(id, options) {
    const params = { id, ...known(options, GET) };
    const found = await this.#session.call((channel) => channel.call('get', params));
    const docs = Array.isArray(found) ? found.flatMap((one) => one.ok ?? []) : [found];
    if (options.attachments) await fill(this.#session, docs, options.binary);
    return found;
  }

  /** @param {any} options */
  async bulkGet({ docs, revs, latest, attachments, binary }) {
    const wanted = docs.map((/** @type {any} */ { id, rev }) => ({ id, ...(rev ? { rev } : {}) }));
    const flags = { revs: Boolean(revs), latest: Boolean(latest) };
    const results = await this.#inChunks(wanted, async (channel, some) => {
      const stream = await channel.stream('bulk_get', { docs: some, ...flags });
      return (await all(stream)).rows;
    });
    for (const row of results) {
      row.docs = row.docs.map((/** @type {any} */ one) => (one.error ? missing(one.error) : one));
    }
    const found = results.flatMap((row) => row.docs.flatMap((/** @type {any} */ one) => one.ok ?? []));
    if (attachments) await fill(this.#session, found, binary);
    return { results };
  }

  /** @param {any} options */
  async allDocs(options) {
    const { rows, total_rows } = options.keys
      ? await this.#allDocsOf(options)
      : await this.#session.call((channel) => allDocs(channel, known(options, ALL_DOCS)));
    for (const row of rows) if (!options.include_docs) delete row.doc;
    if (options.include_docs && options.attachments) {
      const docs = rows.flatMap((/** @type {any} */ row) => row.doc ?? []);
      await fill(this.#session, docs, options.binary);
    }
    const result = { total_rows, offset: options.skip ?? 0, rows };
    return options.update_seq ? { ...result, update_seq: (await this.info()).update_seq } : result;
  }

  /** @param {any} options */
  async #allDocsOf({ keys, skip = 0, limit = Infinity, descending, include_docs, conflicts }) {
    const ordered = descending ? [...keys].reverse() : keys;
    const flags = known({ include_docs, conflicts }, ALL_DOCS);
    let total_rows = 0;
    const rows = await this.#inChunks(ordered.slice(skip, skip + limit), async (channel, some) => {
      const page = await allDocs(channel, { keys: some, ...flags });
      total_rows = page.total_rows;
      return page.rows;
    });
    // Nothing was asked for, but for the number.
    if (rows.length === 0) total_rows = (await this.info()).doc_count;
    return { rows, total_rows };
  }

  /** @param {Record<string, string[]>} asked */
  async revsDiff(asked) {
    const pairs = Object.entries(asked).flatMap(([id, revs]) => revs.map((rev) => ({ id, rev })));
    const rows = await this.#inChunks(pairs, async (channel, some) => {
      /** Ids may be names of an object's own members. @type {Map<string, string[]>} */
      const revs = new Map(some.map(({ id }) => [id, []]));
      for (const { id, rev } of some) revs.get(id)?.push(rev);
      return Object.entries(await channel.call('revs_diff', Object.fromEntries(revs)));
    });
    /** @type {Map<string, {missing: string[]}>} */
    const found = new Map();
    for (const [id, row] of rows) {
      const before = found.get(id);
      if (before) before.missing.push(...row.missing);
      else found.set(id, row);
    }
    return Object.fromEntries(found);
  }

  /**
   * Writes documents. With new edits there is a row for each, in order; without, one for each that
   * was refused.
   * @param {any[]} docs
   * @param {boolean} newEdits
   */
  async bulkDocs(docs, newEdits) {
    for (const doc of docs) check(doc, newEdits);
    const { opened } = await this.#session.channel();
    const rows = [];
    for (const part of parts(docs, opened.limits.uploads_max)) {
      rows.push(...(await this.#write(part, newEdits)));
    }
    return rows;
  }

  /** @returns {Promise<any>} */
  async destroy() {
    try {
      return await this.#session.call(
        (channel) => channel.call('destroy'),
        () => false,
      );
    } catch (error) {
      // It is gone: its channel may be closed before the answer comes.
      if (/** @type {any} */ (error).status === 404) return { ok: true };
      throw error;
    }
  }

  /**
   * @param {any[]} docs
   * @param {boolean} newEdits
   * @returns {Promise<any[]>}
   */
  #write(docs, newEdits) {
    let isSent = false;
    // What names its revisions, or the one to replace, is not written twice.
    const mayRepeat = () => !isSent || !newEdits || docs.every(({ _id }) => _id?.startsWith('_local/'));
    return this.#session.call(async (channel) => {
      const remote = new RemoteDatabase(channel);
      /** @type {Array<{doc: any, error?: any}>} */
      const ready = [];
      for (const doc of docs) {
        ready.push(uploadsOf(doc) > 0 ? await sendAhead(remote, doc, newEdits) : { doc });
        if (channel.isOver) throw await channel.ended;
      }
      const taken = ready.filter(({ error }) => !error).map(({ doc }) => doc);
      isSent = true;
      const rows = await (newEdits ? remote.edit(taken) : remote.write(taken));
      if (newEdits) return ready.map(({ doc, error }) => answer(error ?? rows.shift(), doc));
      const failed = ready.filter(({ error }) => error);
      return [...rows.map((row) => answer(row)), ...failed.map(({ doc, error }) => answer(error, doc))];
    }, mayRepeat);
  }

  /**
   * Asks for no more at a time than a gateway answers.
   * @template T
   * @param {T[]} wanted
   * @param {(channel: Channel, some: T[]) => Promise<any[]>} ask
   */
  async #inChunks(wanted, ask) {
    const { opened } = await this.#session.channel();
    const results = [];
    for (const some of chunked(wanted, opened.limits.bulk_rows_max)) {
      results.push(...(await this.#session.call((channel) => ask(channel, some))));
    }
    return results;
  }
}

/**
 * Cuts a write so that the gateway remembers all uploads of a part until its documents come.
 * @param {any[]} docs
 * @param {number} uploadsMax
 */
function* parts(docs, uploadsMax) {
  let [part, uploads] = [/** @type {any[]} */ ([]), 0];
  for (const doc of docs) {
    const more = uploadsOf(doc);
    if (uploads + more > uploadsMax && part.length > 0) {
      yield part;
      [part, uploads] = [[], 0];
    }
    part.push(doc);
    uploads += more;
  }
  if (part.length > 0) yield part;
}

/**
 * A row of `bulkDocs`.
 * @param {any} row A row of the gateway's, or an error.
 * @param {any} [doc] The document that was written, where that is known.
 */
function answer(row, doc) {
  if (row.ok) return row;
  if (row instanceof PouchError) return Object.assign(row, { id: doc?._id });
  const { rev } = row;
  return new PouchError(row, { id: row.id || doc?._id, ...(rev ? { rev } : {}) });
}

/**
 * @param {any} error
 */
function missing({ id, rev, ...why }) {
  return { error: new PouchError(why, { id, rev }) };
}

/**
 * @param {Channel} channel
 * @param {object} params
 */
async function allDocs(channel, params) {
  const { rows, value } = await all(await channel.stream('all_docs', params));
  return { rows, total_rows: value.total_rows };
}

/** @param {import('./channel.js').CallStream} stream */
async function all(stream) {
  const rows = [];
  for (let item = await stream.next(); item; item = await stream.next()) rows.push(...item.rows);
  return { rows, value: stream.value };
}

/**
 * Those options that the gateway knows.
 * @param {any} options
 * @param {string[]} names
 */
function known(options, names) {
  const given = names.filter((name) => options[name] !== undefined);
  return Object.fromEntries(given.map((name) => [name, options[name]]));
}
