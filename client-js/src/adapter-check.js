/**
 * What PouchDB's adapters refuse before they write anything, in PouchDB's words.
 */

import { PouchError } from './adapter-errors.js';

/** Members with `_` that a document may come with. */
const RESERVED = new Set([
  '_id', '_rev', '_attachments', '_deleted', '_revisions', '_revs_info', '_conflicts',
  '_deleted_conflicts', '_local_seq', '_replication_id', '_replication_state',
  '_replication_state_time', '_replication_state_reason', '_replication_stats',
]);

/**
 * @param {any} doc
 * @param {boolean} newEdits
 */
export function check(doc, newEdits) {
  const { _id } = doc;
  if (!newEdits) {
    if (!doc._rev) throw refused(400, 'bad_request', 'a revision from elsewhere must have a _rev');
    return;
  }
  if (_id === undefined && doc._deleted) throw refused(412, 'missing_id', '_id is required for puts');
  if (_id !== undefined && typeof _id !== 'string') {
    throw refused(400, 'bad_request', '_id field must contain a string');
  }
  if (_id?.startsWith('_') && !/^_(design|local)\//.test(_id)) {
    throw refused(400, 'bad_request', 'Only reserved document ids may start with underscore.');
  }
  const unknown = Object.keys(doc).find((name) => name.startsWith('_') && !RESERVED.has(name));
  // PouchDB's status, which is not CouchDB's.
  if (unknown) throw refused(500, 'doc_validation', `Bad special document member: ${unknown}`);
}

/**
 * @param {number} status
 * @param {string} error
 * @param {string} reason
 */
function refused(status, error, reason) {
  return new PouchError({ status, error, reason });
}
