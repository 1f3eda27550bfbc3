/**
 * A database behind a gateway as one end of a replication, over an open channel.
 */

import { byteLength, chunksOf, joined } from './bytes.js';
import { refusal } from './denied.js';
import { broken } from './errors.js';

/** @typedef {import('./documents.js').Doc} Doc */
/** @typedef {import('./documents.js').Revision} Revision */
/** @typedef {import('./denied.js').Refusal} Refusal */

/** Text of documents in one message; small enough to be written while the next is made. */
const WRITE_CHARS_TARGET = 512 * 1024;

export class RemoteDatabase {
  #channel;

  /** @param {import('./channel.js').Channel} channel */
  constructor(channel) {
    this.#channel = channel;
  }

  /** Names the database for ever. */
  get identity() {
    return this.#channel.opened.info.uuid;
  }

  /** The part of the database that the grant shows, where it does not show all. */
  get view() {
    return this.#channel.opened.access.view;
  }

  /** Uploads that documents of one write may refer to. */
  get uploadsMax() {
    return Math.max(1, this.#channel.opened.limits.uploads_max);
  }

  /**
   * The changes feed, with every leaf's document.
   * @param {{since?: string, live: boolean, doc_ids?: string[], selector?: object, skip_tombstones: boolean}} params
   */
  changes(params) {
    return this.#channel.stream('changes', { ...params, style: 'all_docs', docs: true });
  }

  /**
   * Of these revisions, those that are not there.
   * @param {Array<{id: string, revs: string[]}>} rows
   * @returns {Promise<Revision[]>}
   */
  async missing(rows) {
    const params = Object.fromEntries(rows.map(({ id, revs }) => [id, revs]));
    /** @type {Record<string, {missing: string[]}>} */
    const found = await this.#channel.call('revs_diff', params);
    return Object.entries(found).flatMap(([id, { missing }]) =>
      missing.map((rev) => /** @type {Revision} */ ([id, rev])),
    );
  }

  /**
   * Reads revisions with their histories; those that are not there are left out.
   * @param {Revision[]} wanted
   * @returns {Promise<Doc[]>}
   */
  async fetch(wanted) {
    const docs = wanted.map(([id, rev]) => ({ id, rev }));
    const stream = await this.#channel.stream('bulk_get', { docs, revs: true });
    const found = [];
    for (let item = await stream.next(); item; item = await stream.next()) {
      for (const row of item.rows) {
        for (const one of row.docs) if (one.ok) found.push(one.ok);
      }
    }
    return found;
  }

  /**
   * Writes revisions as they are. Returns those that were refused.
   * @param {Doc[]} docs
   * @returns {Promise<Refusal[]>}
   */
  async write(docs) {
    const refused = [];
    for (const { part, texts, tooLarge } of this.#parts(docs)) {
      refused.push(...(tooLarge ? [tooLarge] : await this.#writePart(part, texts)));
    }
    return refused;
  }

  /**
   * Makes new revisions. Returns a row for each document, in order.
   * @param {any[]} docs
   * @returns {Promise<any[]>}
   */
  async edit(docs) {
    const rows = [];
    for (const { texts, tooLarge } of this.#parts(docs)) {
      const params = `{"docs":[${texts.join()}]}`;
      rows.push(...(tooLarge ? [tooLarge] : await this.#channel.callText('bulk_docs', params)));
    }
    return rows;
  }

  /**
   * Cuts a write into messages. A document that the gateway would not take is a part of its own.
   * @param {Doc[]} docs
   * @returns {Generator<{part: Doc[], texts: string[], tooLarge?: Refusal}>}
   */
  *#parts(docs) {
    const { bulk_rows_max, doc_bytes_max } = this.#channel.opened.limits;
    let [part, texts, chars] = [/** @type {Doc[]} */ ([]), /** @type {string[]} */ ([]), 0];
    for (const doc of docs) {
      const text = JSON.stringify(doc);
      const isTooLarge = text.length > doc_bytes_max;
      const isFull = chars + text.length > WRITE_CHARS_TARGET || part.length >= bulk_rows_max;
      if ((isFull || isTooLarge) && part.length > 0) {
        yield { part, texts };
        [part, texts, chars] = [[], [], 0];
      }
      if (isTooLarge) {
        const reason = `a document may have ${doc_bytes_max} bytes`;
        const why = { status: 413, error: 'too_large', reason };
        yield { part: [doc], texts: [text], tooLarge: refusal(doc, why) };
        continue;
      }
      part.push(doc);
      texts.push(text);
      chars += text.length;
    }
    if (part.length > 0) yield { part, texts };
  }

  /**
   * @param {Doc[]} docs
   * @param {string[]} texts
   * @returns {Promise<Refusal[]>}
   */
  async #writePart(docs, texts) {
    const params = `{"new_edits":false,"docs":[${texts.join()}]}`;
    /** @type {any[]} */
    const rows = await this.#channel.callText('bulk_docs', params);
    if (docs.length === 1) return rows.map((row) => refusal(docs[0], row));
    const named = rows.every((row) => row.id && row.rev);
    if (named) return rows.map((row) => refusal({ _id: row.id, _rev: row.rev }, row));
    // A document that the gateway could not even read is refused without its name.
    const refused = [];
    for (const [index, doc] of docs.entries()) {
      refused.push(...(await this.#writePart([doc], [texts[index]])));
    }
    return refused;
  }

  /**
   * @param {{_id: string, _rev?: string}} doc The winning rev, where none is named.
   * @param {string} name
   * @returns {Promise<any>} A Buffer or a Blob.
   */
  async attachment({ _id, _rev }, name) {
    const stream = await this.#channel.stream('attachment', { id: _id, rev: _rev, name });
    const pieces = [];
    for (let piece = await stream.next(); piece; piece = await stream.next()) pieces.push(piece);
    const { length, content_type } = stream.value;
    const data = joined(pieces, content_type);
    if (byteLength(data) !== length) throw broken('an attachment came incomplete');
    return data;
  }

  /**
   * Sends an attachment's bytes, for documents to refer to by their digest.
   * @param {any} data A Buffer or a Blob.
   * @param {string} [digest] Checked, if given.
   */
  upload(data, digest) {
    return this.#channel.upload({ length: byteLength(data), digest }, chunksOf(data));
  }

  /**
   * A local document.
   * @param {string} id
   * @returns {Promise<any>} The document, or undefined.
   */
  async get(id) {
    try {
      return await this.#channel.call('get', { id });
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
      const doc = { ...body, _id: id, ...(known ? { _rev: known._rev } : {}) };
      try {
        await this.#channel.call('put', { doc });
        return;
      } catch (error) {
        // Another sync of the same databases was faster.
        if (/** @type {any} */ (error).status !== 409) throw error;
      }
    }
  }
}
