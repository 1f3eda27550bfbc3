/**
 * How a replication resumes: its id, its checkpoint documents, and the newest point they share.
 *
 * The rules are CouchDB's replication protocol, sections "Generate Replication ID" and "Find Common
 * Ancestry": both sides keep the same document under `_local/<replication id>`; a replication
 * resumes at the newest seq that both histories name.
 */

import { sha256 } from './sha256.js';

/** Entries of a checkpoint's history. */
const HISTORY_MAX = 5;

/** How long progress waits to be written down, so that a busy sync writes few checkpoints. */
const DELAY_MS = 1_000;

/**
 * How far one run came.
 * @typedef {{last_seq: string, session_id: string}} HistoryEntry
 */

/**
 * The content of a checkpoint document.
 * @typedef {object} Checkpoint
 * @property {string} session_id The run that wrote it.
 * @property {string} last_seq Everything up to this place of the source is durable on the target.
 * @property {HistoryEntry[]} history The newest entry of each run, newest first.
 * @property {number} version The format, 1.
 * @property {string} replicator Who wrote it.
 */

/**
 * Reads and writes one side's local documents.
 * @typedef {object} LocalDocs
 * @property {(id: string) => Promise<any>} get The document, or undefined.
 * @property {(id: string, body: object) => Promise<void>} set
 */

/**
 * What one replication is. Whatever narrows it is part of its identity: when it widens, the
 * replication begins anew and leaves no hole.
 * @typedef {object} Identity
 * @property {string} source
 * @property {string} target
 * @property {string[]} [doc_ids] Only these documents; order and repeats make no difference.
 * @property {object} [selector] Only documents that match; the order of members makes no difference.
 * @property {string} [filter] The text of the function that picks the documents.
 * @property {any} [query_params] For the function.
 * @property {string} [view] The part of the source that its grant shows.
 */

/**
 * @param {Identity} identity
 * @returns {string} 32 hex digits.
 */
export function replicationId({ source, target, doc_ids, selector, filter, query_params, view }) {
  const ids = doc_ids && [...new Set(doc_ids)].sort();
  const narrowing = { doc_ids: ids, selector: sorted(selector), filter, query_params: sorted(query_params) };
  return sha256(JSON.stringify({ source, target, ...narrowing, view })).slice(0, 32);
}

/**
 * JSON with the members of objects in order.
 * @param {any} json
 * @returns {any}
 */
function sorted(json) {
  if (Array.isArray(json)) return json.map(sorted);
  if (typeof json !== 'object' || json === null) return json;
  const members = Object.entries(json).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(members.map(([name, value]) => [name, sorted(value)]));
}

/**
 * The next checkpoint of a run, after one of whichever run.
 * @param {Checkpoint | undefined} latest
 * @param {string} session_id
 * @param {string} last_seq
 * @returns {Checkpoint}
 */
export function nextCheckpoint(latest, session_id, last_seq) {
  const earlier = (latest?.history ?? []).filter((entry) => entry.session_id !== session_id);
  const history = [{ last_seq, session_id }, ...earlier].slice(0, HISTORY_MAX);
  return { session_id, last_seq, history, version: 1, replicator: 'settee' };
}

/**
 * The newest place that both sides say was reached: of the newest run that both know, and of its
 * two places the source's, which was written after the target's.
 * @param {Checkpoint | undefined} source
 * @param {Checkpoint | undefined} target
 * @returns {string | undefined}
 */
export function commonPoint(source, target) {
  if (!source || !target) return undefined;
  const runs = (/** @type {Checkpoint} */ { last_seq, session_id, history }) => [
    { last_seq, session_id },
    ...(history ?? []),
  ];
  const atTarget = new Set(runs(target).map((entry) => entry.session_id));
  return runs(source).find((entry) => atTarget.has(entry.session_id))?.last_seq;
}

/** The checkpoint documents of one direction. */
export class Checkpoints {
  #id;
  #source;
  #target;
  #sessionId;
  #failed;
  /** @type {Checkpoint | undefined} */
  #latest;
  /** @type {string | undefined} */
  #reached;
  /** @type {any} */
  #timer;
  /** @type {Promise<void>} */
  #saving = Promise.resolve();
  /** Where to resume. @type {string | undefined} */
  since;

  /**
   * @param {object} options
   * @param {Identity} options.identity
   * @param {LocalDocs} options.source
   * @param {LocalDocs} options.target
   * @param {string} options.sessionId
   * @param {(error: any) => void} options.failed Told when a checkpoint could not be written.
   */
  constructor({ identity, source, target, sessionId, failed }) {
    this.#id = `_local/${replicationId(identity)}`;
    this.#source = source;
    this.#target = target;
    this.#sessionId = sessionId;
    this.#failed = failed;
  }

  /** Finds out where to resume. */
  async open() {
    const read = [this.#source.get(this.#id), this.#target.get(this.#id)];
    const [atSource, atTarget] = await Promise.all(read);
    this.since = commonPoint(atSource, atTarget);
    if (this.since !== undefined) this.#latest = atTarget;
  }

  /**
   * Everything up to here is durable on the target, or listed as denied.
   * @param {string} lastSeq
   */
  reach(lastSeq) {
    if (this.#latest?.last_seq === lastSeq) return;
    this.#reached = lastSeq;
    this.#timer ??= setTimeout(() => this.save().catch(this.#failed), DELAY_MS);
  }

  /**
   * Writes down what was reached: first on the target, then on the source, so that neither is ahead
   * of the documents. One at a time, so that an older place never follows a newer one.
   */
  save() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const saved = this.#saving.then(() => this.#write());
    this.#saving = saved.catch(() => {});
    return saved;
  }

  /** Writes nothing more. */
  drop() {
    clearTimeout(this.#timer);
    this.#reached = undefined;
  }

  async #write() {
    const reached = this.#reached;
    if (reached === undefined) return;
    this.#reached = undefined;
    const next = nextCheckpoint(this.#latest, this.#sessionId, reached);
    await this.#target.set(this.#id, next);
    await this.#source.set(this.#id, next);
    this.#latest = next;
  }
}
