/** PouchDB 9 over the gateway's WebSocket: by `client.sync`, and by the adapter. */

import { WebSocket } from 'ws';
import { database } from '../../client-js/test/support/databases.js';
import { createClient } from '../../client-js/src/index.js';
import { PouchDB } from '../../client-js/test/support/syncs.js';
import { between, count, isCalm, pauseInStorm, run, token, url } from './common.mjs';

const TIMES = { pauseFirst: 50, pauseMax: 1_000 };

/** A client, and a way to cut what it is connected by. */
function connect() {
  const sockets = new Set();
  class Cut extends WebSocket {
    constructor(...args) {
      super(...args);
      sockets.add(this);
      this.on('close', () => sockets.delete(this));
    }
  }
  const client = createClient({ WebSocket: Cut, times: TIMES }).connect(url);
  const cut = () => sockets.forEach((socket) => socket.terminate());
  return { client, cut };
}

/** Tokens that last for a few seconds, and are renewed. */
const renewed = (user) => () => ({ token: token(user, between(2, 8)) });

function fails(error) {
  console.error(error);
  process.exit(1);
}

async function synced(dbs, user) {
  const { client, cut } = connect();
  const syncs = Object.entries(dbs).map(([remoteName, db]) => {
    const sync = client.sync(db, { remoteName, credentials: renewed(user) });
    return sync.on('error', fails).on('denied', fails);
  });
  const end = async () => {
    // As a page that is closed, or in good order.
    await (between(0, 2) === 0 && !isCalm() ? client.destroy() : client.end());
    await Promise.all(syncs);
  };
  return { cut, end };
}

async function adapted(dbs, user) {
  const { client, cut } = connect();
  const options = { adapter: 'settee', client, credentials: renewed(user) };
  const syncs = Object.entries(dbs).map(([name, db]) => {
    const remote = new PouchDB(name, options);
    const settings = { live: true, retry: true, back_off_function: () => 200 };
    return PouchDB.sync(db, remote, settings).on('error', fails).on('denied', fails);
  });
  const end = async () => {
    await Promise.all(
      syncs.map((sync) => new Promise((resolve) => sync.on('complete', resolve).cancel())),
    );
    await client.end();
  };
  return { cut, end };
}

/** A sync whose token ends, and who has no other, is told so. */
async function endingTokens() {
  while (!isCalm()) {
    const { client } = connect();
    const db = database();
    const credentials = { token: token('ends', 2) };
    const sync = client.sync(db, { remoteName: 'soak-0', credentials });
    const error = await sync.then(() => undefined, (error) => error);
    if (error?.status !== 401) fails(error ?? new Error('a sync has outlived its token'));
    count('told that a token has ended');
    await client.end();
    await db.destroy();
    await pauseInStorm(between(500, 3_000));
  }
}

const common = { create: database, files: true, recreates: true };
await run(
  [
    { ...common, name: 'client.sync', replicas: 2, connect: synced },
    { ...common, name: 'adapter', replicas: 1, connect: adapted },
  ],
  endingTokens,
);
