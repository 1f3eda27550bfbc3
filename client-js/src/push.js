/**
 * To the gateway: local changes → what is missing → fetch → write → checkpoint.
 *
 * Several batches are in flight, and are told of in the order in which they began. A checkpoint is
 * written only for a place up to which every document is durable or listed as denied.
 */

import { Checkpoints } from './checkpoint.js';
import { chunked, generation, hasAttachments, isNew } from './documents.js';
import { LocalFeed } from './feed.js';
import { Semaphore } from './semaphore.js';

/** @typedef {import('./documents.js').Doc} Doc */
/** @typedef {import('./documents.js').Revision} Revision */
/** @typedef {import('./denied.js').Refusal} Refusal */

/**
 * A live batch of at most this many documents is written without asking what is missing: one round
 * trip instead of two, at the risk of sending what is known.
 */
const OPTIMISTIC_DOCS_MAX = 16;

/** Documents fetched and written at a time within a batch; bounds what is in memory. */
const FETCH_DOCS_MAX = 100;

export class Push {
  #run;
  #options;
  #feed = /** @type {LocalFeed | undefined} */ (undefined);
  #checkpoints;
  #inFlight = 0;
  #places;
  /** @type {Promise<void>} */
  #told = Promise.resolve();
  /** @type {any} */
  #error;
  #stopped = false;
  #abandoned = false;

  /** @param {import('./sync.js').Run} run */
  constructor(run) {
    this.#run = run;
    this.#options = run.options.push;
    this.#places = new Semaphore(Math.max(1, this.#options.batches_limit));
    this.#checkpoints = new Checkpoints({
      identity: { source: run.localId, target: run.remote.identity, ...run.narrowing('push') },
      source: run.local,
      target: run.remote,
      sessionId: run.sessionId,
      failed: (error) => this.#fail(error),
    });
  }

  /** Runs until the local feed ends, the sync is stopped, or something fails. */
  async run() {
    const { local } = this.#run;
    await this.#checkpoints.open();
    await this.retryDenied();
    const since = seqOf(this.#checkpoints.since);
    const feed = new LocalFeed(local.db, { ...this.#options, since });
    this.#feed = feed;
    if (this.#stopped) feed.close();
    for (let batch = await feed.next(); batch; batch = await feed.next()) {
      await this.#places.acquire();
      if (this.#error) break;
      this.#begin(batch);
    }
    await this.#told;
    if (this.#error) throw this.#error;
    if (this.#abandoned) return;
    await this.#checkpoints.save();
    this.#run.reporter.rest('push');
  }

  /** What is under way is finished. */
  stop() {
    this.#stopped = true;
    this.#feed?.close();
  }

  /** What is under way has failed and leaves no timer behind. */
  abandon() {
    this.#abandoned = true;
    this.#checkpoints.drop();
    this.stop();
  }

  /** @param {import('./feed.js').LocalBatch} batch */
  #begin(batch) {
    this.#inFlight += 1;
    const done = this.#process(batch);
    const previous = this.#told;
    this.#told = (async () => {
      try {
        const [written] = await Promise.all([done, previous]);
        this.#inFlight -= 1;
        if (!this.#error) this.#tell(batch, written);
      } catch (error) {
        this.#fail(error);
      } finally {
        this.#places.release();
      }
    })();
  }

  /** @param {any} error */
  #fail(error) {
    this.#error ??= error;
    this.stop();
  }

  /**
   * @param {import('./feed.js').LocalBatch} batch
   * @param {import('./sync.js').Written} written
   */
  #tell({ last_seq, pending }, written) {
    const { reporter } = this.#run;
    this.#checkpoints.reach(String(last_seq));
    reporter.change('push', { ...written, last_seq: String(last_seq), pending });
    if (pending === 0 && this.#inFlight === 0) reporter.rest('push');
  }

  /** @param {import('./feed.js').LocalBatch} batch */
  async #process({ rows, pending }) {
    const { moved, local, remote } = this.#run;
    /** @type {import('./sync.js').Written} */
    const written = { docs: [], docs_read: 0, errors: [] };
    const news = rows.filter(({ id, leaves }) => !moved.pull.hasAll(id, leaves));
    if (news.length === 0) return written;
    const optimistic = this.#options.live && pending === 0 && news.length <= OPTIMISTIC_DOCS_MAX;
    const wanted = optimistic ? allLeaves(news) : await remote.missing(asked(news));
    const { atHand, others } = split(wanted, news);
    await this.#write(atHand, written);
    for (const some of chunked(others, FETCH_DOCS_MAX)) {
      await this.#write(await local.fetch(some), written);
    }
    return written;
  }

  /**
   * @param {Doc[]} docs
   * @param {import('./sync.js').Written} written
   */
  async #write(docs, written) {
    if (docs.length === 0) return;
    this.#run.moving('push', docs);
    const refused = await this.#writeWithAttachments(docs);
    await this.#run.note('push', docs, refused, written);
  }

  /**
   * Writes documents, with the bytes of attachments that are new in them. A target that turns out
   * to lack the bytes of an older one gets them in a second write.
   * @param {Doc[]} docs
   */
  async #writeWithAttachments(docs) {
    const refused = await this.#writeParts(docs, isNew);
    const lacking = refused.filter((one) => one.error === 'missing_stub');
    if (lacking.length === 0) return refused;
    const again = docs.filter((doc) =>
      lacking.some(({ id, rev }) => id === doc._id && rev === doc._rev),
    );
    const others = refused.filter((one) => one.error !== 'missing_stub');
    return [...others, ...(await this.#writeParts(again, () => true))];
  }

  /**
   * Writes no more attachments at a time than the gateway can have waiting.
   * @param {Doc[]} docs
   * @param {(doc: Doc, attachment: any) => boolean} isSent
   * @returns {Promise<Refusal[]>}
   */
  async #writeParts(docs, isSent) {
    const { remote } = this.#run;
    const refused = [];
    let [part, uploads] = [/** @type {Doc[]} */ ([]), 0];
    for (const doc of docs) {
      const attachments = Object.keys(doc._attachments ?? {}).length;
      if (uploads + attachments > remote.uploadsMax && part.length > 0) {
        refused.push(...(await remote.write(part)));
        [part, uploads] = [[], 0];
      }
      if (attachments > 0) await this.#upload(doc, isSent);
      part.push(doc);
      uploads += attachments;
    }
    refused.push(...(await remote.write(part)));
    return refused;
  }

  /**
   * @param {Doc} doc
   * @param {(doc: Doc, attachment: any) => boolean} isSent
   */
  async #upload(doc, isSent) {
    const { local, remote } = this.#run;
    for (const [name, attachment] of Object.entries(doc._attachments ?? {})) {
      if (!isSent(doc, attachment)) continue;
      await remote.upload(await local.attachment(doc, name), attachment.digest);
    }
  }

  /** Tries again what was refused earlier. */
  async retryDenied() {
    const { denied, local, reporter } = this.#run;
    const wasResting = reporter.isResting('push');
    const list = denied.list().filter((one) => one.direction === 'push');
    const revisions = list.map(({ id, rev }) => /** @type {Revision} */ ([id, rev]));
    for (const wanted of chunked(revisions, FETCH_DOCS_MAX)) {
      const docs = await local.fetch(wanted);
      await denied.forget('push', without(wanted, docs));
      /** @type {import('./sync.js').Written} */
      const written = { docs: [], docs_read: 0, errors: [] };
      await this.#write(docs, written);
    }
    reporter.deniedCount(denied.size);
    if (wasResting) reporter.rest('push');
  }
}

