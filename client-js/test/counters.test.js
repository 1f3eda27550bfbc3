import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { Gateway, CREDENTIALS } from './support/gateway.js';
import { connected } from './support/syncs.js';
import { remote } from './support/remotes.js';

let gateway;
let client;
let count;
let ask;

/** The code of the section of the README, so that what stands there is what is tested. */
async function examples() {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8');
  const section = readme.split('\n## Counters and sets\n')[1].split('\n## ')[0];
  const blocks = section.split('```js\n').slice(1).map((part) => part.split('```')[0]);
  assert.equal(blocks.length, 2);
  return blocks;
}

before(async () => {
  gateway = await Gateway.start();
  client = connected(gateway.url);
  const [counting, asking] = await examples();
  count = new Function(`${counting}; return count;`)();
  const run = `return (async () => { ${asking} })();`;
  ask = () => new Function('gateway', 'token', run)(gateway.url.replace('ws', 'http'), CREDENTIALS.token);
});

after(async () => {
  await client.end();
  await gateway.remove();
});

test('a replica counts its own entry, over all branches of a document', async () => {
  const db = remote(client, 'counted');
  const branches = [
    { _id: 'hello', _rev: '1-a', likes: { phone: [5, 1] } },
    { _id: 'hello', _rev: '1-b', likes: { phone: [2, 3], laptop: [1, 0] } },
  ];
  await db.bulkDocs(branches, { new_edits: false });
  await count(db, 'hello', 'likes', 2, 'phone');
  assert.deepEqual((await db.get('hello')).likes, { phone: [7, 3], laptop: [1, 0] });
  await count(db, 'hello', 'likes', -4, 'laptop');
  assert.deepEqual((await db.get('hello')).likes, { phone: [7, 3], laptop: [1, 4] });
});

test('the gateway counts, changes sets and patches when it is asked', async () => {
  const db = remote(client, 'posts');
  await db.put({ _id: 'hello', title: 'A', price: 1 });
  await ask();
  await ask();
  const { title, price, likes, tags } = await db.get('hello');
  assert.deepEqual({ title, price, tags }, { title: 'Hello', price: 1, tags: { red: 1 } });
  assert.deepEqual(Object.values(likes), [[2, 0]]);
});
