/**
 * Errors as PouchDB's own adapters make them.
 */

/** CouchDB's and PouchDB's texts differ here, and applications compare PouchDB's. */
const CONFLICT = 'Document update conflict';

export class PouchError extends Error {
  /**
   * @param {{status: number, error: string, reason: string}} wire
   * @param {{id?: string, rev?: string}} [document] What the error is about.
   */
  constructor({ status, error, reason }, document = {}) {
    super();
    this.status = status;
    this.name = error;
    this.message = status === 409 ? CONFLICT : reason;
    this.reason = this.message;
    // A deleted document is missing too; why, the reason tells.
    if (status === 404 && reason === 'deleted') this.message = 'missing';
    this.error = true;
    Object.assign(this, document);
  }

  toString() {
    const { status, name, message, reason } = this;
    return JSON.stringify({ status, name, message, reason });
  }
}

/**
 * Whatever was thrown, in PouchDB's shape if it came from the gateway or the connection to it.
 * @param {any} thrown
 * @param {string} [docId]
 */
export function pouchError(thrown, docId) {
  const isOurs = typeof thrown?.status === 'number' && typeof thrown.error === 'string';
  const error = isOurs ? new PouchError(thrown) : thrown;
  if (docId !== undefined) error.docId = docId;
  return error;
}
