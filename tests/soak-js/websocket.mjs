/** PouchDB 9 over the gateway's WebSocket: by `client.sync`, and by the adapter. */

import { createRequire } from 'node:module';
import { database } from '../../client-js/test/support/databases.js';
import { createClient } from '../../client-js/src/index.js';
import { PouchDB } from '../../client-js/test/support/remotes.js';
import { withoutFailingInfo } from '../http-js/support.js';
import { between, count, isCalm, pauseInStorm, run, token, url } from './common.mjs';

// These scripts use the packages of the tests beside them, and have none of their own.
const { WebSocket } = createRequire(new URL('../../client-js/package.json', import.meta.url))('ws');

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
  const remotes = Object.keys(dbs).map((name) =>
    withoutFailingInfo(new PouchDB(name, options)),
  );
  const syncs = remotes.map((remote) => {
    const settings = { live: true, retry: true, back_off_function: () => 200 };
    return PouchDB.sync(dbs[remote.name], remote, settings).on('error', fails).on('denied', fails);
  });
  const end = async () => {
    await Promise.all(
      syncs.map((sync) => new Promise((resolve) => sync.on('complete', resolve).cancel())),
    );
    await Promise.all(remotes.map((remote) => remote.close()));
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

const common = { create: database, recreates: true };
await run(
  [
    { ...common, name: 'client.sync', files: 'compared', replicas: 2, connect: synced },
    // PouchDB's replicator reads attachments without saying of which revision.
    { ...common, name: 'adapter', files: 'named', replicas: 1, connect: adapted },
  ],
  endingTokens,
);
