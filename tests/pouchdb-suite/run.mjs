// Runs the files of PouchDB's tests one after the other: `node run.mjs SUITE EXPECTED`.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Gateway } from '../../client-js/test/support/gateway.js';

const TEST_TIMEOUT_MS = 10_000;
/** A server that answers each request with 500 has to listen here. */
const DOWN_PORT = 3010;

const [suite, expectedPath] = process.argv.slice(2);
const expected = JSON.parse(readFileSync(expectedPath, 'utf8'));
/** The titles of tests that fail. */
const known = Object.values(expected.failed).flat();

/** A pattern of mocha's that matches these titles alone. */
function oneOf(titles) {
  return `(?:${titles.map((title) => title.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|')})$`;
}

/** Those files whose tests use a server, and how they are told to. */
function runs() {
  const env = { VIEW_ADAPTERS: 'memory' };
  const integration = files('tests/integration').map((file) => ({
    files: [file],
    // Without "http" they are of PouchDB's local stores alone.
    pattern: `^(?!${oneOf(known)}).*http`,
    env,
  }));
  // Each by itself: what is thrown after a test has failed ends those that follow it.
  const failing = known.map((title) => ({
    files: [`tests/integration/${title.match(/test\.\w+\.js/)[0]}`],
    pattern: `^${oneOf([title])}`,
    env,
  }));
  const find = readdirSync(join(suite, 'tests/find'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => files(`tests/find/${name}`));
  // They share what the first of them prepares.
  const queries = { files: find, pattern: '', env: { ADAPTERS: 'http', PLUGINS: 'pouchdb-find' } };
  return [...integration, queries, ...failing];
}

function files(directory) {
  const names = readdirSync(join(suite, directory)).filter((name) => /^test\..*\.js$/.test(name));
  return names.sort().map((name) => `${directory}/${name}`);
}

/** What mocha reports of some files. */
async function mocha({ files, pattern, env }, couchHost, scratch) {
  const output = join(scratch, 'report.json');
  // Local databases are there. At its end a run has TESTS_DIR removed by a process that outlives it, which
  // must not be the next run's.
  rmSync(join(suite, 'tmp'), { recursive: true, force: true });
  const child = spawn(
    process.execPath,
    [
      'node_modules/mocha/bin/mocha.js',
      '--exit',
      ...['--timeout', String(TEST_TIMEOUT_MS), '--require', './tests/integration/node.setup.js'],
      ...['--reporter', 'json', '--reporter-option', `output=${output}`],
      ...['--grep', pattern],
      ...files,
    ],
    {
      cwd: suite,
      // Its exit code is the number of failures, which the report has too.
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...env, COUCH_HOST: couchHost, TESTS_DIR: join(scratch, 'unused') },
    },
  );
  let said = '';
  child.stderr.on('data', (chunk) => (said += chunk));
  await once(child, 'close');
  try {
    return JSON.parse(readFileSync(output, 'utf8'));
  } catch (error) {
    throw new Error(`${files.join(' ')} came to no report: ${said}`, { cause: error });
  } finally {
    rmSync(output, { force: true });
  }
}

// First, since the port may be taken: nothing else runs then.
const down = createServer((_request, response) => response.writeHead(500).end('{}'));
down.listen(DOWN_PORT, '127.0.0.1');
await once(down, 'listening');
const gateway = await Gateway.start(['--open']);
const scratch = mkdtempSync(join(tmpdir(), 'settee-suite-'));
let [passed, leftOut] = [0, 0];
const failed = new Map();
try {
  const couchHost = gateway.url.replace(/^ws/, 'http');
  for (const run of runs()) {
    const { stats, failures } = await mocha(run, couchHost, scratch);
    passed += stats.passes;
    leftOut += stats.pending;
    // A hook that fails after a test is named after it.
    for (const { fullTitle, err } of failures) {
      failed.set(fullTitle.replace(/"after each" hook for "(.*)"$/, '$1'), err.message);
    }
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
  down.close();
  await gateway.stop();
  await gateway.remove();
}

const news = [...failed].filter(([title]) => !known.includes(title));
const mended = known.filter((title) => !failed.has(title));
for (const [title, message] of news) console.log(`not expected to fail: ${title}: ${message}`);
for (const title of mended) console.log(`expected to fail, but did not: ${title}`);
console.log(`${passed} passed, ${failed.size} failed, ${leftOut} that PouchDB leaves out`);
process.exitCode = news.length + mended.length > 0 || passed < expected.passed ? 1 : 0;
