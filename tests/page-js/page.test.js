import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { BRANCHED, closeBrowser, hex, logIn, PHONE, withSetting } from './support.js';

after(closeBrowser);

const heading = (page, name) => page.getByRole('heading', { level: 1, name, exact: true });

test('nothing is shown before a login, and a wrong one is told', () =>
  withSetting(async (setting) => {
    await setting.database('todos');
    const page = await setting.page({ login: false });
    await heading(page, 'Log in').waitFor();
    assert.equal(await page.getByText('todos').count(), 0);
    await logIn(page, 'wrong');
    await page.getByRole('alert').filter({ hasText: 'Name or password is incorrect' }).waitFor();
    assert.equal(await page.getByLabel('Password or token').inputValue(), '');
    await logIn(page);
    await heading(page, 'Gateway').waitFor();
    await page.getByRole('link', { name: 'todos' }).waitFor();
    await page.getByRole('button', { name: 'Log out' }).click();
    await heading(page, 'Log in').waitFor();
    const [cookie] = await page.context().cookies();
    assert.equal(cookie, undefined, 'the session is gone');
  }));

test('connections come and go, and denials are listed', () =>
  withSetting(async (setting) => {
    const page = await setting.page();
    await page.getByText('No WebSocket is open.').waitFor();
    await page.getByText('Nobody was denied').waitFor();
    const socket = await setting.socket('todos');
    const row = page.getByRole('table', { name: 'Connections' }).getByRole('row').nth(1);
    await row.getByRole('link', { name: 'todos' }).waitFor();
    assert.match(await row.textContent(), /127\.0\.0\.1.*settee\.v1/);
    await fetch(`${setting.url}/todos`, { headers: { authorization: 'Bearer wrong' } });
    const denial = page.getByRole('table', { name: 'Denials' }).getByRole('row').nth(1);
    await denial.getByText('401 unauthorized').waitFor();
    assert.match(await denial.textContent(), /todos/);
    await socket.close();
    await page.getByText('No WebSocket is open.').waitFor();
  }));

test('a tree shows its branches, and each revision its body', () =>
  withSetting(async (setting) => {
    await setting.database('todos', BRANCHED);
    const page = await setting.page({ hash: '#/todos' });
    await page.getByRole('link', { name: 'cake' }).click();
    await heading(page, 'cake').waitFor();
    await page.getByText('1 conflict.').waitFor();
    const tree = page.getByRole('group', { name: 'Revision tree' });
    assert.equal(await tree.getByRole('button').count(), 6);
    const body = page.getByLabel('The revision as JSON');
    assert.match(await body.textContent(), /Order the cake/);
    assert.equal(await tree.getByRole('button', { name: `4-${hex('d')}, winning` }).getAttribute('aria-pressed'), 'true');
    const conflict = tree.getByRole('button', { name: `3-${hex('e')}, conflict` });
    await conflict.focus();
    await page.keyboard.press('Enter');
    await body.filter({ hasText: 'Bake a lemon cake' }).waitFor();
    const focused = await page.evaluate(() => document.activeElement.getAttribute('data-rev'));
    assert.equal(focused, `3-${hex('e')}`, 'the focus stays on what was chosen');
    await tree.getByRole('button', { name: `2-${hex('b')}`, exact: true }).click();
    await body.filter({ hasText: 'no longer stored' }).waitFor();
    await page.getByRole('list', { name: 'Leaves' }).getByRole('button', { name: /deleted/ }).click();
    await body.filter({ hasText: '"_deleted": true' }).waitFor();
  }));

