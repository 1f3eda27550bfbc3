/**
 * What is known of each object: what the gateway has of it, and the edits that wait for an answer.
 *
 * The hard case is news that cross each other: a feed may tell a revision that this client has replaced
 * meanwhile, and an answer may come after the feed has told what somebody else made of it. So each
 * object remembers its place in the feed and which revisions its own edits have replaced.
 */

import { generation } from './documents.js';
import { nextRev } from './objects-rev.js';
import { Semaphore } from './semaphore.js';

/** @typedef {import('./documents.js').Doc} Doc */
/** @typedef {import('./objects-shown.js').Shown} Shown */
/** @typedef {import('./objects-view.js').ObjectsView} ObjectsView */

/**
 * A row of the changes feed with the winning rev.
 * @typedef {{id: string, seq: string, changes: Array<{rev: string}>, deleted?: boolean, doc?: Doc}} Row
 */

/**
 * An edit that is not answered yet.
 * @typedef {object} Write
 * @property {string} id
 * @property {Doc | undefined} doc What is shown meanwhile; nothing of a tombstone.
 * @property {string | undefined} parent The revision to replace.
 * @property {string | undefined} rev The revision that this will be.
 * @property {{parent: string, rev: string}} [found] The same of an object that is destroyed without being
 *   known, as looked up. It stays apart: the edit that follows a refused one has not seen it.
 * @property {Write | undefined} after The edit of this client that it follows.
 * @property {boolean | undefined} isTaken What became of it.
 */

/** Revisions of an object that its own edits have replaced, and deleted objects, that are remembered. */
const REPLACED_MAX = 16;
const DELETED_MAX = 1_000;

/** Reads at a time. */
const READS_MAX = 16;

class Entry {
  /** What the gateway has. @type {Doc | undefined} */
  doc;
  /** Its revision, also a tombstone's. @type {string | undefined} */
  rev;
  /** The number of its place in the feed. */
  seq = 0;
  /** Counts what was learnt of it. */
  version = 0;
  /** Whether it was fetched here. */
  isKept = false;
  /** Whether it was saved here and no view has had it since. */
  isSaved = false;
  /** Not answered yet, oldest first. @type {Write[]} */
  writes = [];
  /** What this client's edits replaced, with what. @type {Map<string, string>} */
  replaced = new Map();

  /**
   * An own edit has put a revision in the place of another.
   * @param {string | undefined} earlier
   * @param {string} rev
   */
  replace(earlier, rev) {
    if (!earlier || earlier === rev) return;
    // What is there now is replaced by nothing, so no way through these goes round.
    this.replaced.delete(rev);
    this.replaced.set(earlier, rev);
    if (this.replaced.size <= REPLACED_MAX) return;
    const [oldest] = this.replaced.keys();
    this.replaced.delete(oldest);
  }

  /** What is shown of it. */
  get shown() {
    const last = this.writes.at(-1);
    return last ? last.doc : this.doc;
  }
}

export class Table {
  #all;
  /** Feeds take no place among the calls of a connection, of which a gateway bounds the number. */
  reads = new Semaphore(READS_MAX);
  /** @type {Set<ObjectsView>} */
  views = new Set();
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {Set<string>} */
  #deleted = new Set();

  /** @param {Shown} all Shows everything that is known. */
  constructor(all) {
    this.#all = all;
  }

  /** @param {string} id */
  shown(id) {
    return this.#entries.get(id)?.shown;
  }

  /** @param {string} id */
  rev(id) {
    return this.#entries.get(id)?.rev;
  }

  /** @param {string} id */
  stored(id) {
    return this.#entries.get(id)?.doc;
  }

  /**
   * Whether an object was made here and the gateway does not know it yet.
   * @param {string} id
   */
  isNew(id) {
    const entry = this.#entries.get(id);
    return entry !== undefined && !entry.doc && entry.writes.length > 0;
  }

  /** @param {string} id */
  lastWrite(id) {
    return this.#entries.get(id)?.writes.at(-1);
  }

  /**
   * Whether an object is as somebody follows it, or as its own edit will make it: other copies may be old.
   * @param {string} id
   */
  isFollowed(id) {
    const isPending = this.lastWrite(id) !== undefined;
    return isPending || [...this.views].some((view) => view.isLive && view.members.has(id));
  }

  /** @param {string} id */
  version(id) {
    return this.#entries.get(id)?.version ?? 0;
  }