/**
 * A local seq as PouchDB wants it back: a number, where it is one.
 * @param {string | undefined} text
 */
export function seqOf(text) {
  if (text === undefined) return 0;
  return /^\d+$/.test(text) ? Number(text) : text;
}

/**
 * The revisions of `wanted` that were not found.
 * @param {Revision[]} wanted
 * @param {Doc[]} found
 */
export function without(wanted, found) {
  return wanted.filter(([id, rev]) => !found.some((doc) => doc._id === id && doc._rev === rev));
}

/** @param {import('./feed.js').ChangedDoc[]} rows */
function asked(rows) {
  return rows.map(({ id, leaves }) => ({ id, revs: leaves }));
}

/** @param {import('./feed.js').ChangedDoc[]} rows */
function allLeaves(rows) {
  return rows.flatMap(({ id, leaves }) =>
    leaves.map((rev) => /** @type {Revision} */ ([id, rev])),
  );
}

/**
 * A first revision is its own history, so the body that came with the change is all of it.
 * @param {Revision[]} wanted
 * @param {import('./feed.js').ChangedDoc[]} rows
 */
function split(wanted, rows) {
  const bodies = new Map(rows.map(({ id, doc }) => [id, doc]));
  const atHand = [];
  const others = [];
  for (const [id, rev] of wanted) {
    const doc = bodies.get(id);
    if (doc?._rev === rev && generation(rev) === 1 && !hasAttachments(doc)) {
      atHand.push({ ...doc, _revisions: { start: 1, ids: [rev.slice(2)] } });
    } else others.push(/** @type {Revision} */ ([id, rev]));
  }
  return { atHand, others };
}
