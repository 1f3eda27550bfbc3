import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const START = fileURLToPath(new URL('../start', import.meta.url));

test('what start refuses, it refuses with a reason', async () => {
  for (const [args, reason] of [
    [['--lisen'], /unknown argument --lisen/],
    [['--token'], /--token needs a value/],
    [['--listen', ''], /--listen needs a value/],
  ]) {
    const child = spawn(START, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (text) => (said += text));
    const [code] = await once(child, 'close');
    assert.equal(code, 1);
    assert.match(said, reason);
  }
});
