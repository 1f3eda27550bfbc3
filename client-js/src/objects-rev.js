/**
 * Plain objects as documents, and the revision that the gateway will give an edit.
 *
 * A revision's hash is a digest of its parent and its content, made here as the gateway makes it. So
 * an object has its revision before the gateway answers, and whether an edit whose answer was lost
 * took effect is found out by that name.
 */

import { SetteeError } from './errors.js';
import { generation } from './documents.js';
import { sha256 } from './sha256.js';

/** @typedef {import('./documents.js').Doc} Doc */

/** Hex digits of a revision's hash. */
const HASH_DIGITS = 32;

/** Bytes of an id made here: enough for two never to be the same. */
const ID_BYTES = 16;

/** A new document id. */
export function newId() {
  // Not crypto.randomUUID, which pages without TLS lack.
  const bytes = crypto.getRandomValues(new Uint8Array(ID_BYTES));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * What is stored of an object: its JSON, of which the caller keeps nothing.
 * @param {any} object
 * @returns {any}
 */
export function plain(object) {
  if (typeof object !== 'object' || object === null || Array.isArray(object)) {
    throw wrong('only objects can be saved');
  }
  const copy = JSON.parse(JSON.stringify(object));
  for (const name of ['_id', '_rev']) {
    const value = copy[name];
    if (value !== undefined && (typeof value !== 'string' || value === '')) {
      throw wrong(`${name} must be a text`);
    }
  }
  if (copy._deleted !== undefined) throw wrong('an object is deleted with destroy, not with _deleted');
  return copy;
}

/**
 * @param {string} reason
 */
export function wrong(reason) {
  return new SetteeError({ status: 400, error: 'bad_request', reason });
}

/**
 * Whether two objects hold the same, whatever their revisions.
 * @param {Doc} one
 * @param {Doc} other
 */
export function holdsSame({ _rev: _one, ...one }, { _rev: _other, ...other }) {
  return canonical(one) === canonical(other);
}

/**
 * The revision that an edit makes.
 * @param {string | undefined} parent
 * @param {Doc | undefined} doc Nothing for a tombstone.
 */
export function nextRev(parent, doc) {
  const text = `${parent ?? ''}\n${doc ? '' : 'd'}\n${attachmentsText(doc?._attachments)}${bodyText(doc)}`;
  return `${(parent ? generation(parent) : 0) + 1}-${sha256(text).slice(0, HASH_DIGITS)}`;
}

/** @param {Record<string, any> | undefined} attachments Stubs. */
function attachmentsText(attachments = {}) {
  const line = (/** @type {[string, any]} */ [name, { content_type, digest }]) =>
    `${JSON.stringify(name)}${JSON.stringify(content_type)}${digest}\n`;
  return Object.entries(attachments).sort(byName).map(line).join('');
}

/** @param {Record<string, any>} [doc] */
function bodyText(doc = {}) {
  const own = Object.entries(doc).filter(([name]) => !/^_(?!replication_)/.test(name));
  return canonical(Object.fromEntries(own));
}

/**
 * JSON text with the members of objects in the order of their names.
 * @param {any} value Of JSON.
 * @returns {string}
 */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const member = (/** @type {[string, any]} */ [name, held]) => `${JSON.stringify(name)}:${canonical(held)}`;
  return `{${Object.entries(value).sort(byName).map(member).join()}}`;
}

/**
 * The order of UTF-8 bytes, which is not that of a text's 16-bit units.
 * @param {[string, any]} one
 * @param {[string, any]} other
 */
function byName([one], [other]) {
  const [a, b] = [[...one], [...other]];
  const at = a.findIndex((char, index) => char !== b[index]);
  if (at < 0) return a.length - b.length;
  return at < b.length ? (a[at].codePointAt(0) ?? 0) - (b[at].codePointAt(0) ?? 0) : 1;
}
