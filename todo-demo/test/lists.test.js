import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { closeBrowser, withSetting } from './support/browser.js';

after(closeBrowser);

test('lists come, are renamed and go in every browser, all over one socket', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const other = await setting.device();
    const names = (device) => device.page.locator('#lists .name').allTextContents();
    for (const name of ['Garden', 'House', 'Trip']) {
      await one.makeList(name);
      await one.add(`first of ${name}`);
    }
    await other.page.locator('#lists li').nth(3).waitFor();
    for (const name of ['Garden', 'House', 'Trip']) {
      await other.chooseList(name);
      await other.lists(`first of ${name}`);
    }
    await other.page.getByLabel('Name of this list').fill('Journey');
    await other.page.keyboard.press('Enter');
    await one.page.locator('#lists .name', { hasText: 'Journey' }).waitFor();
    assert.deepEqual(await names(one), ['Garden', 'House', 'Journey', 'To do']);

    await one.chooseList('House');
    await one.page.getByRole('button', { name: 'Delete this list' }).click();
    await one.page.getByRole('button', { name: 'Delete the list' }).click();
    await other.page.locator('#lists .name', { hasText: 'House' }).waitFor({ state: 'detached' });
    await one.synced();
    await other.synced();
    assert.equal(one.sockets.length, 1);
    assert.equal(other.sockets.length, 1);

    const open = await one.page.evaluate(async () => (await indexedDB.databases()).length);
    // Three lists and the registry.
    assert.equal(open, 4);
  }));

test('the last list can be deleted, and does not come back by itself', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const other = await setting.device();
    await one.synced();
    await one.switchOffline();
    await one.page.getByRole('button', { name: 'Delete this list' }).click();
    await one.page.getByRole('button', { name: 'Delete the list' }).click();
    await one.page.getByText('There is no list.').waitFor();
    await one.switchOnline();
    await other.page.getByText('There is no list.').waitFor();
    await other.page.reload();
    await other.ready();
    await other.synced();
    assert.deepEqual(await other.databases(), []);
    await other.makeList('Fresh');
    await one.page.locator('#lists .name', { hasText: 'Fresh' }).waitFor();
  }));

test('browsers that begin apart begin with one list', () =>
  withSetting(async (setting) => {
    const one = await setting.device({ token: '' });
    const other = await setting.device({ token: '' });
    await one.add('from one');
    await other.add('from other');
    for (const device of [one, other]) {
      await device.page.getByLabel('Token').fill('secret');
      await device.page.getByRole('button', { name: 'Connect' }).click();
      await device.synced();
    }
    await one.page.locator('.todo').nth(1).waitFor();
    await other.page.locator('.todo').nth(1).waitFor();
    assert.deepEqual(await one.titles(), await other.titles());
    assert.deepEqual(await one.databases(), ['list-first']);

    // Both stand at one place; moving between them must still be possible.
    const [first, second] = await one.titles();
    await one.row(second).locator('.text').focus();
    await one.page.keyboard.press('Alt+ArrowUp');
    await other.lists(second, first);
  }));
