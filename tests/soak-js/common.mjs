/**
 * Replicas in a Node process that live through a soak: they edit, lose their connection, begin anew
 * from nothing, and hold what the test compares in the end.
 *
 * The test speaks in lines: `calm ROUND` ends the edits, `look` asks for what stands in the replicas,
 * `over` ends the process. An answer is one line of JSON.
 */

import { createHash, createHmac, randomInt } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

const settings = JSON.parse(process.env.SETTEE_SOAK);
const { url, key, databases } = settings;
const HTTP = url.replace(/^ws/, 'http');

// PouchDB listens to its class with every database that is open.
EventEmitter.defaultMaxListeners = 100;

/** Longest time for an edit to reach the gateway, restarts of it included. */
const ARRIVES_MS = 90_000;

export { HTTP, databases, pause, url };

/** A JSON Web Token that ends after some seconds. */
export function token(name, seconds) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = { sub: name, exp: Date.now() / 1_000 + seconds };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
}

export const between = (least, most) => randomInt(least, most);
const oneIn = (n) => randomInt(n) === 0;
const choose = (all) => all[randomInt(all.length)];

let calmAt;
let quiet;
/** Resolves when edits end. */
const calmed = new Promise((resolve) => (quiet = resolve));
let finish;
/** Resolves when all is compared. */
const over = new Promise((resolve) => (finish = resolve));

export const isCalm = () => calmAt !== undefined;

/** A pause that ends early when edits end. */
export const pauseInStorm = (ms) => Promise.race([pause(ms), calmed]);

/** Documents belong to rounds: each round has its own, which are deleted some rounds later. */
const round = () => calmAt ?? Math.floor(Date.now() / 1_000 / settings.round_s);
const roundOf = (id) => Number(id.slice(1, id.indexOf('-')));
const holdsFile = (id) => id.includes('-f');

export const counts = {};
export const count = (what, more = 1) => {
  counts[what] = (counts[what] ?? 0) + more;
};

/** One edit of a document of this round or the last; its revision, unless something was faster. */
async function edit(db, { files, recreates }) {
  const some = (id) => files !== 'left out' || !holdsFile(id);
  const { rows } = await db.allDocs({ startkey: `r${round() - 1}-`, endkey: `r${round()}-\ufff0` });
  const ids = rows.map(({ id }) => id).filter(some);
  if (ids.length === 0) return undefined;
  const id = choose(ids);
  const doc = await db.get(id, { conflicts: true });
  const { _conflicts: conflicts = [], ...body } = doc;
  const text = 'x'.repeat(randomInt(400)) + randomInt(1e9);
  const file = { content_type: 'text/plain', data: Buffer.from(text.repeat(1 + randomInt(20))) };
  if (conflicts.length > 0 && oneIn(2)) return db.remove(id, choose(conflicts));
  if (oneIn(20)) {
    const removed = await db.remove(doc);
    return recreates && oneIn(2) ? db.put({ _id: id, text }) : removed;
  }
  if (holdsFile(id) && oneIn(2)) return db.put({ ...body, text, _attachments: { file } });
  return db.put({ ...body, text });
}

/** What the gateway lacks of what was acknowledged; nothing while it cannot be asked. */
async function lacking(acknowledged, user) {
  const lacks = [];
  for (const name of databases) {
    const recent = acknowledged.filter(
      (one) => one.name === name && roundOf(one.id) >= round() - settings.rounds_verified,
    );
    const asked = {};
    for (const { id, rev } of recent) (asked[id] ??= []).push(rev);
    const headers = {
      authorization: `Bearer ${token(user, 60)}`,
      'content-type': 'application/json',
    };
    const options = { method: 'POST', headers, body: JSON.stringify(asked) };
    const answer = await fetch(`${HTTP}/${name}/_revs_diff`, options).catch(() => undefined);
    if (answer?.status !== 200) return undefined;
    const missing = await answer.json();
    for (const [id, { missing: revs }] of Object.entries(missing)) {
      // Meanwhile its round may have passed.
      if (roundOf(id) >= round() - settings.rounds_verified) lacks.push({ name, id, revs });
    }
  }
  return lacks;
}

