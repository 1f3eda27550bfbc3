'use strict';
// The client of 2015 with its own server and with the gateway, in turns, in one run.
//
//   cargo build --release && npm --prefix tests/legacy-js ci
//   node benches/legacy/compare.cjs [DOCUMENTS] [ROUNDS]
//
// The original keeps everything in memory; the gateway has every write on disk before it answers.

const { execFile, spawn } = require('node:child_process');
const { once } = require('node:events');
const { mkdtempSync, readFileSync, rmSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { createInterface } = require('node:readline');
const { promisify } = require('node:util');

const documents = Number(process.argv[2] ?? 5_000);
const rounds = Number(process.argv[3] ?? 3);
const LIVE_DOCUMENTS = 100;
const BINARY = process.env.SETTEE_BIN ?? join(__dirname, '../../target/release/settee');

async function start(program, args) {
  const env = { ...process.env, SETTEE_LOG: 'error' };
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'ignore'] });
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  return { child, url: line.replace('listening on http', 'ws') };
}

/** Milliseconds of processor time of a process, where the system tells them. */
function processorTime(pid) {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  } catch {
    return Number.NaN;
  }
}

async function measure(server, kind, database, count) {
  const before = processorTime(server.child.pid);
  const args = [join(__dirname, 'client.cjs'), kind, server.url, database, String(count)];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return { ...JSON.parse(stdout), server_cpu_ms: processorTime(server.child.pid) - before };
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

async function main() {
  const data = mkdtempSync(join(tmpdir(), 'settee-legacy-bench-'));
  const gateway = ['serve', '--listen', '127.0.0.1:0', '--data', data, '--token', 'secret'];
  const servers = {
    original: await start(process.execPath, [join(__dirname, 'original.cjs')]),
    gateway: await start(BINARY, gateway),
  };
  const found = { original: [], gateway: [] };
  for (let round = 0; round < rounds; round++) {
    for (const [name, server] of Object.entries(servers)) {
      const push = await measure(server, 'push', `bulk-${round}`, documents);
      const pull = await measure(server, 'pull', `bulk-${round}`, documents);
      const live = await measure(server, 'live', `live-${round}`, LIVE_DOCUMENTS);
      found[name].push({ push, pull, live });
    }
  }
  Object.values(servers).forEach(({ child }) => child.kill());
  rmSync(data, { recursive: true, force: true });
  report(found);
}

function report(found) {
  const value = (name, kind, field) => median(found[name].map((round) => round[kind][field]));
  console.log(`${documents} documents, median of ${rounds} rounds\n`);
  console.log('| | original | gateway | times as fast |');
  console.log('|---|---|---|---|');
  const row = (what, kind, field, digits = 0) => {
    const [before, now] = ['original', 'gateway'].map((name) => value(name, kind, field));
    const texts = [before, now].map((ms) => `${ms.toFixed(digits)} ms`);
    console.log(`| ${what} | ${texts.join(' | ')} | ${(before / now).toFixed(1)} |`);
  };
  for (const kind of ['push', 'pull']) {
    row(`bulk ${kind}`, kind, 'ms');
    row(`… processor time of the client`, kind, 'cpu_ms');
    row(`… processor time of the server`, kind, 'server_cpu_ms');
  }
  row('live, median', 'live', 'p50_ms', 1);
  row('live, 95 of 100', 'live', 'p95_ms', 1);
}

main();
