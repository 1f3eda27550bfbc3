/**
 * From the gateway: one stream of changes with their documents → write → checkpoint.
 */

import { Checkpoints } from './checkpoint.js';
import { chunked, filtered, hasAttachments, isNew, withoutHistory } from './documents.js';
import { broken } from './errors.js';
import { without } from './push.js';

/** @typedef {import('./documents.js').Doc} Doc */
/** @typedef {import('./documents.js').Revision} Revision */
/** @typedef {import('./sync.js').Written} Written */

/** Documents fetched at a time. */
const FETCH_DOCS_MAX = 100;

export class Pull {
  #run;
  #options;
  #checkpoints;
  /** @type {import('./channel.js').CallStream | undefined} */
  #stream;
  /** @type {any} */
  #error;
  /** Whether what comes may be here already: after an earlier run, until all of it has come. */
  #mayKnow = true;
  #stopped = false;
  #abandoned = false;

  /** @param {import('./sync.js').Run} run */
  constructor(run) {
    this.#run = run;
    this.#options = run.options.pull;
    const { remote } = run;
    const narrowing = run.narrowing('pull');
    this.#checkpoints = new Checkpoints({
      identity: { source: remote.identity, target: run.localId, ...narrowing, view: remote.view },
      source: remote,
      target: run.local,
      sessionId: run.sessionId,
      failed: (error) => {
        this.#error ??= error;
        this.stop();
      },
    });
  }

  /** Runs until the gateway's stream ends, the sync is stopped, or something fails. */
  async run() {
    const { local, remote, reporter } = this.#run;
    await this.#checkpoints.open();
    await this.retryDenied();
    const { since } = this.#checkpoints;
    const { live, doc_ids, selector } = this.#options;
    this.#mayKnow = since !== undefined || !(await local.isEmpty());
    // What was deleted before it could come need not come. What is deleted from now on does.
    const skip_tombstones = !this.#mayKnow;
    const stream = await remote.changes({ since, live, doc_ids, selector, skip_tombstones });
    this.#stream = stream;
    if (this.#stopped) stream.cancel();
    for (let batch = await this.#next(stream); batch; batch = await this.#next(stream)) {
      await this.#take(batch);
    }
    if (this.#error) throw this.#error;
    if (this.#abandoned) return;
    if (!this.#stopped && stream.value?.last_seq) this.#checkpoints.reach(stream.value.last_seq);
    await this.#checkpoints.save();
    reporter.rest('pull');
  }

  /** What is under way is finished. */
  stop() {
    this.#stopped = true;
    this.#stream?.cancel();
  }

  /** What is under way has failed and leaves no timer behind. */
  abandon() {
    this.#abandoned = true;
    this.#checkpoints.drop();
    this.stop();
  }

  /**
   * What the stream has brought so far, at most about a batch of it: many small messages are
   * cheaper to write as one.
   * @param {import('./channel.js').CallStream} stream
   */
  async #next(stream) {
    const first = await stream.next();
    if (!first) return null;
    let { rows, note } = first;
    while (rows.length < this.#options.batch_size && stream.ready) {
      const more = await stream.next();
      rows = rows.concat(more.rows);
      note = more.note;
    }
    if (!note) throw broken('rows of changes came without a place');
    return { rows, note };
  }

  /** @param {{rows: any[], note: {last_seq: string, pending: number}}} batch */
  async #take({ rows, note: { last_seq, pending } }) {
    const { local, moved, reporter } = this.#run;
    /** @type {Written} */
    const written = { docs: [], docs_read: 0, errors: [] };
    const isOurs = (/** @type {any} */ { id, changes }) =>
      moved.push.hasAll(id, changes.map((/** @type {any} */ change) => change.rev));
    const news = rows.filter((row) => !isOurs(row) && this.#passes(row));
    const lost = news.flatMap(({ id, changes, docs = [] }) =>
      without(
        changes.map((/** @type {any} */ change) => [id, change.rev]),
        docs,
      ),
    );
    const docs = news.flatMap(({ docs = [] }) => docs);
    await this.#write(this.#mayKnow ? await local.missing(docs) : docs, written);
    for (const wanted of chunked(lost, FETCH_DOCS_MAX)) {
      await this.#write(await this.#run.remote.fetch(wanted), written);
    }
    if (pending === 0) this.#mayKnow = false;
    this.#checkpoints.reach(last_seq);
    reporter.change('pull', { ...written, last_seq, pending });
    if (pending === 0) reporter.rest('pull');
  }

  /**
   * Asks the application's filter about a document's winning rev.
   * @param {any} row
   */
  #passes({ changes, docs = [] }) {
    const { filter, query_params } = this.#options;
    if (!filter) return true;
    const winner = docs.find((/** @type {Doc} */ doc) => doc._rev === changes[0].rev) ?? docs[0];
    return winner && filtered(filter, withoutHistory(winner), query_params);
  }

  /**
   * @param {Doc[]} docs
   * @param {Written} written
   */
  async #write(docs, written) {
    if (docs.length === 0) return;
    this.#run.moving('pull', docs);
    const [plain, attached] = [docs.filter((doc) => !hasAttachments(doc)), docs.filter(hasAttachments)];
    const refused = await this.#run.local.write(plain);
    const gone = new Set();
    if (attached.length > 0) refused.push(...(await this.#writeAttached(attached, gone)));
    const there = docs.filter((doc) => !gone.has(doc));
    await this.#run.note('pull', there, refused, written);
  }

  /**
   * One at a time, since their bytes are in memory. Bytes that an earlier revision may have brought
   * are asked for only if they turn out to be missing.
   * @param {Doc[]} docs
   * @param {Set<Doc>} gone Takes those that the remote no longer has.
   */
  async #writeAttached(docs, gone) {
    const { local } = this.#run;
    const refused = [];
    for (const doc of await local.missing(docs)) {
      try {
        let answer = await local.write([await this.#filled(doc, isNew)]);
        if (answer.some((one) => one.status === 412)) {
          answer = await local.write([await this.#filled(doc, () => true)]);
        }
        refused.push(...answer);
      } catch (error) {
        if (!(await this.#isGone(doc, error))) throw error;
        gone.add(doc);
      }
    }
    return refused;
  }

  /**
   * Whether bytes are missing because their revision is: it was edited and compacted, or purged,
   * since the feed told of it. What came after it is told further on.
   * @param {Doc} doc
   * @param {any} error
   */
  async #isGone(doc, error) {
    if (error?.status !== 404) return false;
    const found = await this.#run.remote.fetch([[doc._id, doc._rev]]);
    return found.every(({ _rev }) => _rev !== doc._rev);
  }

  /**
   * @param {Doc} doc
   * @param {(doc: Doc, attachment: any) => boolean} isWanted
   */
  async #filled(doc, isWanted) {
    /** @type {Record<string, any>} */
    const attachments = {};
    for (const [name, attachment] of Object.entries(doc._attachments ?? {})) {
      const { content_type, revpos, digest } = attachment;
      attachments[name] = isWanted(doc, attachment)
        ? { content_type, revpos, digest, data: await this.#run.remote.attachment(doc, name) }
        : attachment;
    }
    return { ...doc, _attachments: attachments };
  }

  /** Tries again what was refused earlier. */
  async retryDenied() {
    const { denied, remote, reporter } = this.#run;
    const wasResting = reporter.isResting('pull');
    const list = denied.list().filter((one) => one.direction === 'pull');
    const revisions = list.map(({ id, rev }) => /** @type {Revision} */ ([id, rev]));
    for (const wanted of chunked(revisions, FETCH_DOCS_MAX)) {
      const docs = await remote.fetch(wanted);
      await denied.forget('pull', without(wanted, docs));
      /** @type {Written} */
      const written = { docs: [], docs_read: 0, errors: [] };
      await this.#write(docs, written);
    }
    reporter.deniedCount(denied.size);
    if (wasResting) reporter.rest('pull');
  }
}
