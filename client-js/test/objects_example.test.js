/** The example of plain objects does what it says. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { CREDENTIALS, Gateway } from './support/gateway.js';

test('the example shows objects, a conflict, and what leaves a view', async () => {
  const gateway = await Gateway.start();
  const program = fileURLToPath(new URL('../../examples/plain-objects.mjs', import.meta.url));
  const args = [program, gateway.url, CREDENTIALS.token];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  assert.deepEqual(stdout.replace(/milk-\d+/, 'ID').trim().split('\n'), [
    'shown at once: 1',
    'to do: Buy milk',
    'now: Buy oat milk',
    'now: Buy milk',
    'now: Buy oat milk',
    'conflict: true with Buy oat milk',
    'now: Buy oat milk',
    'done: ID',
    'to do: Bake bread',
    'all done: Buy oat milk',
  ]);
  await gateway.remove();
});
