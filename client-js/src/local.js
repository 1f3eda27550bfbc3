/**
 * The application's PouchDB as one end of a replication.
 */

import { refusal } from './denied.js';

/** @typedef {import('./documents.js').Doc} Doc */
/** @typedef {import('./documents.js').Revision} Revision */
/** @typedef {import('./denied.js').Refusal} Refusal */

export class LocalDatabase {
  /** @param {any} db A PouchDB of version 7, 8 or 9. */
  constructor(db) {
    this.db = db;
  }

  /** Names the database for as long as it lives. @returns {Promise<string>} */
  identity() {
    return this.db.id();
  }

  async isEmpty() {
    const { results } = await this.db.changes({ limit: 1 });
    return results.length === 0;
  }

  /**
   * Reads revisions with their histories; those that are not there are left out.
   * @param {Revision[]} wanted
   * @returns {Promise<Doc[]>}
   */
  async fetch(wanted) {
    const docs = wanted.map(([id, rev]) => ({ id, rev }));
    const { results } = await this.db.bulkGet({ docs, revs: true });
    return results.flatMap((/** @type {any} */ result) =>
      result.docs.flatMap((/** @type {any} */ one) => (one.ok ? [one.ok] : [])),
    );
  }

  /**
   * Writes revisions as they are. Returns those that were refused.
   * @param {Doc[]} docs
   * @returns {Promise<Refusal[]>}
   */
  async write(docs) {
    if (docs.length === 0) return [];
    if (docs.length === 1) return this.#writeOne(docs[0]);
    try {
      const rows = await this.db.bulkDocs(docs, { new_edits: false });
      if (!rows.some((/** @type {any} */ row) => row.error)) return [];
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
    // A bulk write's errors do not say reliably which documents they are about, and one refused
    // document may have kept the others out.
    const refused = [];
    for (const doc of docs) refused.push(...(await this.#writeOne(doc)));
    return refused;
  }

  /** @param {Doc} doc */
  async #writeOne(doc) {
    try {
      const rows = await this.db.bulkDocs([doc], { new_edits: false });
      const error = rows.find((/** @type {any} */ row) => row.error);
      if (!error) return [];
      if (!isRefusal(error)) throw error;
      return [refusal(doc, { ...error, error: error.name, reason: error.reason || error.message })];
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return [refusal(doc, /** @type {any} */ (error))];
    }
  }

  /**
   * Of these documents, those whose revision is not there.
   * @param {Doc[]} docs
   */
  async missing(docs) {
    if (docs.length === 0) return docs;
    /** @type {Record<string, string[]>} */
    const asked = {};
    for (const { _id, _rev } of docs) (asked[_id] ??= []).push(_rev);
    const found = await this.db.revsDiff(asked);
    return docs.filter(({ _id, _rev }) => found[_id]?.missing.includes(_rev));
  }

  /**
   * @param {Doc} doc
   * @param {string} name
   * @returns {Promise<any>} A Buffer or a Blob.
   */
  attachment({ _id, _rev }, name) {
    return this.db.getAttachment(_id, name, { rev: _rev });
  }

  /**
   * A local document.
   * @param {string} id
   * @returns {Promise<any>} The document, or undefined.
   */
  async get(id) {
    try {
      return await this.db.get(id);
    } catch (error) {
      if (/** @type {any} */ (error).status === 404) return undefined;
      throw error;
    }
  }

  /**
   * Writes a local document, whatever was there.
   * @param {string} id
   * @param {object} body
   */
  async set(id, body) {
    for (;;) {
      const known = await this.get(id);
      try {
        await this.db.put({ ...body, _id: id, ...(known ? { _rev: known._rev } : {}) });
        return;
      } catch (error) {
        // Another sync of the same databases was faster.
        if (/** @type {any} */ (error).status !== 409) throw error;
      }
    }
  }
}

/**
 * Whether an error is about the document and not about the database.
 * @param {any} error
 */
function isRefusal(error) {
  return error.status >= 400 && error.status < 500;
}
