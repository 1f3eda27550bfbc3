import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { closeBrowser, SERVING, withSetting } from './support/browser.js';

after(closeBrowser);

async function enterToken(device, token) {
  await device.page.getByLabel('Token').fill(token);
  await device.page.getByRole('button', { name: 'Connect' }).click();
}

test('a wrong token is told, local work goes on, and the right one sends it', () =>
  withSetting(async (setting) => {
    const one = await setting.device({ token: 'wrong' });
    await one.status('auth-needed');
    await one.makeList('Later');
    await one.add('written without access');
    await one.status('auth-needed', 3);
    await one.page.getByLabel('Token').waitFor();
    const attempts = one.sockets.length;
    const tried = one.page.waitForEvent('websocket');
    await enterToken(one, 'wrong again');
    const socket = await tried;
    if (!socket.isClosed()) await socket.waitForEvent('close');
    await one.status('auth-needed', 3);
    await enterToken(one, 'secret');
    await one.synced();
    // Refused once, a token is not shown again and again.
    assert.equal(one.sockets.length, attempts + 2);

    const other = await setting.device();
    await other.chooseList('Later');
    await other.lists('written without access');
    assert.equal(new URL(other.page.url()).hash, '');
  }));

test('a gateway that is killed and comes back is told truly', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const other = await setting.device();
    await one.add('before');
    await other.lists('before');
    await setting.gateway.kill();
    await one.status('offline');
    await other.status('offline');
    await one.add('while it was away');
    await one.status('offline', 1);
    await setting.gateway.restart();
    await one.synced();
    await other.synced();
    await other.lists('before', 'while it was away');
  }));

test('a document that the gateway refuses is listed, and taken when it may be', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'settee-todo-'));
  const config = join(directory, 'settee.toml');
  await writeFile(config, '[limits]\ndoc_bytes_max = 400\n');
  await withSetting(async (setting) => {
    const one = await setting.device({ viewport: { width: 360, height: 700 } });
    const other = await setting.device();
    const long = 'A long story. '.repeat(30).trim();
    await one.add('short', long);
    await one.status('some-denied', 0);
    await other.lists('short');
    await one.openDetails();
    await one.page.locator('#denied-list').getByText(long).waitFor();
    assert.match(await one.page.locator('#denied-list').textContent(), /In To do, not taken by the gateway: /);
    assert.equal(await one.page.evaluate(() => document.documentElement.scrollWidth), 360);
    await one.page.getByRole('button', { name: 'Try again' }).click();
    await one.status('some-denied', 0);

    await setting.gateway.kill();
    await setting.gateway.restart(SERVING);
    await one.synced();
    await other.lists('short', long);
    await one.page.locator('#denied').waitFor({ state: 'hidden' });
  }, [...SERVING, '--config', config]);
  await rm(directory, { recursive: true });
});
