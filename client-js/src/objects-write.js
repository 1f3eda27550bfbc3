/**
 * One edit over a channel, made once however often it is sent.
 *
 * The hard case is an answer that was lost: the gateway may have taken the edit or not. It is sent
 * again, and where the gateway then calls it a conflict, its revision's name tells whether the
 * conflict is with itself.
 */

import { SetteeError } from './errors.js';
import { holdsSame, nextRev } from './objects-rev.js';
import { look } from './objects-view.js';

/** @typedef {import('./channel.js').Channel} Channel */
/** @typedef {import('./objects-table.js').Table} Table */
/** @typedef {import('./objects-table.js').Write} Write */

/**
 * Sends an edit. Returns the revision that the object has by it; none where it was destroyed and is
 * not there at all.
 * @param {Channel} channel
 * @param {Table} table
 * @param {Write} write
 * @param {boolean} isRepeated Whether it was sent before, without an answer.
 * @returns {Promise<string | undefined>}
 */
export async function send(channel, table, write, isRepeated) {
  let rev;
  try {
    rev = await sendOnce(channel, write);
  } catch (error) {
    if (!isRefusal(error, channel)) throw error;
    return whichIsThere(channel, table, write, isRepeated, error);
  }
  // The gateway has made something else of it. Who may not read goes without.
  if (rev !== (write.found ?? write).rev) await look(channel, table, [write.id]).catch(() => {});
  return rev;
}

/**
 * @param {any} error
 * @param {Channel} channel
 * @returns {error is SetteeError}
 */
function isRefusal(error, channel) {
  return error instanceof SetteeError && !error.isTransient && !channel.isOver;
}

/**
 * @param {Channel} channel
 * @param {Write} write
 * @returns {Promise<string>}
 */
async function sendOnce(channel, write) {
  const { id, doc, parent } = write;
  if (!doc) {
    const rev = parent ?? (await found(channel, write)).parent;
    return (await channel.call('delete', { id, rev })).rev;
  }
  const text = JSON.stringify({ ...doc, _rev: parent });
  const { doc_bytes_max } = channel.opened.limits;
  if (text.length > doc_bytes_max) {
    const reason = `an object may have ${doc_bytes_max} bytes`;
    throw new SetteeError({ status: 413, error: 'too_large', reason });
  }
  return (await channel.callText('put', `{"doc":${text}}`)).rev;
}

/**
 * What is to be destroyed without being known. It is looked up once: what somebody makes of it later
 * is not what was to be destroyed.
 * @param {Channel} channel
 * @param {Write} write
 */
async function found(channel, write) {
  if (write.found) return write.found;
  const { _rev: parent } = await channel.call('get', { id: write.id });
  return (write.found = { parent, rev: nextRev(parent, undefined) });
}

/**
 * The gateway refused. Returns the revision if all is as it was to be nevertheless.
 * @param {Channel} channel
 * @param {Table} table
 * @param {Write} write
 * @param {boolean} isRepeated
 * @param {SetteeError} error
 */
async function whichIsThere(channel, table, write, isRepeated, error) {
  const { id, doc } = write;
  if (isRepeated) {
    const { rev } = write.found ?? write;
    const missing = await channel.call('revs_diff', { [id]: [rev] });
    if (!missing[id]) return rev;
  }
  if (error.status !== 409 && error.status !== 404) throw error;
  try {
    await look(channel, table, [id]);
  } catch (unread) {
    throw isRefusal(unread, channel) ? error : unread;
  }
  const stored = table.stored(id);
  if (!doc && !stored) return table.rev(id);
  // A new object in the place of a deleted one has another revision than was thought.
  if (isRepeated && doc && stored && holdsSame(stored, doc)) return stored._rev;
  throw error;
}
