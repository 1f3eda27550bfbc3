import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CREDENTIALS, Gateway } from './support/gateway.js';
import {
  allArrived,
  arrived,
  database,
  localContent,
  remoteContent,
  smallDocs,
} from './support/databases.js';
import { Proxy } from './support/proxy.js';
import { assertGrammar, connected, live, next, oneShot, QUICK, recorded } from './support/syncs.js';

async function withProxy(run) {
  const gateway = await Gateway.start();
  const proxy = await Proxy.start(gateway.url);
  try {
    await run(gateway, proxy);
  } finally {
    await proxy.stop();
    await gateway.remove();
  }
}

test('a gateway that is killed and comes back finds its clients, and nothing is lost', async () => {
  const gateway = await Gateway.start();
  const client = connected(gateway.url);
  const [one, other] = [database(), database()];
  const syncs = [client.sync(one, live('killed')), client.sync(other, live('killed'))];
  const events = syncs.map(recorded);
  const before = allArrived(other, 10);
  await one.bulkDocs(smallDocs(10));
  await before;

  const lost = next(client, 'disconnect');
  await gateway.kill();
  await lost;
  assert.equal(syncs[0].status().state, 'offline');
  await one.put({ _id: 'while-away-1' });
  await other.put({ _id: 'while-away-2' });
  const both = [arrived(other, 'while-away-1'), arrived(one, 'while-away-2')];
  await gateway.restart();
  await Promise.all(both);

  const later = arrived(other, 'after');
  await one.put({ _id: 'after' });
  await later;
  await client.end();
  events.forEach((list) => assertGrammar(list));
  assert.deepEqual(await localContent(one), await localContent(other));
  assert.deepEqual(await localContent(one), await remoteContent(gateway.url, 'killed'));
  await gateway.remove();
});

test('a gateway killed in the middle of a push and a pull loses and doubles nothing', async () => {
  const gateway = await Gateway.start();
  const client = connected(gateway.url);
  const [one, other] = [database(), database()];
  await one.bulkDocs(smallDocs(3_000));
  const pushing = client.sync(one, live('middle', { batch_size: 100 }));
  const pulling = client.sync(other, live('middle', { batch_size: 100 }));
  await next(pushing, 'change');
  await next(pulling, 'change');
  await gateway.kill();
  const rest = allArrived(other, 3_000);
  await gateway.restart();
  await rest;
  await client.end();
  assert.deepEqual(await localContent(other), await localContent(one));
  assert.deepEqual(await localContent(one), await remoteContent(gateway.url, 'middle'));
  await gateway.remove();
});

test('a gateway that is told to stop under load finds its clients again, and nothing is lost', async () => {
  const gateway = await Gateway.start();
  const client = connected(gateway.url);
  const [one, other] = [database(), database()];
  const syncs = [client.sync(one, live('stopped')), client.sync(other, live('stopped'))];
  const events = syncs.map(recorded);
  let [writing, written] = [true, 0];
  const writers = [one, other].map(async (db, who) => {
    for (let n = 0; writing; n += 1) {
      const { id, rev } = await db.put({ _id: `w${who}-${n}`, n });
      if (n % 3 === 0) await db.put({ _id: id, _rev: rev, n, edited: true });
      written += 1;
    }
  });
  for (let restarts = 0; restarts < 3; restarts += 1) {
    await Promise.all(syncs.map((sync) => next(sync, 'change')));
    const closed = next(client, 'disconnect');
    await gateway.stop();
    await closed;
    const back = next(client, 'connect');
    await gateway.restart();
    await back;
  }
  writing = false;
  await Promise.all(writers);
  assert.ok(written > 30, `${written} writes are no load`);
  const last = [arrived(other, 'last-0'), arrived(one, 'last-1')];
  await one.put({ _id: 'last-0' });
  await other.put({ _id: 'last-1' });
  await Promise.all(last);
  await client.end();
  events.forEach((list) => assertGrammar(list));
  assert.deepEqual(await localContent(one), await localContent(other));
  assert.deepEqual(await localContent(one), await remoteContent(gateway.url, 'stopped'));
  await gateway.remove();
});

test('a cut socket is paused with a cause, and each sync then runs once', () =>
  withProxy(async (gateway, proxy) => {
    const client = connected(proxy.url);
    const db = database();
    const opened = [];
    proxy.fromClient = (message) => {
      if (message[0] === 'open') opened.push(message[1]);
      return message;
    };
    const sync = client.sync(db, live('cut'));
    const events = recorded(sync);
    const attempts = [];
    client.on('reconnect', (attempt) => attempts.push(attempt));
    await next(sync, 'paused');
    for (let round = 0; round < 3; round += 1) {
      const down = next(client, 'disconnect');
      proxy.cut();
      const [error] = await down;
      assert.equal(error.name, 'disconnected');
      assert.equal(sync.status().state, 'offline');
      await next(sync, 'status', ({ state }) => state === 'up-to-date');
    }
    const pushed = next(sync, 'change');
    await db.put({ _id: 'a' });
    await pushed;
    await sync.cancel();
    assert.equal(opened.length, 4);
    assert.equal(events.filter(({ name }) => name === 'change').length, 1);
    assert.equal(events.filter(({ name }) => name === 'active').length, 1);
    assertGrammar(events);
    assert.equal(attempts[0], 0);
    await client.end();
    assert.deepEqual(await localContent(db), await remoteContent(gateway.url, 'cut'));
  }));

