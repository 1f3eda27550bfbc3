/**
 * Attachments between PouchDB's documents, where they are base64 or binary, and the wire, where they
 * are bytes beside the documents.
 */

import { PouchError } from './adapter-errors.js';
import { fromBase64, toBase64 } from './bytes.js';
import { asError } from './errors.js';
import { RemoteDatabase } from './remote.js';

/** @typedef {import('./documents.js').Doc} Doc */
/** @typedef {import('./session.js').Session} Session */

/** What a browser says of bytes of which it knows nothing. */
const UNKNOWN_TYPE = 'application/octet-stream';

/**
 * Puts the attachments' data into documents that were read.
 * @param {Session} session
 * @param {Doc[]} docs
 * @param {boolean | undefined} binary Whether as a Buffer or a Blob; in base64 if not.
 */
export async function fill(session, docs, binary) {
  await Promise.all(
    docs.flatMap((doc) =>
      Object.entries(doc._attachments ?? {}).map(async ([name, attachment]) => {
        const data = await read(session, doc, name);
        attachment.data = binary ? data : await toBase64(data);
        delete attachment.stub;
        delete attachment.length;
      }),
    ),
  );
}

/**
 * @param {Session} session
 * @param {{_id: string, _rev?: string}} doc The winning rev, where none is named.
 * @param {string} name
 * @returns {Promise<any>} A Buffer or a Blob.
 */
export function read(session, doc, name) {
  return session.call((channel) => new RemoteDatabase(channel).attachment(doc, name));
}

/**
 * Sends a document's attachments ahead. Returns the document with stubs in place of their data, or
 * why it cannot be written.
 * @param {RemoteDatabase} remote
 * @param {Doc} doc
 * @param {boolean} newEdits Whether the attachments come with this write.
 * @returns {Promise<{doc: Doc, error?: any}>}
 */
export async function sendAhead(remote, doc, newEdits) {
  const stubs = await Promise.all(
    Object.entries(doc._attachments ?? {}).map(async ([name, attachment]) => {
      if (attachment.data === undefined) return [name, attachment];
      const { data, content_type = UNKNOWN_TYPE, revpos } = attachment;
      const bytes = typeof data === 'string' ? decoded(data) : data;
      const { digest } = await remote.upload(bytes);
      return [name, { content_type, digest, stub: true, ...(revpos && !newEdits ? { revpos } : {}) }];
    }),
  ).catch(asError);
  if (stubs instanceof Error) return { doc, error: stubs };
  return { doc: { ...doc, _attachments: Object.fromEntries(stubs) } };
}

/** @param {Doc} doc */
export function uploadsOf(doc) {
  const attachments = Object.values(doc._attachments ?? {});
  return attachments.filter(({ data }) => data !== undefined).length;
}

/** @param {string} data */
function decoded(data) {
  try {
    return fromBase64(data);
  } catch {
    const wire = { status: 500, error: 'badarg', reason: 'Attachment is not a valid base64 string' };
    throw Object.assign(new PouchError(wire), { message: 'Some query argument is invalid' });
  }
}
