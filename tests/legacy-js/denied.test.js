'use strict';
// Refusals as the application sees them, from a gateway with an authorizer of its own.

const assert = require('node:assert/strict');
const { it } = require('node:test');
const channels = require('pipe-channels');
const remoteStream = require('pouch-remote-stream');
const websocket = require('websocket-stream');

const { Gateway } = require('./support/gateway');
const { read, until } = require('./support/client');
const { forEachPouchDB } = require('./support/fixture');

const TOKEN = { token: 'some token' };

forEachPouchDB(() => Gateway.startExample(), (t) => {
  const payloads = ({ events }, wanted) =>
    events.filter(([name]) => name === wanted).map(([, payload]) => payload);

  it("has the authorizer's words", async () => {
    const one = t.device();
    const sync = one.sync(t.create(), 'todos', { token: 'wrong' });
    await one.connect(t.gateway.url);
    const [error] = await until(() => sync.events.length && payloads(sync, 'error'), 'the error');
    assert.equal(error.message, 'not allowed: log in at the front desk');
    assert.deepEqual([error.status, error.name], [401, 'unauthorized']);
  });

  it('denies one document and syncs the others', async () => {
    const [one, two] = [t.device(), t.device()];
    const [a, b] = [t.create(), t.create()];
    const sync = one.sync(a, 'todos', TOKEN);
    two.sync(b, 'todos', TOKEN);
    await a.bulkDocs([{ _id: 'good' }, { _id: 'bad', text: 'spam' }, { _id: 'fine' }]);
    await Promise.all([one.connect(t.gateway.url), two.connect(t.gateway.url)]);
    await until(async () => (await read(b, 'good')) && read(b, 'fine'), 'the others');
    const [denied] = await until(() => sync.events.length && payloads(sync, 'denied'), 'denied');
    assert.equal(denied.direction, 'push');
    assert.equal(denied.doc.id, 'bad');
    assert.equal(denied.doc.message, 'this looks like spam');
    await a.put({ _id: 'later' });
    await until(() => read(b, 'later'), 'the sync goes on');
    assert.equal(await read(b, 'bad'), undefined);
    assert.deepEqual(payloads(sync, 'error'), []);
  });

  it('lets a reader read, denies what it writes, and keeps its checkpoints', async () => {
    const [one, two] = [t.device(), t.device()];
    const [a, b] = [t.create(), t.create()];
    one.sync(a, 'todos', TOKEN);
    const reading = two.sync(b, 'todos', { token: 'guest' });
    await one.connect(t.gateway.url);
    await a.put({ _id: 'a' });
    await two.connect(t.gateway.url);
    await until(() => read(b, 'a'), 'what is there');
    await b.put({ _id: 'b' });
    const [denied] = await until(() => {
      const found = payloads(reading, 'denied');
      return found.length && found;
    }, 'denied');
    assert.equal(denied.doc.id, 'b');
    assert.equal(denied.doc.message, 'You are not allowed to write to this db.');
    await a.put({ _id: 'more' });
    await until(() => read(b, 'more'), 'the reader goes on');
    assert.deepEqual(payloads(reading, 'error'), []);
    assert.equal(await read(a, 'b'), undefined);
  });
});

it('runs no method that a sync does not need', async () => {
  const gateway = await Gateway.startExample();
  const socket = websocket(gateway.url);
  const client = channels.createClient();
  socket.pipe(client).pipe(socket);
  const request = { database: 'todos', credentials: TOKEN };
  const remote = remoteStream();
  const channel = await new Promise((resolve, reject) => {
    client.channel(request, (error, found) => (error ? reject(error) : resolve(found)));
  });
  channel.pipe(remote.stream).pipe(channel);
  const call = (method) =>
    new Promise((resolve) => remote.invoke('todos', method, [], (error) => resolve(error)));
  for (const method of ['destroy', 'close', 'put', 'fly']) {
    assert.equal((await call(method)).message, `No method named ${method}`);
  }
  assert.equal(await call('_id'), null);
  socket.end();
  await gateway.remove();
});
