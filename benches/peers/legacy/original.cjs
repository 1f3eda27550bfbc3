'use strict';
// The original server: pouch-websocket-sync 0.3 with PouchDB 5.4.5, everything in memory.

const { createServer } = require('node:http');
const load = require('./packages.cjs');

const PouchSync = load('pouch-websocket-sync');
const PouchDB = load('pouchdb-5');
const memdown = load('memdown');

const databases = new Map();

function open(name) {
  if (!databases.has(name)) databases.set(name, new PouchDB(`server-${name}`, { db: memdown }));
  return databases.get(name);
}

const server = createServer();
const sync = PouchSync.createServer(server, (credentials, name, callback) => {
  if (credentials?.token !== 'secret') return callback(new Error('not allowed'));
  callback(null, open(name));
});
// Without a listener a client that goes away ends the process.
sync.on('error', () => {});
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