/** Waits until the gateway knows everything that was acknowledged. */
async function arrived(acknowledged, kind, user) {
  const until = Date.now() + ARRIVES_MS;
  for (;;) {
    const lacks = await lacking(acknowledged, user);
    if (lacks?.length === 0) break;
    if (Date.now() > until) throw new Error(`${kind} has lost ${JSON.stringify(lacks)}`);
    await pause(200);
  }
  count(`${kind}: edits that arrived`, acknowledged.length);
}

const finals = [];
let replicasInAll = 0;

/** One replica after another of a kind, until all is over. */
async function live(kind, number) {
  const user = `${kind.name}-${number}`;
  let replica = fresh(kind);
  for (;;) {
    const link = await kind.connect(replica.dbs, user);
    count(`${kind.name}: connections`);
    const until = Date.now() + between(4_000, 15_000);
    while (!isCalm() && Date.now() < until) {
      await pauseInStorm(between(50, 400));
      await editOne(kind, replica);
      if (link.cut && oneIn(40)) {
        link.cut();
        count(`${kind.name}: cuts`);
      }
    }
    if (isCalm()) {
      finals.push({ kind, replica });
      await over;
      await arrived(replica.acknowledged, kind.name, user);
      await link.end();
      return;
    }
    const retires = oneIn(3);
    if (retires) await arrived(replica.acknowledged, kind.name, user);
    await link.end();
    if (!retires) continue;
    for (const db of Object.values(replica.dbs)) await db.destroy();
    replica = fresh(kind);
  }
}

function fresh(kind) {
  count(`${kind.name}: replicas`);
  const dbs = Object.fromEntries(databases.map((name) => [name, kind.create()]));
  return { dbs, acknowledged: [] };
}

async function editOne(kind, { dbs, acknowledged }) {
  const name = choose(databases);
  try {
    const written = await edit(dbs[name], kind);
    if (!written) return;
    acknowledged.push({ name, id: written.id, rev: written.rev });
    count(`${kind.name}: edits`);
  } catch (error) {
    // A sync was faster.
    if (error.status !== 409 && error.status !== 404) throw error;
  }
}

const digest = (data) =>
  `md5-${createHash('md5').update(Buffer.from(data, 'base64')).digest('base64')}`;

/** Every leaf and the winner of every document whose round is kept; open documents of older ones. */
async function content(db, kind) {
  const { results } = await db.changes({ style: 'all_docs', since: 0 });
  const all = {};
  const old = [];
  for (const { id, changes } of results) {
    if (id.startsWith('_') || (holdsFile(id) && kind.files === 'left out')) continue;
    const winner = await db.get(id).then(({ _rev }) => _rev, () => null);
    if (roundOf(id) < round() - settings.rounds_kept) {
      if (winner) old.push(id);
      continue;
    }
    const leaves = {};
    for (const { rev } of changes) {
      const { _deleted = false, text = null, _attachments = {} } = await db.get(id, {
        rev,
        attachments: holdsFile(id),
      });
      const digests = Object.entries(_attachments).map(([name, { data }]) => [name, digest(data)]);
      leaves[rev] = { deleted: _deleted, text, files: Object.fromEntries(digests) };
    }
    all[id] = { winner, leaves };
  }
  return { all, old };
}

async function look() {
  const replicas = [];
  for (const { kind, replica } of finals) {
    for (const [name, db] of Object.entries(replica.dbs)) {
      const { all, old } = await content(db, kind);
      replicas.push({ kind: kind.name, files: kind.files, database: name, all, old });
    }
  }
  return { missing: replicasInAll - finals.length, replicas, counts };
}

/** Runs so many replicas of each kind, and what goes on beside them, as the test says. */
export async function run(kinds, beside = async () => {}) {
  const work = kinds.flatMap((kind) =>
    Array.from({ length: kind.replicas }, (_, number) => live(kind, number)),
  );
  replicasInAll = work.length;
  work.push(beside());
  const obey = async () => {
    for await (const line of createInterface({ input: process.stdin })) {
      if (line.startsWith('calm ')) {
        calmAt = Number(line.slice('calm '.length));
        quiet();
      } else if (line === 'look') {
        console.log(JSON.stringify(await look()));
      } else if (line === 'over') {
        finish();
        return;
      }
    }
    throw new Error('the test has gone away');
  };
  await Promise.all([obey(), ...work]);
  process.exit(0);
}
