/** The gateway's page in Debian's Chromium, as somebody uses it. */

import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { CREDENTIALS, Gateway } from '../../client-js/test/support/gateway.js';

export { CREDENTIALS };

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** One for all tests of a file. @type {Promise<any> | undefined} */
let browser;

export async function closeBrowser() {
  await (await browser)?.close();
}

export const DESKTOP = { viewport: { width: 1080, height: 720 } };
export const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true };

/** A gateway with a few databases, and browsers that look at it. */
export class Setting {
  contexts = [];
  /** What pages complained about, and what they loaded from elsewhere. */
  complaints = [];

  static async make(args) {
    const setting = new Setting();
    setting.gateway = await Gateway.start(args);
    setting.url = setting.gateway.url.replace(/^ws/, 'http');
    return setting;
  }

  /** A request of CouchDB's API. */
  async ask(method, path, body) {
    const response = await fetch(`${this.url}/${path}`, {
      method,
      headers: { authorization: `Bearer ${CREDENTIALS.token}`, 'content-type': 'application/json' },
      body: body && JSON.stringify(body),
    });
    return response.json();
  }

  /** A database with documents as replicas would write them. */
  async database(name, docs = []) {
    await this.ask('PUT', encodeURIComponent(name));
    await this.ask('POST', `${encodeURIComponent(name)}/_bulk_docs`, { docs, new_edits: false });
  }

  /** The page, at an address after `#`, before or after the login. */
  async page({ hash = '', login = true, ...options } = {}) {
    browser ??= chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS });
    const context = await (await browser).newContext({ reducedMotion: 'reduce', ...DESKTOP, ...options });
    this.contexts.push(context);
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    page.on('pageerror', (error) => this.complaints.push(String(error)));
    page.on('dialog', (dialog) => {
      this.complaints.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(this.url)) this.complaints.push(`loads ${request.url()}`);
    });
    page.on('console', (message) => {
      // Chromium writes down an answer of 401 to who is not logged in, and that no replications run.
      const expected = /status of (401|403|404|501)/.test(message.text());
      if (message.type() === 'error' && !expected) this.complaints.push(message.text());
    });
    await page.goto(`${this.url}/_settee/${hash}`);
    if (login) await logIn(page);
    return page;
  }

  /** A WebSocket of another page that has a database open. */
  async socket(database) {
    const page = await this.page({ login: false });
    const opened = await page.evaluate(({ url, request }) => new Promise((resolve) => {
      const socket = new WebSocket(url, 'settee.v1');
      socket.onopen = () => socket.send(JSON.stringify(['open', 1, request]));
      socket.onmessage = ({ data }) => resolve(data);
      socket.onclose = ({ reason }) => resolve(reason);
    }), { url: this.gateway.url, request: { database, credentials: CREDENTIALS, create: true } });
    assert.match(opened, /^\["opened"/);
    return page;
  }

  async close() {
    await Promise.all(this.contexts.map((context) => context.close()));
    await this.gateway.remove();
    assert.deepEqual(this.complaints, []);
  }
}

export async function logIn(page, password = CREDENTIALS.token) {
  await page.getByLabel('Name').fill('admin');
  await page.getByLabel('Password or token').fill(password);
  await page.getByRole('button', { name: 'Log in' }).click();
}

/** Runs a test with a gateway of its own. */
export async function withSetting(run, args) {
  const setting = await Setting.make(args);
  try {
    await run(setting);
  } catch (error) {
    await setting.close().catch(() => {});
    throw error;
  }
  await setting.close();
}

export const hex = (digit) => digit.repeat(32);

/** A document with a trunk, two open branches and a deleted one. */
export const BRANCHED = [
  { _id: 'cake', title: 'Order the cake', _rev: `4-${hex('d')}`, _revisions: { start: 4, ids: [hex('d'), hex('c'), hex('b'), hex('a')] } },
  { _id: 'cake', title: 'Bake a lemon cake', _rev: `3-${hex('e')}`, _revisions: { start: 3, ids: [hex('e'), hex('b'), hex('a')] } },
  { _id: 'cake', _deleted: true, _rev: `2-${hex('f')}`, _revisions: { start: 2, ids: [hex('f'), hex('a')] } },
];

export const SCREENSHOTS = fileURLToPath(new URL('screenshots', import.meta.url));
