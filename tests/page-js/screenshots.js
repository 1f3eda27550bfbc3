/** Pictures of the page in the states worth looking at: `npm run screenshots`, into screenshots/. */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BRANCHED, closeBrowser, hex, PHONE, SCREENSHOTS, withSetting } from './support.js';

const rev = (n, digit) => `${n}-${hex(digit)}`;

async function shoot(page, name) {
  await page.locator('h1').waitFor();
  await page.evaluate(() => document.fonts.ready);
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

async function fill(setting) {
  const docs = Array.from({ length: 14 }, (_, n) => ({ _id: `todo-${n}`, _rev: rev(1, 'a'), title: `To-do ${n}` }));
  await setting.database('garden-party', [...BRANCHED, ...docs]);
  await setting.database('groceries', docs.slice(0, 5));
  await setting.database('users/anna', docs.slice(0, 2));
  for (const database of ['garden-party', 'groceries']) await setting.socket(database);
  for (const path of ['groceries', '_all_dbs', 'users%2fanna']) {
    await fetch(`${setting.url}/${path}`, { headers: { authorization: 'Bearer wrong' } });
  }
}

await mkdir(SCREENSHOTS, { recursive: true });
await withSetting(async (setting) => {
  await fill(setting);
  await shoot(await setting.page({ login: false }), 'login');
  for (const [name, options] of [
    ['light', {}], ['dark', { colorScheme: 'dark' }], ['phone', { ...PHONE, deviceScaleFactor: 1.5 }],
    ['phone-dark', { ...PHONE, deviceScaleFactor: 1.5, colorScheme: 'dark' }],
  ]) {
    const page = await setting.page(options);
    await page.getByRole('heading', { name: 'Gateway' }).waitFor();
    await page.getByRole('link', { name: 'users/anna' }).waitFor();
    await shoot(page, `gateway-${name}`);
    await page.evaluate(() => { location.hash = '#/garden-party'; });
    await page.getByRole('link', { name: 'cake' }).waitFor();
    await shoot(page, `database-${name}`);
    await page.getByRole('link', { name: 'cake' }).click();
    await page.locator('.tree').waitFor();
    await shoot(page, `document-${name}`);
  }
});
await closeBrowser();
