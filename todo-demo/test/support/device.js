/** The page as somebody sees and uses it, on one device. */

import assert from 'node:assert/strict';

/** What a browser itself says of a gateway that is away on purpose. */
const EXPECTED = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|WebSocket connection to/;

export class Device {
  /** Errors on the console and uncaught ones. */
  complaints = [];
  /** WebSockets that the page made. */
  sockets = [];

  constructor(context, page) {
    this.context = context;
    this.page = page;
    page.setDefaultTimeout(30_000);
    page.on('console', (message) => {
      const isExpected = EXPECTED.test(message.text()) || EXPECTED.test(message.location().url);
      if (['error', 'warning'].includes(message.type()) && !isExpected) {
        this.complaints.push(message.text());
      }
    });
    page.on('pageerror', (error) => this.complaints.push(error.stack));
    page.on('websocket', (socket) => this.sockets.push(socket));
  }

  /** The page has read its databases. */
  ready() {
    return this.page.locator('html[data-ready]').waitFor();
  }

  /** The status line says so, of the state and of what waits to be sent. */
  async status(state, toSend) {
    await this.page.locator(`html[data-sync="${state}"]`).waitFor();
    if (toSend !== undefined) await this.shows('#to-send', String(toSend));
  }

  /** Everything is exchanged. */
  synced() {
    return this.status('up-to-date', 0);
  }

  async shows(selector, text) {
    await this.waits(([css, wanted]) => document.querySelector(css)?.textContent === wanted, [selector, text]);
  }

  /** Until a condition holds in the page. */
  async waits(condition, argument) {
    await this.page.waitForFunction(condition, argument, { polling: 30 });
  }

  async add(...titles) {
    for (const title of titles) {
      await this.page.getByLabel('A new to-do').fill(title);
      await this.page.getByRole('button', { name: 'Add', exact: true }).click();
      await this.row(title).waitFor();
    }
  }

  row(title) {
    const exact = this.page.locator('.title', { hasText: new RegExp(`^${escaped(title)}$`) });
    return this.page.locator('.todo', { has: exact });
  }

  titles() {
    return this.page.locator('#todos .title').allTextContents();
  }

  /** Until the list shows these, in this order. */
  async lists(...titles) {
    await this.waits(
      (wanted) => {
        const shown = [...document.querySelectorAll('#todos .title')].map((title) => title.textContent);
        return JSON.stringify(shown) === JSON.stringify(wanted);
      },
      titles,
    ).catch(async (error) => {
      assert.deepEqual(await this.titles(), titles, error.message);
    });
  }

  async edit(title, { to = title, note, image } = {}) {
    await this.row(title).getByRole('button', { name: title, exact: false }).and(this.page.locator('.text')).click();
    const form = this.page.locator('.editor');
    await form.getByLabel('To-do').fill(to);
    if (note !== undefined) await form.getByLabel('Note').fill(note);
    if (image) {
      await form.locator('input[type=file]').setInputFiles(image);
      await form.locator('.preview').waitFor();
    }
    await form.getByRole('button', { name: 'Save' }).click();
    await this.row(to).waitFor();
  }

  check(title) {
    return this.row(title).getByRole('checkbox').click();
  }

  remove(title) {
    return this.row(title).getByRole('button', { name: `Delete ${title}` }).click();
  }

  async switchOffline() {
    await this.page.getByRole('switch', { name: 'Online' }).uncheck();
    await this.status('switched-off');
  }

  async switchOnline() {
    await this.page.getByRole('switch', { name: 'Online' }).check();
  }

  async openDetails() {
    await this.page.locator('#details').evaluate((details) => (details.open = true));
  }

  async makeList(name) {
    await this.page.getByLabel('Name of a new list').fill(name);
    await this.page.keyboard.press('Enter');
    await this.page.locator('#lists [aria-current]', { hasText: name }).waitFor();
  }

  chooseList(name) {
    return this.page.locator('#lists button', { hasText: name }).click();
  }

  badge(title) {
    return this.row(title).getByRole('button', { name: /versions/ });
  }

  /**
   * Every leaf of a database as it lies in IndexedDB. The page's PouchDB is not closed: within one
   * page all of one name share a connection.
   */
  leaves(database) {
    return this.page.evaluate(async (name) => {
      const { default: PouchDB } = await import('/vendor/pouchdb.js');
      const db = new PouchDB(name);
      const { results } = await db.changes({ style: 'all_docs' });
      const found = [];
      for (const { id, changes } of results) {
        for (const { rev } of changes) found.push(await db.get(id, { rev, revs: true }));
      }
      return found;
    }, database);
  }

  /** The names of the lists' databases, in the order of the lists. */
  databases() {
    return this.page.locator('#lists li').evaluateAll((items) => items.map((item) => item.dataset.id));
  }
}

function escaped(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
