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
  const syncs = Object.entries(dbs).map(([name, db]) => {
    const remote = withoutFailingInfo(new PouchDB(`${HTTP}/${name}`, { fetch, skip_setup: true }));
    const settings = { live: true, retry: true, back_off_function: () => 200 };
    return PouchDB.sync(db, remote, settings).on('error', fails).on('denied', fails);
  });
  return { end: () => Promise.all(syncs.map(ended)) };
}

await run([{ name: 'http', replicas: 2, create: local, connect, files: true, recreates: true }]);
