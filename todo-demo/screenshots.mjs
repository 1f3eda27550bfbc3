/**
 * Pictures of the page in the states worth looking at: `npm run screenshots`, into screenshots/.
 */

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { closeBrowser, SERVING, withSetting } from './test/support/browser.js';

const PLACE = fileURLToPath(new URL('screenshots', import.meta.url));
const DESKTOP = { viewport: { width: 1080, height: 720 } };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 1.5, isMobile: true, hasTouch: true };

/** Something that looks like candles at night. */
async function candles(device) {
  const url = await device.page.evaluate(() => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [240, 240];
    const to = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    to.fillStyle = '#2a2433';
    to.fillRect(0, 0, 240, 240);
    for (const [x, top] of [[60, 120], [120, 80], [180, 135]]) {
      const glow = to.createRadialGradient(x, top - 20, 4, x, top - 20, 70);
      glow.addColorStop(0, 'rgb(255 205 110 / 70%)');
      glow.addColorStop(1, 'rgb(255 205 110 / 0%)');
      to.fillStyle = glow;
      to.fillRect(0, 0, 240, 240);
      to.fillStyle = '#efe3cf';
      to.fillRect(x - 17, top, 34, 240 - top);
      to.fillStyle = '#ffc861';
      to.beginPath();
      to.ellipse(x, top - 20, 8, 17, 0, 0, 7);
      to.fill();
    }
    return canvas.toDataURL('image/png');
  });
  return { name: 'candles.png', mimeType: 'image/png', buffer: Buffer.from(url.split(',')[1], 'base64') };
}

async function shoot(device, name) {
  await device.page.evaluate(() => {
    document.activeElement?.blur();
    if (!document.querySelector('.editor')) scrollTo(0, 0);
  });
  await device.page.mouse.move(0, 0);
  await device.page.screenshot({ path: join(PLACE, `${name}.png`) });
}

async function fill(device) {
  await device.makeList('Groceries');
  await device.add('Bread', 'Tomatoes', 'Olive oil');
  await device.makeList('Garden party');
  await device.add('Send the invitations', 'Bake the cake', 'Borrow chairs', 'Buy candles', 'Choose the music', 'Hang the lights');
  await device.edit('Bake the cake', { note: 'Lemon, two layers. Ann brings the large tin.' });
  await device.edit('Buy candles', { image: await candles(device) });
  await device.check('Send the invitations');
  await device.synced();
}

/** Both edit the same while apart, and come back. */
async function diverge(one, other) {
  await one.switchOffline();
  await one.edit('Bake the cake', { to: 'Bake a lemon cake', note: 'Two layers. Ann brings the large tin.' });
  await one.edit('Choose the music', { to: 'Ask the band' });
  await one.add('Ice');
  await other.edit('Bake the cake', { to: 'Order the cake', note: 'The bakery closes at six.' });
  await other.remove('Choose the music');
  await other.synced();
}

async function conflict(device, name) {
  await device.badge('Bake a lemon cake').or(device.badge('Order the cake')).first().click();
  await shoot(device, name);
  await device.page.keyboard.press('Escape');
}

async function refused() {
  const directory = await mkdtemp(join(tmpdir(), 'settee-todo-'));
  const config = join(directory, 'settee.toml');
  await writeFile(config, '[limits]\ndoc_bytes_max = 400\n');
  await withSetting(async (setting) => {
    const device = await setting.device(DESKTOP);
    await device.add('Call the landlord', 'Write down everything that was said. '.repeat(12).trim());
    await device.status('some-denied');
    await device.openDetails();
    await shoot(device, 'refused');
  }, [...SERVING, '--config', config]);
  await rm(directory, { recursive: true });
}

await mkdir(PLACE, { recursive: true });
await withSetting(async (setting) => {
  const one = await setting.device(DESKTOP);
  const dark = await setting.device({ ...DESKTOP, colorScheme: 'dark' });
  const phone = await setting.device(PHONE);
  const darkPhone = await setting.device({ ...PHONE, colorScheme: 'dark' });
  await fill(one);
  for (const device of [dark, phone, darkPhone]) await device.chooseList('Garden party');
  for (const device of [dark, phone, darkPhone]) await device.row('Hang the lights').waitFor();
  await shoot(one, 'light');
  await shoot(dark, 'dark');
  await shoot(phone, 'phone');
  await diverge(one, dark);
  await one.status('switched-off', 3);
  await shoot(one, 'offline');
  await one.switchOnline();
  for (const device of [one, dark, phone, darkPhone]) await device.page.locator('.conflict').nth(1).waitFor();
  await one.synced();
  await shoot(one, 'conflicts');
  await shoot(darkPhone, 'phone-dark-conflicts');
  await conflict(one, 'conflict');
  await conflict(dark, 'conflict-dark');
  await conflict(phone, 'conflict-phone');
  await one.badge('Ask the band').click();
  await shoot(one, 'conflict-deleted');
  await one.page.keyboard.press('Escape');
  await phone.row('Buy candles').locator('.text').click();
  await phone.page.locator('.editor').scrollIntoViewIfNeeded();
  await shoot(phone, 'phone-editor');
  await dark.openDetails();
  await shoot(dark, 'details-dark');
  await one.page.getByRole('button', { name: 'Keys' }).click();
  await shoot(one, 'keys');
  const stranger = await setting.device({ ...PHONE, token: 'wrong' });
  await stranger.status('auth-needed');
  await stranger.shows('#reason', await stranger.page.locator('#reason').textContent());
  await shoot(stranger, 'token-phone');
});
await refused();
await closeBrowser();
