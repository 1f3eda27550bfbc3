/**
 * What documents say of themselves.
 */

import { asError, SetteeError } from './errors.js';

/** @typedef {{_id: string, _rev: string, _deleted?: boolean, _revisions?: {start: number, ids: string[]}, _attachments?: Record<string, any>, [member: string]: any}} Doc */

/** @typedef {[id: string, rev: string]} Revision */

/** @param {string} rev */
export function generation(rev) {
  return Number(rev.slice(0, rev.indexOf('-')));
}

/**
 * The revisions that a document brings along.
 * @param {Doc} doc
 * @returns {string[]}
 */
export function revsOf({ _rev, _revisions }) {
  if (!_revisions) return [_rev];
  return _revisions.ids.map((id, index) => `${_revisions.start - index}-${id}`);
}

/** @param {Doc} doc */
export function hasAttachments(doc) {
  return Object.keys(doc._attachments ?? {}).length > 0;
}

/**
 * Whether an attachment came with this very revision, so that the other side cannot have it yet.
 * @param {Doc} doc
 * @param {any} attachment
 */
export function isNew(doc, attachment) {
  return !attachment.revpos || attachment.revpos >= generation(doc._rev);
}

/**
 * A document without its history, as an application sees it.
 * @param {Doc} doc
 */
export function withoutHistory({ _revisions, ...doc }) {
  return doc;
}

/**
 * Asks a filter of the application's, as PouchDB does.
 * @param {(doc: Doc, request: {query: any}) => any} filter
 * @param {Doc} doc
 * @param {any} query_params
 * @returns {boolean}
 */
export function filtered(filter, doc, query_params) {
  try {
    return Boolean(filter(doc, { query: query_params }));
  } catch (thrown) {
    const reason = `Filter function threw: ${asError(thrown)}`;
    throw new SetteeError({ status: 400, error: 'bad_request', reason });
  }
}

/**
 * @template T
 * @param {T[]} all
 * @param {number} size
 */
export function* chunked(all, size) {
  for (let from = 0; from < all.length; from += size) yield all.slice(from, from + size);
}
