/** PouchDB 9 over HTTP. */

import { PouchDB, ended, local, withoutFailingInfo } from '../http-js/support.js';
import { HTTP, between, run, token } from './common.mjs';

function fails(error) {
  console.error(error);
  process.exit(1);
}

async function connect(dbs, user) {
  // A long poll ends with its token, and the next one has another.
  const fetch = (url, options) => {
    options.headers.set('authorization', `Bearer ${token(user, between(5, 20))}`);
    return PouchDB.fetch(url, options);
  };
  const remotes = Object.keys(dbs).map((name) =>
    withoutFailingInfo(new PouchDB(`${HTTP}/${name}`, { fetch, skip_setup: true })),
  );
  const syncs = Object.values(dbs).map((db, at) => {
    const settings = { live: true, retry: true, back_off_function: () => 200 };
    return PouchDB.sync(db, remotes[at], settings).on('error', fails).on('denied', fails);
  });
  const end = async () => {
    await Promise.all(syncs.map(ended));
    await Promise.all(remotes.map((remote) => remote.close()));
  };
  return { end };
}

// PouchDB's replicator reads attachments without saying of which revision.
await run([{ name: 'http', replicas: 2, create: local, connect, files: 'named', recreates: true }]);
