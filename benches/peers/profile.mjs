// Where the time of a client goes: processor time by package, for a way of compare.mjs.
//
//   node benches/peers/profile.mjs [DOCUMENTS] [LETTER]

import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { startServer } from './servers.mjs';
import { urlOf, ways } from './ways.mjs';

const [documents = '10000', letter = 'a'] = process.argv.slice(2);

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

const way = ways[letter];
const { address, user, stop } = await startServer(way.server);
const directory = mkdtempSync(join(tmpdir(), 'settee-profile-'));
try {
  for (const kind of ['push', 'pull']) await profile(kind);
} finally {
  await stop();
  rmSync(directory, { recursive: true, force: true });
}

async function profile(kind) {
  const profiles = join(directory, kind);
  const args = [...way.program, kind, urlOf(way, address, user), 'profiled', documents];
  await promisify(execFile)(process.execPath, ['--cpu-prof', `--cpu-prof-dir=${profiles}`, ...args]);
  const [file] = readdirSync(profiles);
  const found = shares(JSON.parse(readFileSync(join(profiles, file), 'utf8')));
  const all = found.reduce((sum, [, ms]) => sum + ms, 0);
  console.log(`\n${kind} of ${documents} documents, with start and filling: ${all.toFixed(0)} ms of processor time`);
  for (const [name, ms] of found) console.log(`${((100 * ms) / all).toFixed(0).padStart(4)} %  ${name}`);
}
