/** Debian's Chromium, and a browser profile of its own for each device of a test. */

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { fileURLToPath } from 'node:url';
import { CREDENTIALS, Gateway } from '../../../client-js/test/support/gateway.js';
import { Device } from './device.js';

export { CREDENTIALS };

/** What the demo serves. */
export const PAGE = fileURLToPath(new URL('../../page', import.meta.url));

/** Arguments that serve it. */
export const SERVING = ['--static', PAGE];

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** One for all tests of a file; what they do in it is apart. @type {Promise<any> | undefined} */
let browser;

/** The browser. */
export function launched() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  browser ??= chromium.launch({ executablePath, args: ARGS });
  return browser;
}

/** To be called after the last test. */
export async function closeBrowser() {
  await (await browser)?.close();
}

/** A gateway and its devices; `close` ends all of it. */
export class Setting {
  #browser;
  #devices = [];

  static async make(gatewayArgs = SERVING) {
    const setting = new Setting();
    setting.gateway = await Gateway.start(gatewayArgs);
    setting.#browser = await launched();
    return setting;
  }

  get url() {
    return this.gateway.url.replace(/^ws/, 'http');
  }

  /** A browser that shares nothing with the others, with the page open. */
  async device({ token = CREDENTIALS.token, ...options } = {}) {
    const context = await this.#browser.newContext({ reducedMotion: 'reduce', ...options });
    const device = new Device(context, await context.newPage());
    this.#devices.push(device);
    await device.page.goto(token ? `${this.url}/#token=${token}` : this.url);
    await device.ready();
    return device;
  }

  /** A further window of a device. */
  async window({ context }) {
    const device = new Device(context, await context.newPage());
    this.#devices.push(device);
    await device.page.goto(this.url);
    await device.ready();
    return device;
  }

  /** Also says that no page complained about anything. */
  async close() {
    await Promise.all(this.#devices.map(({ context }) => context.close()));
    await this.gateway.remove();
    for (const device of this.#devices) assert.deepEqual(device.complaints, []);
  }
}

/** Runs a test with a gateway of its own. */
export async function withSetting(run, gatewayArgs) {
  const setting = await Setting.make(gatewayArgs);
  try {
    await run(setting);
  } catch (error) {
    await setting.close().catch(() => {});
    throw error;
  }
  await setting.close();
}
