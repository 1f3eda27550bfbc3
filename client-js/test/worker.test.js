import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Gateway } from './support/gateway.js';
import { remoteContent } from './support/databases.js';

test('both ways in work in a worker', async () => {
  const gateway = await Gateway.start();
  const script = new URL('./support/worker.js', import.meta.url);
  const worker = new Worker(script, { workerData: gateway.url });
  const [ids] = await once(worker, 'message');
  await once(worker, 'exit');
  assert.deepEqual(ids, ['synced', 'written']);
  const { winners } = await remoteContent(gateway.url, 'worker');
  assert.deepEqual(winners.map(({ key }) => key), ['synced', 'written']);
  await gateway.remove();
});
