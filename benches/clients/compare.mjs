// First push, first pull and a live edit from device to device, in turns, in one run:
//   (a) client.sync            against the gateway
//   (b) PouchDB.sync with the `settee` adapter, against the gateway
//   (c) PouchDB.sync over HTTP against the gateway
//   (d) PouchDB.sync over HTTP against express-pouchdb
//   (e) pouch-websocket-sync 0.3 with PouchDB 5.4.5 against its own server
//
//   cargo build --release && npm --prefix tests/legacy-js ci && npm --prefix benches/clients ci
//   node benches/clients/compare.mjs [DOCUMENTS] [ROUNDS] [LETTERS]
//
// The other servers keep everything in memory; the gateway has every write on disk before it
// answers, and the time of one such flush is printed beside.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const documents = Number(process.argv[2] ?? 10_000);
const rounds = Number(process.argv[3] ?? 5);
const letters = process.argv[4] ?? 'abcde';
const LIVE_DOCUMENTS = 100;
const BINARY = process.env.SETTEE_BIN ?? here('../../target/release/settee');

async function start(program, args) {
  const env = { ...process.env, SETTEE_LOG: 'error' };
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'ignore'] });
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  return { child, url: line.replace('listening on ', '') };
}

async function measure({ server, program, scheme }, kind, database, count) {
  const url = server.url.replace('http', scheme);
  const args = [...program, kind, url, database, String(count)];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return JSON.parse(stdout);
}

/** Median time of a flush of one small write into a file of fixed size, in milliseconds. */
function flushTime(directory) {
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
  return median(times);
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

const data = mkdtempSync(join(tmpdir(), 'settee-clients-bench-'));
const gateway = await start(BINARY, [
  ...['serve', '--listen', '127.0.0.1:0', '--data', join(data, 'store'), '--token', 'secret'],
]);
const express = await start(process.execPath, [here('express-pouchdb.cjs')]);
const original = await start(process.execPath, [here('../legacy/original.cjs')]);
const client = here('client.mjs');
const all = {
  '(a) client.sync': { server: gateway, program: [client, 'sync'], scheme: 'ws' },
  '(b) adapter': { server: gateway, program: [client, 'adapter'], scheme: 'ws' },
  '(c) HTTP, gateway': { server: gateway, program: [client, 'http'], scheme: 'http' },
  '(d) HTTP, express-pouchdb': { server: express, program: [client, 'http'], scheme: 'http' },
  '(e) pouch-websocket-sync': { server: original, program: [here('../legacy/client.cjs')], scheme: 'ws' },
};
const ways = Object.fromEntries(Object.entries(all).filter(([name]) => letters.includes(name[1])));
const found = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
for (let round = 0; round < rounds; round++) {
  for (const [number, [name, way]] of Object.entries(ways).entries()) {
    const push = await measure(way, 'push', `bulk-${number}-${round}`, documents);
    const pull = await measure(way, 'pull', `bulk-${number}-${round}`, documents);
    const live = await measure(way, 'live', `live-${number}-${round}`, LIVE_DOCUMENTS);
    found[name].push({ push, pull, live });
  }
}
const flush = flushTime(data);
for (const { child } of [gateway, express, original]) child.kill();
rmSync(data, { recursive: true, force: true });

console.log(`${documents} documents, median of ${rounds} rounds; a flush takes ${flush.toFixed(2)} ms\n`);
const [first] = Object.keys(ways);
const times = `× ${first.slice(0, 3)}`;
console.log(`| | push | ${times} | pull | ${times} | live, median | live, 95 of 100 |`);
console.log('|---|---|---|---|---|---|---|');
const value = (name, kind, field) => median(found[name].map((round) => round[kind][field]));
for (const name of Object.keys(ways)) {
  const bulk = ['push', 'pull'].flatMap((kind) => {
    const ms = value(name, kind, 'ms');
    return [`${ms.toFixed(0)} ms`, (ms / value(first, kind, 'ms')).toFixed(1)];
  });
  const live = ['p50_ms', 'p95_ms'].map((field) => `${value(name, 'live', field).toFixed(1)} ms`);
  console.log(`| ${[name, ...bulk, ...live].join(' | ')} |`);
}
