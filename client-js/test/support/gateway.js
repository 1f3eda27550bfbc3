/** The real gateway as a process of its own. */

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const BINARY =
  process.env.SETTEE_BIN ?? fileURLToPath(new URL('../../../target/debug/settee', import.meta.url));

export const CREDENTIALS = { token: 'secret' };

export class Gateway {
  #data;
  #args;
  #child;

  /** With further arguments of `settee serve`. */
  static async start(args = []) {
    const gateway = new Gateway();
    gateway.#args = args;
    gateway.#data = await mkdtemp(join(tmpdir(), 'settee-client-'));
    await gateway.#serve('127.0.0.1:0');
    return gateway;
  }

  /** An example program, with an authorizer of its own and everything in memory. */
  static async startExample(name) {
    const gateway = new Gateway();
    await gateway.#spawn(join(dirname(BINARY), 'examples', name), []);
    return gateway;
  }

  #serve(listen) {
    const access = this.#args.includes('--open') ? [] : ['--token', CREDENTIALS.token];
    const args = ['serve', '--listen', listen, '--data', this.#data, ...access];
    return this.#spawn(BINARY, [...args, ...this.#args]);
  }

  async #spawn(program, args) {
    const env = { ...process.env, SETTEE_LOG: 'error' };
    // Examples end with their standard input.
    const child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    const exited = once(child, 'exit').then(([code]) => {
      throw new Error(`the gateway ended with ${code}`);
    });
    const lines = createInterface({ input: child.stdout });
    const [line] = await Promise.race([once(lines, 'line'), exited]);
    exited.catch(() => {});
    this.url = line.replace('listening on http', 'ws');
  }

  get data() {
    return this.#data;
  }

  /** SIGKILL, and waits for the end. */
  async kill() {
    this.#child.kill('SIGKILL');
    await this.#exited();
  }

  /** SIGTERM, and waits for the end, which must be a good one. */
  async stop() {
    this.#child.kill('SIGTERM');
    await this.#exited();
    if (this.#child.exitCode !== 0) throw new Error(`the gateway ended with ${this.#child.exitCode}`);
  }

  async #exited() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      await once(this.#child, 'exit');
    }
  }

  /** On the same port and the same data; with other further arguments, if given. */
  async restart(args = this.#args) {
    this.#args = args;
    await this.#serve(new URL(this.url).host);
  }

  async remove() {
    await this.kill();
    if (this.#data) await rm(this.#data, { recursive: true, force: true });
  }
}
