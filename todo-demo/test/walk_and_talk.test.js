/** `examples/walk-and-talk` in two browsers: people see each other come, walk, talk and go. */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Gateway } from '../../client-js/test/support/gateway.js';
import { closeBrowser, CREDENTIALS, launched } from './support/browser.js';

const PAGE = fileURLToPath(new URL('../../examples/walk-and-talk', import.meta.url));
/** What a browser itself says of a gateway that is away on purpose. */
const AWAY = /ERR_CONNECTION_REFUSED|WebSocket connection to/;

after(closeBrowser);

/** A person in a browser that shares nothing with the others. */
async function enter(url, name, complaints) {
  const context = await (await launched()).newContext({ viewport: { width: 1000, height: 640 } });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on('pageerror', (error) => complaints.push(error.stack));
  page.on('console', (message) => {
    if (message.type() === 'error' && !AWAY.test(message.text())) complaints.push(message.text());
  });
  await page.goto(`${url}/#token=${CREDENTIALS.token}`);
  await page.fill('input[name=name]', name);
  await page.click('#enter button');
  await page.locator('#field').waitFor();
  return { context, page, shot: (path) => process.env.SHOTS && page.screenshot({ path: `${process.env.SHOTS}/${path}` }) };
}

/** Where a page shows somebody, in hundredths of the field. */
const placeOf = (page, name) =>
  page.evaluate((wanted) => {
    const walkers = [...document.querySelectorAll('.walker')];
    const { style } = walkers.find((one) => one.querySelector('.name').textContent === wanted);
    return [style.left, style.top];
  }, name);

/** Waits until a page shows somebody there. */
const shows = (page, name, place) =>
  page.waitForFunction(
    ([wanted, [left, top]]) =>
      [...document.querySelectorAll('.walker')].some(
        (one) =>
          one.querySelector('.name').textContent === wanted &&
          one.style.left === left &&
          one.style.top === top,
      ),
    [name, place],
  );

const count = (page, walkers) =>
  page.waitForFunction(
    (wanted) =>
      document.querySelectorAll('.walker').length === wanted &&
      document.querySelectorAll('#walkers li').length === wanted,
    walkers,
  );

test('people see each other come, walk, talk and go, over a lost connection too', async () => {
  const gateway = await Gateway.start(['--static', PAGE]);
  const url = gateway.url.replace(/^ws/, 'http');
  const complaints = [];
  const anna = await enter(url, 'Anna', complaints);
  const bert = await enter(url, 'Bert', complaints);
  await Promise.all([count(anna.page, 2), count(bert.page, 2)]);
  assert.deepEqual(await placeOf(bert.page, 'Anna'), await placeOf(anna.page, 'Anna'));

  await anna.page.locator('#field').click({ position: { x: 136, y: 128 } });
  for (const key of ['ArrowRight', 'ArrowRight', 'ArrowDown']) await anna.page.keyboard.press(key);
  const walked = await placeOf(anna.page, 'Anna');
  assert.deepEqual(walked, ['25%', '22.5%']);
  await shows(bert.page, 'Anna', walked);

  await bert.page.fill('#text', 'Hello <b>Anna</b>');
  await bert.page.keyboard.press('Enter');
  for (const { page } of [anna, bert]) {
    await page.locator('#lines li', { hasText: 'BertHello <b>Anna</b>' }).waitFor();
    await page.locator('.walker .bubble', { hasText: 'Hello' }).waitFor();
  }
  await anna.shot('talking.png');

  await gateway.kill();
  await anna.page.locator('#status.away').waitFor();
  await gateway.restart();
  await Promise.all([anna, bert].map(({ page }) => page.locator('#status:not(.away)').waitFor()));
  await Promise.all([count(anna.page, 2), count(bert.page, 2)]);
  await shows(bert.page, 'Anna', walked);

  await anna.context.close();
  await count(bert.page, 1);
  await bert.shot('alone.png');
  await bert.context.close();
  await gateway.remove();
  assert.deepEqual(complaints, []);
});

test('a wrong token is told on the page', async () => {
  const gateway = await Gateway.start(['--static', PAGE]);
  const context = await (await launched()).newContext();
  const page = await context.newPage();
  await page.goto(`${gateway.url.replace(/^ws/, 'http')}/#token=wrong`);
  await page.fill('input[name=name]', 'Mallory');
  await page.click('#enter button');
  await page.locator('#problem', { hasText: 'this token is not known' }).waitFor();
  await context.close();
  await gateway.remove();
});
