// Settee beside its peers, in one run and in turns. `./run` sets up what this needs.
//
//   node compare.mjs [DOCUMENTS] [ROUNDS] [LETTERS] [--quick] [--parts sync,wire,raw]
//
//   (a) client.sync with the gateway            (f) PouchDB over HTTP with COUCHDB_URL
//   (b) the PouchDB adapter with the gateway    (g) the server of RouchDB, if ROUCHDB_BIN names it
//   (c) PouchDB over HTTP with the gateway      (h) as (d), with its data in LevelDB
//   (d) PouchDB over HTTP with express-pouchdb  (i) the client of 2015 with the gateway
//   (e) pouch-websocket-sync 0.3 with PouchDB 5.4.5, with its own server
//
// Parts: `sync`, first push, first pull and live edits with what they cost; `wire`, bytes and
// messages, counted in a run that is not timed; `raw`, HTTP without PouchDB.

import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { median } from './measure.cjs';
import * as report from './report.mjs';
import { rawRound, timedRound, ways, wireRound } from './ways.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean' }, parts: { type: 'string', default: 'sync,wire,raw' } },
});
const documents = Number(positionals[0] ?? (values.quick ? 500 : 10_000));
const rounds = Number(positionals[1] ?? (values.quick ? 1 : 5));
const letters = positionals[2] ?? (values.quick ? 'abcdefg' : Object.keys(ways).join(''));
const parts = values.parts.split(',');

/** Median time of a flush of one small write into a file of fixed size, in milliseconds. */
function flushTime() {
  const directory = mkdtempSync(join(tmpdir(), 'settee-peers-'));
  const file = openSync(join(directory, 'flush'), 'w');
  writeSync(file, Buffer.alloc(200 * 4096));
  fdatasyncSync(file);
  const times = Array.from({ length: 200 }, (_, n) => {
    writeSync(file, Buffer.alloc(4096, n), 0, 4096, n * 4096);
    const began = process.hrtime.bigint();
    fdatasyncSync(file);
    return Number(process.hrtime.bigint() - began) / 1e6;
  });
  closeSync(file);
  rmSync(directory, { recursive: true });
  return median(times);
}

const load = () => loadavg().map((value) => value.toFixed(1)).join(', ');

/** So many rounds, one way after the other in each: `[letter, way, what was found in each]`. */
async function inTurns(chosen, count, measure) {
  const entries = chosen.map(([letter, way]) => [letter, way, []]);
  for (let round = 0; round < count; round++) {
    for (const [letter, way, found] of entries) {
      process.stderr.write(`round ${round + 1} of ${count}: (${letter}) ${way.name}\n`);
      found.push(await measure(way, documents));
    }
  }
  return entries;
}

const picked = Object.entries(ways).filter(([letter]) => letters.includes(letter));
const present = picked.filter(([, { server }]) => !server.absent);
const syncing = present.filter(([, { program }]) => program);
const speaking = present.filter(([, { scheme }]) => scheme === 'http');

console.log(`${documents} documents, medians of ${rounds} rounds, Node ${process.version}, `
  + `${cpus().length} × ${cpus()[0].model}; a flush takes ${flushTime().toFixed(2)} ms; `
  + `load before: ${load()}\n`);
for (const [letter, { name, server }] of picked) {
  console.log(`- (${letter}) ${name}: ${server.absent ? `left out, ${server.absent}` : `data ${server.data}`}`);
}

if (parts.includes('sync') && syncing.length > 0) {
  const found = await inTurns(syncing, rounds, timedRound);
  console.log(`\nTime:\n\n${report.timesTable(found)}`);
  console.log(`\nProcessor time for 10,000 documents, and memory of the server:\n\n${report.costsTable(found)}`);
}
if (parts.includes('wire') && syncing.length > 0) {
  const found = (await inTurns(syncing, 1, wireRound)).map(([letter, way, [wire]]) => [letter, way, wire]);
  console.log(`\nBytes on the wire for each document, to the server and from it:\n\n${report.bytesTable(found)}`);
  console.log(`\nMessages for each document:\n\n${report.messagesTable(found)}`);
  console.log(`\nConnections opened:\n\n${report.connectionsTable(found)}`);
}
if (parts.includes('raw') && speaking.length > 0) {
  const found = await inTurns(speaking, rounds, rawRound);
  console.log(`\nHTTP without PouchDB, documents a second (\\* the client was busy, too):\n\n${report.ratesTable(found)}`);
  console.log(`\nProcessor time of the server for 10,000 documents:\n\n${report.rawCostsTable(found)}`);
}
console.log(`\nLoad after: ${load()}`);