test('a socket that has gone silent is given up and made again', () =>
  withProxy(async (gateway, proxy) => {
    const client = connected(proxy.url, { ...QUICK, pingInterval: 50, silenceTimeout: 150 });
    const db = database();
    const sync = client.sync(db, live('silent'));
    await next(sync, 'paused');
    const down = next(client, 'disconnect');
    proxy.silent = true;
    await db.put({ _id: 'a' });
    const [error] = await down;
    assert.match(error.message, /nothing was heard/);
    assert.equal(sync.status().state, 'offline');
    const pushed = next(sync, 'change');
    proxy.silent = false;
    await pushed;
    await client.end();
    assert.deepEqual(await localContent(db), await remoteContent(gateway.url, 'silent'));
  }));

test('a live socket is kept by pings alone', () =>
  withProxy(async (_gateway, proxy) => {
    let pongs = 0;
    const enough = new Promise((resolve) => {
      proxy.fromGateway = (message) => {
        if (message[0] === 'pong') pongs += 1;
        if (pongs === 10) resolve();
        return message;
      };
    });
    const client = connected(proxy.url, { ...QUICK, pingInterval: 30, silenceTimeout: 1_000 });
    const sync = client.sync(database(), live('pings'));
    await next(sync, 'paused');
    await enough;
    assert.equal(proxy.connections, 1);
    await client.end();
  }));

test('credentials are shown again before a grant ends', () =>
  withProxy(async (_gateway, proxy) => {
    let grants = 0;
    proxy.fromGateway = (message) => {
      if (message[0] !== 'opened') return message;
      grants += 1;
      if (grants === 1) message[2].access.expires_in_ms = 1_000;
      return message;
    };
    const client = connected(proxy.url);
    let asked = 0;
    const credentials = async () => {
      asked += 1;
      return CREDENTIALS;
    };
    const sync = client.sync(database(), live('refreshed', { credentials }));
    const shown = new Promise((resolve) => {
      proxy.fromClient = (message) => {
        if (message[0] === 'credentials') resolve(message[2]);
        return message;
      };
    });
    assert.deepEqual(await shown, CREDENTIALS);
    assert.equal(asked, 2);
    await client.end();
    assert.equal((await sync).push.status, 'cancelled');
  }));

test('a grant that ends in the middle of a push costs no edit', () =>
  withProxy(async (gateway, proxy) => {
    const reason = { status: 401, error: 'unauthorized', reason: 'the grant has expired' };
    let writes = 0;
    proxy.fromClient = (message, reply) => {
      if (message[0] === 'call' && message[3] === 'bulk_docs') {
        writes += 1;
        if (writes === 3) {
          reply(['closed', message[1], reason]);
          return ['close', message[1]];
        }
      }
      return message;
    };
    const client = connected(proxy.url);
    const db = database();
    await db.bulkDocs(smallDocs(1_000));
    let asked = 0;
    const credentials = () => {
      asked += 1;
      return CREDENTIALS;
    };
    const sync = client.sync(db, live('expired', { credentials, batch_size: 100 }));
    const events = recorded(sync);
    await next(sync, 'status', ({ state }) => state === 'auth-needed');
    assert.equal(sync.status().lastError.reason, reason.reason);
    await next(sync, 'status', ({ state }) => state === 'up-to-date');
    assert.equal(asked, 2);
    await client.end();
    assertGrammar(events);
    assert.deepEqual(await localContent(db), await remoteContent(gateway.url, 'expired'));
  }));

test('without retry a lost connection is an error', async () => {
  const gateway = await Gateway.start();
  await gateway.kill();
  const client = connected(gateway.url);
  const sync = client.sync(database(), oneShot('no-retry'));
  await assert.rejects(sync, { name: 'disconnected' });
  assert.equal(sync.status().state, 'ended');
  await client.end();
  await gateway.remove();
});

test('a sync that is cancelled without a connection completes', async () => {
  const gateway = await Gateway.start();
  await gateway.kill();
  const client = connected(gateway.url);
  const sync = client.sync(database(), live('cancelled'));
  const events = recorded(sync);
  await next(sync, 'paused');
  await sync.cancel();
  assert.deepEqual(events.map(({ name }) => name), ['paused', 'complete']);
  await client.end();
  await gateway.remove();
});
