'use strict';
// The real gateway as a process of its own, and the command that looks into its data.

const { execFileSync, spawn } = require('node:child_process');
const { once } = require('node:events');
const { mkdtempSync, rmSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { dirname, join } = require('node:path');
const { createInterface } = require('node:readline');

const BINARY = process.env.SETTEE_BIN ?? join(__dirname, '../../../target/debug/settee');

/** Has an authorizer of its own: examples/serve_old_clients.rs. */
const EXAMPLE = join(dirname(BINARY), 'examples/serve_old_clients');

const CREDENTIALS = { token: 'secret' };

class Gateway {
  static async start() {
    const gateway = new Gateway();
    gateway.data = mkdtempSync(join(tmpdir(), 'settee-legacy-'));
    await gateway.run('127.0.0.1:0');
    return gateway;
  }

  static async startExample() {
    const gateway = new Gateway();
    await gateway.spawn(EXAMPLE, []);
    return gateway;
  }

  async run(listen) {
    const args = ['serve', '--listen', listen, '--data', this.data, '--token', CREDENTIALS.token];
    await this.spawn(BINARY, args);
  }

  async spawn(program, args) {
    const env = { ...process.env, SETTEE_LOG: process.env.SETTEE_LOG ?? 'error' };
    this.child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: this.child.stdout });
    const ended = once(this.child, 'exit').then(([code]) => [`the gateway ended with ${code}`]);
    const [line] = await Promise.race([once(lines, 'line'), ended]);
    const [, address] = line.match(/^listening on http:\/\/(.*)$/) ?? [];
    if (address === undefined) throw new Error(line);
    this.url = `ws://${address}`;
  }

  /** Ends the process and waits for its end. */
  async stop(signal = 'SIGTERM') {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill(signal);
      await once(this.child, 'exit');
    }
  }

  /** On the same port and the same data. */
  async restart() {
    await this.run(new URL(this.url).host);
  }

  /** The leaves of a database by document, as `settee dump` prints them; the gateway must be stopped. */
  leaves(database) {
    const place = join(this.data, database);
    const dump = execFileSync(BINARY, ['dump', place], { maxBuffer: 1 << 28, encoding: 'utf8' });
    const leaves = {};
    for (const line of dump.split('\n').filter(Boolean)) {
      const { _id, _rev, _revisions, ...body } = JSON.parse(line);
      (leaves[_id] ??= {})[_rev] = body;
    }
    return leaves;
  }

  async remove() {
    await this.stop('SIGKILL');
    if (this.data !== undefined) rmSync(this.data, { recursive: true, force: true });
  }
}

module.exports = { BINARY, CREDENTIALS, Gateway };
