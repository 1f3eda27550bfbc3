/** PouchDB's find plugin over HTTP: the gateway's indexes and queries, and PouchDB's own. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import find from 'pouchdb-find';
import { Gateway, PouchDB, local, remote } from './support.js';

PouchDB.plugin(find);

const GAMES = [
  { _id: 'mario', series: 'mario', debut: 1981 },
  { _id: 'luigi', series: 'mario', debut: 1983 },
  { _id: 'link', series: 'zelda', debut: 1986 },
  { _id: 'samus', series: 'metroid', debut: 1986 },
  { _id: 'kirby', series: 'kirby', debut: 1992 },
];

let gateway;

before(async () => {
  gateway = await Gateway.start();
});

after(() => gateway.remove());

const ids = ({ docs }) => docs.map(({ _id }) => _id);

test('an index is made, used, listed and deleted', async () => {
  const db = remote(gateway, 'indexes');
  await db.bulkDocs(GAMES);
  const index = { index: { fields: ['debut'] }, ddoc: 'by-debut', name: 'by-debut' };
  const made = await db.createIndex(index);
  assert.deepEqual(made, { result: 'created', id: '_design/by-debut', name: 'by-debut' });
  assert.equal((await db.createIndex(index)).result, 'exists');
  const found = await db.find({ selector: { debut: { $gt: 1983 } }, sort: [{ debut: 'desc' }] });
  assert.deepEqual(ids(found), ['kirby', 'samus', 'link']);
  assert.equal(found.warning, undefined);
  const told = await db.explain({ selector: { debut: { $gt: 1983 } } });
  assert.equal(told.index.ddoc, '_design/by-debut');
  const { indexes, total_rows: total } = await db.getIndexes();
  assert.deepEqual([total, indexes.map(({ name }) => name)], [2, ['_all_docs', 'by-debut']]);
  await db.deleteIndex(indexes[1]);
  assert.equal((await db.getIndexes()).total_rows, 1);
  await assert.rejects(db.find({ selector: {}, sort: ['debut'] }), {
    status: 400,
    error: 'no_usable_index',
  });
  const unindexed = await db.find({ selector: { debut: { $gt: 1983 } }, fields: ['_id'] });
  assert.deepEqual(unindexed.docs, [{ _id: 'kirby' }, { _id: 'link' }, { _id: 'samus' }]);
  assert.match(unindexed.warning, /^No matching index found/);
});

test('what is found here is what PouchDB finds', async () => {
  const [own, shared] = [local(), remote(gateway, 'compared')];
  await own.bulkDocs(GAMES);
  for (const fields of [['debut'], ['series', 'debut'], ['series']]) {
    await own.createIndex({ index: { fields } });
  }
  // The definitions go with the documents.
  await own.replicate.to(shared);
  assert.equal((await shared.getIndexes()).total_rows, 4);
  await own.put({ ...(await own.get('link')), debut: 1987 });
  await own.remove(await own.get('luigi'));
  await own.replicate.to(shared);
  for (const query of [
    { selector: { debut: { $gte: 1986 } }, sort: ['debut'] },
    { selector: { series: 'mario', debut: { $gt: 1 } }, sort: ['series', 'debut'] },
    { selector: { series: { $gt: 'l' } }, sort: [{ series: 'desc' }], limit: 2, skip: 1 },
    { selector: { debut: { $in: [1981, 1987] }, series: { $exists: true } }, sort: ['series'] },
    { selector: { debut: { $gt: 0 }, $or: [{ debut: 1981 }, { series: 'kirby' }] }, sort: ['debut'] },
    { selector: { 'debut': { $lt: 1990 } }, sort: ['debut'], fields: ['_id', 'debut'] },
  ]) {
    const [mine, theirs] = [await own.find(query), await shared.find(query)];
    assert.deepEqual(theirs.docs, mine.docs, JSON.stringify(query));
  }
});

test('pages follow each other by their bookmarks while documents are written', async () => {
  const db = remote(gateway, 'pages');
  await db.bulkDocs(Array.from({ length: 300 }, (_, n) => ({ _id: `d${n}`, n: n % 10 })));
  await db.createIndex({ index: { fields: ['n'] } });
  const seen = [];
  for (let bookmark; ; ) {
    const page = await db.find({ selector: { n: { $gte: 0 } }, sort: ['n'], limit: 40, bookmark });
    if (page.docs.length === 0) break;
    seen.push(...ids(page));
    bookmark = page.bookmark;
    await db.bulkDocs([{ _id: `new${seen.length}`, n: 0 }]);
  }
  assert.equal(new Set(seen).size, 300);
  assert.equal(seen.length, 300);
});