  /** Objects that were fetched or saved here. */
  kept() {
    return [...this.#entries].filter(([, entry]) => entry.isKept || entry.isSaved).map(([id]) => id);
  }

  /** Another database has taken the place of the one that was known. */
  begin() {
    for (const entry of this.#entries.values()) {
      entry.seq = 0;
      entry.replaced.clear();
    }
  }

  /**
   * Takes what the feed tells.
   * @param {Row} row
   * @param {boolean} [isKept] Whether to keep the object, also where no view has it.
   */
  take({ id, seq, changes, deleted, doc }, isKept = false) {
    const entry = this.#entry(id);
    entry.isKept ||= isKept && !deleted;
    const place = Number.parseInt(seq, 10);
    const [{ rev }] = changes;
    // A revision whose content is not stored any more has been replaced: another row follows.
    if (place > entry.seq && (deleted || doc)) {
      entry.seq = place;
      if (!entry.replaced.has(rev)) this.#learn(entry, rev, deleted ? undefined : doc);
    }
    this.tell(id);
  }

  /**
   * An object is not there, as was asked when its version was this.
   * @param {string} id
   * @param {number} version
   */
  takeMissing(id, version) {
    const entry = this.#entries.get(id);
    if (!entry || entry.version !== version) return;
    this.#learn(entry, undefined, undefined);
    this.tell(id);
  }

  /**
   * An object is of interest only as long as a view has it.
   * @param {string} id
   */
  release(id) {
    const entry = this.#entries.get(id);
    if (!entry) return;
    entry.isKept = false;
    entry.isSaved = false;
    this.tell(id);
  }

  /**
   * Begins an edit, which is shown at once.
   * @param {string} id
   * @param {Doc | undefined} doc
   * @param {string | undefined} base The revision that the application has seen; none for whichever is
   *   known.
   * @returns {Write}
   */
  begun(id, doc, base) {
    const entry = this.#entry(id);
    const { after, parent } = this.#place(entry, doc, base);
    const rev = nextRev(parent, doc);
    const write = { id, doc: withRev(doc, rev), parent, rev, after, isTaken: undefined };
    entry.writes.push(write);
    for (const view of this.views) if (view.takesNew(id)) view.members.add(id);
    entry.isSaved = true;
    this.tell(id);
    return write;
  }

  /** @param {Write} write */
  isFirst(write) {
    return this.#entries.get(write.id)?.writes[0] === write;
  }

  /**
   * An edit was taken or refused. Returns the next one of the object.
   * @param {Write} write
   * @param {boolean} isTaken
   * @param {string} [rev] What the object has become by it.
   */
  ended(write, isTaken, rev) {
    const entry = this.#entry(write.id);
    entry.writes = entry.writes.filter((other) => other !== write);
    write.isTaken = isTaken;
    if (isTaken) this.#taken(entry, write, rev);
    const next = entry.writes.at(0);
    if (next) relink(entry, next);
    this.tell(write.id);
    return next;
  }

  /**
   * Shows an object as it stands, and forgets it where nobody holds it.
   * @param {string} id
   */
  tell(id) {
    const entry = this.#entry(id);
    if (!entry.doc && entry.writes.length === 0) {
      entry.isKept = false;
      entry.isSaved = false;
      for (const view of this.views) view.members.delete(id);
    }
    if (this.#isInView(id)) entry.isSaved = false;
    const gone = () => (entry.shown ? 'leave' : 'destroy');
    // A listener may edit the object: what is shown is looked up for each.
    for (const view of this.views) {
      view.show(id, view.members.has(id) ? entry.shown : undefined, gone());
    }
    this.#all.show(id, this.#isHeld(id, entry) ? entry.shown : undefined, gone());
    this.#deleted.delete(id);
    if (!this.#isHeld(id, entry)) this.#forget(id, entry);
  }

  /**
   * @param {string} id
   * @param {Entry} entry
   */
  #isHeld(id, entry) {
    return entry.isKept || entry.isSaved || entry.writes.length > 0 || this.#isInView(id);
  }

  /** @param {string} id */
  #isInView(id) {
    return [...this.views].some((view) => view.members.has(id));
  }

  /**
   * @param {string} id
   * @param {Entry} entry
   */
  #forget(id, entry) {
    // An older row must not bring back what is deleted.
    if (!entry.doc && entry.rev) this.#deleted.add(id);
    else this.#entries.delete(id);
    if (this.#deleted.size <= DELETED_MAX) return;
    const [oldest] = this.#deleted;
    this.#deleted.delete(oldest);
    this.#entries.delete(oldest);
  }

  /** @param {string} id */
  #entry(id) {
    let entry = this.#entries.get(id);
    if (!entry) this.#entries.set(id, (entry = new Entry()));
    return entry;
  }

  /**
   * @param {Entry} entry
   * @param {string | undefined} rev
   * @param {Doc | undefined} doc
   */
  #learn(entry, rev, doc) {
    entry.rev = rev;
    entry.doc = doc;
    entry.version += 1;
  }

  /**
   * What an edit follows. The edits of this client follow each other: a copy from before one of them
   * is no conflict.
   * @param {Entry} entry
   * @param {Doc | undefined} doc
   * @param {string | undefined} base
   * @returns {{after?: Write, parent?: string}}
   */
  #place(entry, doc, base) {
    const after = entry.writes.at(-1);
    // A tombstone is not deleted once more.
    if (!doc && !entry.doc && !after) return { parent: base };
    let parent = base ?? entry.rev;
    const replaced = entry.replaced;
    for (let next = parent; next !== undefined; next = replaced.get(next)) parent = next;
    const isOwn = !base || entry.writes.some((write) => write.parent === parent || write.rev === parent);
    return after && isOwn ? { after, parent: after.rev } : { parent };
  }

  /**
   * @param {Entry} entry
   * @param {Write} write
   * @param {string} [rev]
   */
  #taken(entry, write, rev) {
    const { parent, rev: thought } = write.found ?? write;
    write.rev = rev;
    if (!rev) return;
    write.doc = withRev(write.doc, rev);
    for (const earlier of [parent, thought]) entry.replace(earlier, rev);
    const isNews = !entry.rev || entry.rev === parent || generation(rev) > generation(entry.rev);
    if (isNews) this.#learn(entry, rev, write.doc);
  }
}

/**
 * What an edit follows may have become another revision than was thought, or none. Copies that were
 * given out have the earlier one.
 * @param {Entry} entry
 * @param {Write} write
 */
function relink(entry, write) {
  const { after, rev: thought } = write;
  if (!after) return;
  const parent = after.isTaken ? after.rev : after.parent;
  write.after = undefined;
  if (parent === write.parent) return;
  write.parent = parent;
  write.rev = nextRev(parent, write.doc);
  entry.replace(thought, write.rev);
  write.doc = withRev(write.doc, write.rev);
}

/**
 * @param {Record<string, any> | undefined} doc
 * @param {string} rev
 * @returns {any}
 */
function withRev(doc, rev) {
  return doc && { ...doc, _rev: rev };
}
