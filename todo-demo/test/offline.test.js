import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { closeBrowser, withSetting } from './support/browser.js';
import { assertSame, dumped } from './support/equal.js';

after(closeBrowser);

/** Both devices and the gateway hold the same in every database. */
async function assertAllSame(setting, devices) {
  const databases = ['todo-lists', ...(await devices[0].databases())];
  const [ours, ...others] = await Promise.all(
    devices.map((device) => Promise.all(databases.map((name) => device.leaves(name)))),
  );
  await setting.gateway.kill();
  for (const [n, name] of databases.entries()) {
    assert.ok(ours[n].length > 0, name);
    for (const theirs of others) assertSame(theirs[n], ours[n], name);
    assertSame(dumped(setting.gateway, name), ours[n], `${name} behind the gateway`);
  }
}

test('two browsers edit offline, conflict, come back, choose, and end equal', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const other = await setting.device();
    await one.add('Cake', 'Candles', 'Presents', 'Music');
    await other.lists('Cake', 'Candles', 'Presents', 'Music');

    await one.switchOffline();
    await other.switchOffline();
    await one.edit('Cake', { to: 'Lemon cake', note: 'two layers' });
    await one.check('Candles');
    await one.edit('Music', { to: 'Live music' });
    await one.add('Invitations');
    await one.status('switched-off', 4);
    await one.shows('#to-fetch', '?');
    await other.edit('Cake', { to: 'Plum cake' });
    await other.remove('Music');
    await other.status('switched-off', 2);
    assert.deepEqual(await other.titles(), ['Plum cake', 'Candles', 'Presents']);

    await one.switchOnline();
    await one.synced();
    await other.switchOnline();
    await other.synced();
    for (const device of [one, other]) {
      await device.page.getByRole('button', { name: '2 versions' }).nth(1).waitFor();
      await device.row('Live music').waitFor();
      await device.page.locator('#lists .mark').waitFor();
    }

    const shown = (await one.titles())[0];
    await one.badge(shown).click();
    const dialog = one.page.getByRole('dialog', { name: 'Changed in two places' });
    assert.equal(await dialog.locator('.version').count(), 2);
    assert.equal(await dialog.locator('.differs').count(), 4);
    await dialog.getByText('Plum cake').waitFor();
    await dialog.getByText('Lemon cake').waitFor();
    await dialog.getByText('two layers').waitFor();
    // The one that lost: choosing it must make it win.
    const loser = shown === 'Plum cake' ? 'Lemon cake' : 'Plum cake';
    await dialog.locator('.version', { hasText: loser }).getByRole('button').click();
    await dialog.waitFor({ state: 'hidden' });
    await other.row(loser).waitFor();

    await other.badge('Live music').click();
    const there = other.page.getByRole('dialog', { name: 'Changed in two places' });
    await there.getByText('“Music” was deleted.').waitFor();
    await there.getByRole('button', { name: 'Keep version A' }).click();
    for (const device of [one, other]) {
      await device.lists(loser, 'Candles', 'Presents', 'Live music', 'Invitations');
      await device.page.locator('.conflict').first().waitFor({ state: 'detached' });
      await device.synced();
    }
    assert.equal(one.sockets.length, 2);
    await assertAllSame(setting, [one, other]);
  }));

test('two browsers that choose differently while apart lose neither choice', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const other = await setting.device();
    const both = [one, other];
    await one.add('Tea');
    await other.lists('Tea');
    for (const device of both) await device.switchOffline();
    await one.edit('Tea', { to: 'Green tea' });
    await other.edit('Tea', { to: 'Black tea' });
    for (const device of both) await device.switchOnline();
    for (const device of both) await device.page.locator('.conflict').waitFor();
    for (const device of both) await device.switchOffline();
    for (const [device, choice] of [[one, 'Green tea'], [other, 'Black tea']]) {
      await device.page.locator('.conflict').click();
      await device.page.locator('.version', { hasText: choice }).getByRole('button').click();
      await device.lists(choice);
      await device.page.locator('.conflict').waitFor({ state: 'detached' });
    }
    for (const device of both) await device.switchOnline();
    for (const device of both) await device.page.locator('.conflict').waitFor();
    await one.page.locator('.conflict').click();
    await one.page.locator('.version', { hasText: 'Green tea' }).getByRole('button').click();
    await other.page.locator('.conflict').waitFor({ state: 'detached' });
    await other.lists('Green tea');
    for (const device of both) await device.synced();
    await assertAllSame(setting, both);
  }));

test('a deletion can be chosen over an edit', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const other = await setting.device();
    await one.add('Old plan', 'Other');
    await other.lists('Old plan', 'Other');
    await one.switchOffline();
    await one.edit('Old plan', { to: 'New plan' });
    await other.remove('Old plan');
    await other.synced();
    await one.switchOnline();
    await other.badge('New plan').click();
    await other.page.getByRole('button', { name: 'Delete it' }).click();
    await one.lists('Other');
    await other.lists('Other');
    await one.synced();
    await assertAllSame(setting, [one, other]);
  }));

test('two windows of one browser show the same, also offline', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    await one.add('Seen in both');
    const second = await setting.window(one);
    await second.lists('Seen in both');
    for (const device of [one, second]) await device.switchOffline();
    await second.edit('Seen in both', { to: 'Still seen in both' });
    await one.lists('Still seen in both');
    await one.status('switched-off', 1);
    await second.status('switched-off', 1);
    await one.switchOnline();
    await one.synced();
    await second.switchOnline();
    await second.synced();
    const other = await setting.device();
    await other.lists('Still seen in both');
  }));

test('a reload keeps everything, with the switch off and with the gateway gone', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    await one.makeList('Garden');
    await one.add('Roses', 'Apples');
    await one.check('Roses');
    await one.synced();
    await one.page.reload();
    await one.lists('Roses', 'Apples');
    await one.synced();

    await one.switchOffline();
    await one.add('Pears');
    await one.page.reload();
    await one.ready();
    await one.lists('Roses', 'Apples', 'Pears');
    await one.status('switched-off', 1);
    assert.equal(await one.row('Roses').getByRole('checkbox').isChecked(), true);

    await one.switchOnline();
    await one.synced();
    await one.waits(() => !document.querySelector('#kept')?.hidden && navigator.serviceWorker.controller);
    await setting.gateway.kill();
    await one.status('offline');
    await one.add('Plums');
    await one.page.reload();
    await one.lists('Roses', 'Apples', 'Pears', 'Plums');
    await one.status('offline', 1);
    await setting.gateway.restart();
    await one.synced();
    const other = await setting.device();
    await other.chooseList('Garden');
    await other.lists('Roses', 'Apples', 'Pears', 'Plums');
  }));
