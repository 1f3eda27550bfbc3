// Where the time of (a) goes: processor time of `client.sync` by package.
//
//   node benches/peers/profile.mjs [DOCUMENTS]

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const documents = process.argv[2] ?? '10000';
const BINARY = process.env.SETTEE_BIN ?? here('../../target/release/settee');

/** Whose code a frame of a profile is. */
function owner({ functionName, url }) {
  if (functionName === '(idle)') return undefined;
  if (functionName === '(garbage collector)') return 'garbage collection';
  if (url.includes('settee-client')) return 'settee-client';
  const [, name] = /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url) ?? [];
  if (name === 'ws') return 'ws';
  if (name) return name.startsWith('pouchdb') ? 'PouchDB' : "PouchDB's dependencies (memdown, levelup, …)";
  if (url.includes('benches/peers')) return 'this benchmark';
  return 'Node';
}

/** Milliseconds by owner. */
function shares({ nodes, samples, timeDeltas }) {
  const owners = new Map(nodes.map(({ id, callFrame }) => [id, owner(callFrame)]));
  const sums = new Map();
  samples.forEach((id, n) => {
    const name = owners.get(id);
    if (name) sums.set(name, (sums.get(name) ?? 0) + timeDeltas[n] / 1e3);
  });
  return [...sums].sort(([, a], [, b]) => b - a);
}

const directory = mkdtempSync(join(tmpdir(), 'settee-profile-'));
const args = ['serve', '--listen', '127.0.0.1:0', '--data', join(directory, 'store'), '--token', 'secret'];
const child = spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'ignore'] });
const [line] = await once(createInterface({ input: child.stdout }), 'line');
const url = line.replace('listening on http', 'ws');
for (const kind of ['push', 'pull']) {
  const profiles = join(directory, kind);
  const node = ['--cpu-prof', `--cpu-prof-dir=${profiles}`, here('client.mjs'), 'sync'];
  await promisify(execFile)(process.execPath, [...node, kind, url, 'profiled', documents]);
  const [file] = readdirSync(profiles);
  const found = shares(JSON.parse(readFileSync(join(profiles, file), 'utf8')));
  const all = found.reduce((sum, [, ms]) => sum + ms, 0);
  console.log(`\n${kind} of ${documents} documents, with start and filling: ${all.toFixed(0)} ms of processor time`);
  for (const [name, ms] of found) console.log(`${((100 * ms) / all).toFixed(0).padStart(4)} %  ${name}`);
}
child.kill();
rmSync(directory, { recursive: true, force: true });
