'use strict';
// The unmodified npm client against the gateway, with the PouchDB of its time and with today's.

const assert = require('node:assert/strict');
const { isDeepStrictEqual } = require('node:util');
const { it } = require('node:test');

const { Gateway } = require('./support/gateway');
const { leaves, read, until } = require('./support/client');
const { forEachPouchDB } = require('./support/fixture');

forEachPouchDB(() => Gateway.start(), (t) => {
  /** Waits for equal databases, ends the clients and the gateway, and compares every leaf. */
  async function assertSame(database, ...locals) {
    const [first, second] = locals;
    await until(async () => isDeepStrictEqual(await leaves(first), await leaves(second)), 'rest');
    t.endDevices();
    await t.gateway.stop();
    const there = t.gateway.leaves(database);
    for (const local of locals) assert.deepEqual(await leaves(local), there);
    return there;
  }

  /** Two devices on one database. */
  async function pair(database) {
    const [first, second] = [t.device(), t.device()];
    const [a, b] = [t.create(), t.create()];
    const syncs = [first.sync(a, database), second.sync(b, database)];
    await Promise.all([first.connect(t.gateway.url), second.connect(t.gateway.url)]);
    return { a, b, syncs };
  }

  it('creates, updates and deletes, both ways', async () => {
    const { a, b } = await pair('todos');
    await a.put({ _id: 'milk', done: false });
    const milk = await until(() => read(b, 'milk'), 'milk at the other device');
    await b.put({ ...milk, done: true });
    const done = await until(async () => {
      const found = await read(a, 'milk');
      return found?.done === true && found;
    }, 'the update');
    await a.remove(done);
    await until(async () => !(await read(b, 'milk')), 'the deletion');
    await b.put({ _id: 'bread', price: 1.5 });
    await until(() => read(a, 'bread'), 'bread');
    const all = await assertSame('todos', a, b);
    assert.deepEqual(Object.keys(all).sort(), ['bread', 'milk']);
    assert.equal(Object.values(all.milk)[0]._deleted, true);
  });

  it('starts with what each side has', async () => {
    const one = t.device();
    const a = t.create();
    await a.bulkDocs([{ _id: 'a1' }, { _id: 'a2', n: [1, { x: null }] }, { _id: 'gone' }]);
    await a.remove(await a.get('gone'));
    one.sync(a, 'todos');
    await one.connect(t.gateway.url);
    const b = t.create();
    await b.put({ _id: 'b1' });
    const two = t.device();
    two.sync(b, 'todos');
    await two.connect(t.gateway.url);
    await until(async () => (await read(a, 'b1')) && (await read(b, 'a2')), 'both');
    await assertSame('todos', a, b);
  });

  it('keeps both sides of a conflict, and its resolution', async () => {
    const [a, b] = [t.create(), t.create()];
    await a.put({ _id: 'k', by: 'a' });
    await b.put({ _id: 'k', by: 'b' });
    const [one, two] = [t.device(), t.device()];
    one.sync(a, 'todos');
    two.sync(b, 'todos');
    await one.connect(t.gateway.url);
    await two.connect(t.gateway.url);
    const conflict = async (db) => {
      const found = await read(db, 'k', { conflicts: true });
      return found?._conflicts?.length === 1 && found;
    };
    // Both are first revisions: the original loses the losing one here.
    const seen = await until(async () => (await conflict(b)) && conflict(a), 'the conflict');
    await a.remove('k', seen._conflicts[0]);
    await until(async () => !(await conflict(b)) && read(b, 'k'), 'the resolution');
    const all = await assertSame('todos', a, b);
    assert.equal(Object.keys(all.k).length, 2);
  });

  it('syncs two databases over one socket, and one goes on without the other', async () => {
    const [one, two] = [t.device(), t.device()];
    const [a1, a2, b1, b2] = [t.create(), t.create(), t.create(), t.create()];
    const first = one.sync(a1, 'one');
    one.sync(a2, 'two');
    two.sync(b1, 'one');
    two.sync(b2, 'two');
    await Promise.all([one.connect(t.gateway.url), two.connect(t.gateway.url)]);
    await a1.put({ _id: 'in-one' });
    await a2.put({ _id: 'in-two' });
    await until(async () => (await read(b1, 'in-one')) && (await read(b2, 'in-two')), 'both');
    assert.equal(await read(b1, 'in-two'), undefined);
    first.cancel();
    await b2.put({ _id: 'later' });
    await until(() => read(a2, 'later'), 'the other database');
    await assertSame('two', a2, b2);
  });

  it('is refused with the reason, and another sync of the socket goes on', async () => {
    const one = t.device();
    const [a, b] = [t.create(), t.create()];
    const refused = one.sync(a, 'one', { token: 'wrong' });
    one.sync(b, 'two');
    await one.connect(t.gateway.url);
    await b.put({ _id: 'b' });
    const [, error] = await until(() => refused.events.find(([name]) => name === 'error'), 'error');
    assert.equal(error.message, 'this token is not known');
    assert.equal(error.status, 401);
    const there = t.device();
    const c = t.create();
    there.sync(c, 'two');
    await there.connect(t.gateway.url);
    await until(() => read(c, 'b'), 'the other sync');
    assert.deepEqual(one.errors, []);
  });

  for (const [signal, ended] of Object.entries({ SIGKILL: 'killed', SIGTERM: 'stopped' })) {
    it(`goes on where it was after the gateway was ${ended}`, async () => {
      const { a, b, syncs } = await pair('todos');
      await a.bulkDocs(Array.from({ length: 250 }, (_, n) => ({ _id: `before-${n}`, n })));
      await until(() => read(b, 'before-249'), 'all before');
      await until(() => syncs.every(({ events }) => events.at(-1)?.[0] === 'paused'), 'rest');
      await t.gateway.stop(signal);
      await a.put({ _id: 'offline-a' });
      await b.put({ _id: 'offline-b' });
      syncs.forEach(({ events }) => events.splice(0));
      await t.gateway.restart();
      await until(async () => (await read(a, 'offline-b')) && (await read(b, 'offline-a')), 'both');
      const [changes] = syncs.map(({ events }) => events.filter(([name]) => name === 'change'));
      const docs = changes.map(([, { change }]) => change.docs_read);
      assert.ok(Math.max(...docs) < 250, `it began anew: ${docs}`);
      await assertSame('todos', a, b);
    });
  }

  it('carries 5,000 documents each way', { timeout: 300_000 }, async () => {
    const one = t.device();
    const a = t.create();
    const docs = (name) => Array.from({ length: 5_000 }, (_, n) => ({ _id: `${name}-${n}`, n }));
    await a.bulkDocs(docs('a'));
    one.sync(a, 'todos');
    await one.connect(t.gateway.url);
    const two = t.device();
    const b = t.create();
    await b.bulkDocs(docs('b'));
    two.sync(b, 'todos');
    await two.connect(t.gateway.url);
    const count = async (db) => (await db.info()).doc_count === 10_000;
    await until(async () => (await count(a)) && (await count(b)), '10,000', 240_000);
    await assertSame('todos', a, b);
  });

  it('stores attachments, and goes on with everything else', async () => {
    const { a, b, syncs } = await pair('todos');
    const bytes = Buffer.from(Array.from({ length: 1_000 }, (_, n) => n % 256));
    await a.put({ _id: 'photo', _attachments: { p: { content_type: 'x/y', data: bytes } } });
    await a.put({ _id: 'plain' });
    await until(() => read(b, 'plain'), 'the document without attachments');
    await a.put({ _id: 'after' });
    await until(() => read(b, 'after'), 'the sync goes on');
    // The client cannot take attachments: such a revision is not shown to it.
    assert.equal(await read(b, 'photo'), undefined);
    for (const { events } of syncs) {
      assert.deepEqual(events.filter(([name]) => name === 'error' || name === 'denied'), []);
    }
    t.endDevices();
    await t.gateway.stop();
    const { photo } = t.gateway.leaves('todos');
    const [leaf] = Object.values(photo);
    assert.equal(leaf._attachments.p.data, bytes.toString('base64'));
  });
});
