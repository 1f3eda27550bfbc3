import assert from 'node:assert/strict';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { closeBrowser, PAGE, withSetting } from './support/browser.js';

after(closeBrowser);

/** Runs in a Worker: writes a document, has it synced, and reads it back through another database. */
const WORKER = `
  import PouchDB from '/vendor/pouchdb.js';
  import { createClient } from '/_settee/client.js';

  const options = { remoteName: 'from-worker', credentials: { token: 'secret' }, create: true, live: false };
  try {
    const client = createClient().connect(self.location.origin);
    const one = new PouchDB('worker-one');
    const data = new Blob([new Uint8Array([0, 255, 10, 13])], { type: 'application/x-test' });
    await one.put({ _id: 'a', n: 1, _attachments: { bytes: { content_type: data.type, data } } });
    await client.sync(one, options);
    const other = new PouchDB('worker-other');
    await client.sync(other, options);
    const blob = await other.getAttachment('a', 'bytes');
    const bytes = [...new Uint8Array(await blob.arrayBuffer())];
    await client.end();
    self.postMessage({ doc: await other.get('a'), bytes, hasWindow: typeof window !== 'undefined' });
  } catch (error) {
    self.postMessage({ error: String(error.stack ?? error) });
  }
`;

test('settee-client syncs in a Worker', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'settee-todo-'));
  await cp(PAGE, directory, { recursive: true });
  await writeFile(join(directory, 'worker.js'), WORKER);
  await withSetting(
    async (setting) => {
      const one = await setting.device();
      const { doc, bytes, hasWindow, error } = await one.page.evaluate(
        () =>
          new Promise((resolve) => {
            const worker = new Worker('/worker.js', { type: 'module' });
            worker.onmessage = ({ data }) => resolve(data);
            worker.onerror = ({ message }) => resolve({ error: message });
          }),
      );
      assert.equal(error, undefined);
      assert.equal(doc.n, 1);
      assert.deepEqual(bytes, [0, 255, 10, 13]);
      assert.equal(hasWindow, false);
    },
    ['--static', directory],
  );
  await rm(directory, { recursive: true });
});
