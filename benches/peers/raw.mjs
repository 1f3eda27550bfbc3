// HTTP without PouchDB, so that the server is what bounds it, in a process of its own:
//   node raw.mjs URL DATABASE COUNT
// prints JSON: by what was done, how many documents, milliseconds, and the processor time of this
// process; null for what the server does not have.

import { Pool } from 'undici';

import { documents, mark, milliseconds, processorTime } from './measure.cjs';

const BATCH = 1_000;
const CLIENTS = 16;
// One document a request takes longer than a thousand.
const SINGLES_MAX = 4_000;
// Short reads are made again, so that the clock can tell them apart.
const READ_MS_MIN = 300;
const READS_MAX = 20;

const [url, database, countText] = process.argv.slice(2);
const count = Number(countText);
const { origin, username, password } = new URL(url);
const pool = new Pool(origin, { connections: CLIENTS, bodyTimeout: 0, headersTimeout: 0 });
const headers = { 'content-type': 'application/json' };
if (username) headers.authorization = `Basic ${btoa(decodeURIComponent(`${username}:${password}`))}`;

class NotThere extends Error {}

/** Sends a request and gives the bytes of its answer. */
async function ask(method, path, body) {
  const answer = await pool.request({ method, path: `/${database}${path}`, headers, body });
  const bytes = Buffer.from(await answer.body.arrayBuffer());
  const { statusCode: status } = answer;
  if (status >= 200 && status < 300) return bytes;
  const text = `${method} ${path}: ${status} ${bytes.subarray(0, 200)}`;
  throw [404, 405, 501].includes(status) ? new NotThere(text) : new Error(text);
}

const docs = documents(count);
const batches = (make) => {
  const starts = Array.from({ length: Math.ceil(count / BATCH) }, (_, n) => n * BATCH);
  return starts.map((start) => JSON.stringify(make(docs.slice(start, start + BATCH))));
};

async function bulkDocs() {
  const withRev = (doc) => ({ ...doc, _rev: `1-${doc.n.toString(16).padStart(32, '0')}` });
  const bodies = batches((some) => ({ new_edits: false, docs: some.map(withRev) }));
  return timed(count, async () => {
    for (const body of bodies) await ask('POST', '/_bulk_docs', body);
  });
}

/** So many requests, each of one document, from all clients at once. */
async function singles(method, path, body) {
  const left = docs.slice(0, SINGLES_MAX);
  const all = left.length;
  const client = async () => {
    for (let doc = left.pop(); doc; doc = left.pop()) await ask(method, path(doc), body?.(doc));
  };
  return timed(all, () => Promise.all(Array.from({ length: CLIENTS }, client)));
}

/** Reads all there is, as often as it takes; `rows` counts what one answer holds. */
async function reading(read, rows) {
  let answers;
  let times = 0;
  const took = await timed(0, async () => {
    const began = process.hrtime.bigint();
    do {
      answers = await read();
      times++;
    } while (milliseconds(began) < READ_MS_MIN && times < READS_MAX);
  });
  const found = answers.flatMap((bytes) => rows(JSON.parse(bytes.toString()))).length;
  if (found < count) throw new Error(`${found} rows instead of ${count}`);
  return { ...took, documents: found * times };
}

const put = ({ n, done, text }) => JSON.stringify({ n, done, text });

async function bulkGet() {
  const bodies = batches((some) => ({ docs: some.map(({ _id: id }) => ({ id })) }));
  const read = async () => {
    const answers = [];
    for (const body of bodies) answers.push(await ask('POST', '/_bulk_get?revs=true', body));
    return answers;
  };
  return reading(read, ({ results }) => results.filter(({ docs }) => docs[0].ok));
}

const all = (path, rows) => () => reading(async () => [await ask('GET', path)], rows);

async function timed(documents, work) {
  const cpu = process.cpuUsage();
  const began = process.hrtime.bigint();
  await work();
  const ms = milliseconds(began);
  return { documents, ms, client_cpu_ms: processorTime(cpu) };
}

const steps = {
  '`_bulk_docs`, `new_edits: false`, 1,000 a request': bulkDocs,
  'PUT of one, 16 clients': () => singles('PUT', ({ n }) => `/put-${n}`, put),
  'GET of one, 16 clients': () => singles('GET', ({ _id: id }) => `/${id}`),
  '`_changes`': all('/_changes', ({ results }) => results),
  '`_changes` with documents': all('/_changes?include_docs=true', ({ results }) => results),
  '`_bulk_get` with histories, 1,000 a request': bulkGet,
  '`_all_docs`': all('/_all_docs', ({ rows }) => rows),
  '`_all_docs` with documents': all('/_all_docs?include_docs=true', ({ rows }) => rows),
};

const found = {};
for (const [name, step] of Object.entries(steps)) {
  await mark(name);
  try {
    found[name] = await step();
  } catch (error) {
    if (!(error instanceof NotThere)) throw error;
    found[name] = null;
  }
}
await mark('end');
console.log(JSON.stringify(found));
process.exit(0);