test('nothing that a client wrote becomes markup, script or another address', () =>
  withSetting(async (setting) => {
    const hostile = [
      '<img src=x onerror=alert(1)>',
      '"><script>alert(1)</script>',
      "javascript:alert('1')",
      '..',
      '../../_session',
      'a/b?c#d&e%2F',
      '_design/<svg onload=alert(1)>',
      '\u202Egnp.exe',
    ];
    const docs = hostile.map((_id) => ({ _id, _rev: `1-${hex('a')}`, text: `</pre><script>alert(1)</script>${_id}` }));
    await setting.database('todos', docs);
    const page = await setting.page({ hash: '#/todos' });
    await heading(page, 'todos').waitFor();
    for (const id of hostile) {
      await page.getByRole('link', { name: id, exact: true }).click();
      await heading(page, id).waitFor();
      const shown = JSON.parse(await page.getByLabel('The revision as JSON').textContent());
      assert.equal(shown._id, id);
      assert.match(shown.text, /^<\/pre><script>/);
      assert.ok(page.url().startsWith(`${setting.url}/_settee/#/`), page.url());
      await page.getByRole('link', { name: 'todos' }).click();
      await heading(page, 'todos').waitFor();
    }
    assert.equal(await page.locator('main script, main img').count(), 0);
    await page.getByLabel('Open a document by its id').fill(hostile[0]);
    await page.keyboard.press('Enter');
    await heading(page, hostile[0]).waitFor();
  }));

test('many documents and databases are paged', () =>
  withSetting(async (setting) => {
    const docs = Array.from({ length: 120 }, (_, n) => ({ _id: `d${String(n).padStart(3, '0')}`, _rev: `1-${hex('a')}` }));
    await setting.database('many', docs);
    const page = await setting.page({ hash: '#/many' });
    const seen = [];
    for (let pages = 0; pages < 3; pages += 1) {
      await page.getByRole('link', { name: docs[pages * 50]._id, exact: true }).waitFor();
      seen.push(...(await page.locator('tbody a').allTextContents()));
      const more = page.getByRole('link', { name: 'Further documents' });
      if ((await more.count()) > 0) await more.click();
    }
    assert.deepEqual(seen, docs.map(({ _id }) => _id));
  }));

test('it fits 360 pixels, by day and by night, and the keyboard reaches all of it', () =>
  withSetting(async (setting) => {
    await setting.database('todos', BRANCHED);
    await setting.socket('todos');
    for (const colorScheme of ['light', 'dark']) {
      const page = await setting.page({ ...PHONE, colorScheme });
      await heading(page, 'Gateway').waitFor();
      for (const hash of ['#/', '#/todos', '#/todos/doc/cake']) {
        await page.evaluate((to) => { location.hash = to; }, hash);
        await page.locator('h1').waitFor();
        const width = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(width <= 360, `${hash} is ${width} pixels wide`);
      }
    }
    const page = await setting.page();
    await heading(page, 'Gateway').waitFor();
    const reached = new Set();
    for (let presses = 0; presses < 12; presses += 1) {
      await page.keyboard.press('Tab');
      reached.add(await page.evaluate(() => document.activeElement.textContent.trim()));
    }
    for (const name of ['Settee', 'Log out', 'todos']) assert.ok(reached.has(name), `${name} of ${[...reached]}`);
  }));

test('a gateway that goes away is told, and found again', () =>
  withSetting(async (setting) => {
    const page = await setting.page();
    await heading(page, 'Gateway').waitFor();
    await setting.gateway.kill();
    await page.getByText('The gateway does not answer').waitFor();
    await setting.gateway.restart();
    // A restart ends all sessions.
    await heading(page, 'Log in').waitFor();
    setting.complaints = setting.complaints.filter((text) => !/ERR_CONNECTION|Failed to load/.test(text));
  }));

test('every file of the page is under a policy that lets nothing else in', () =>
  withSetting(async (setting) => {
    for (const file of ['', 'page.js', 'page.css', 'tree.js']) {
      const { headers } = await fetch(`${setting.url}/_settee/${file}`);
      const policy = headers.get('content-security-policy');
      assert.match(policy, /default-src 'none'/);
      assert.doesNotMatch(policy, /unsafe|\*|data:|https?:/);
      assert.equal(headers.get('x-content-type-options'), 'nosniff');
      assert.equal(headers.get('x-frame-options'), 'DENY');
    }
    const html = await (await fetch(`${setting.url}/_settee/`)).text();
    assert.doesNotMatch(html, /\sstyle=|\son\w+=|<script>|<style/);
    const moved = await fetch(`${setting.url}/_settee`, { redirect: 'manual' });
    assert.equal(moved.headers.get('location'), '_settee/');
  }));
