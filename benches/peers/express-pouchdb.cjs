'use strict';
// PouchDB's own server, in memory or in LevelDB. Prints where it listens.
//   node express-pouchdb.cjs [DIRECTORY]

const express = require('express');
const expressPouchDB = require('express-pouchdb');

const [directory] = process.argv.slice(2);
const PouchDB = require('pouchdb-core')
  .plugin(require(directory ? 'pouchdb-adapter-leveldb' : 'pouchdb-adapter-memory'))
  .plugin(require('pouchdb-mapreduce'))
  .plugin(require('pouchdb-replication'))
  .defaults(directory ? { adapter: 'leveldb', prefix: `${directory}/` } : { adapter: 'memory' });

const app = express();
app.use('/', expressPouchDB(PouchDB, { mode: 'minimumForPouchDB', inMemoryConfig: true }));
const server = app.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
