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

export function launch() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  return chromium.launch({ executablePath, args: ARGS });
}

/** Everything that one test file uses; `close` ends all of it. */
export class Setting {
  #browser;
  #devices = [];

  static async make(gatewayArgs = SERVING) {
    const setting = new Setting();
    setting.gateway = await Gateway.start(gatewayArgs);
    setting.#browser = await launch();
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
    await this.#browser.close();
    await this.gateway.remove();
    for (const device of this.#devices) assert.deepEqual(device.complaints, []);
  }
}

/** Runs a test with a gateway and a browser of its own. */
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
