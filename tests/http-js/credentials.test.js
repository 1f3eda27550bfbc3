import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Gateway, local, origin, remote, request } from './support.js';

let gateway;

before(async () => {
  gateway = await Gateway.start();
});

after(() => gateway.remove());

const json = { 'content-type': 'application/json' };

test('a wrong password ends a replication with 401', async () => {
  const db = local();
  await db.put({ _id: 'a' });
  const wrong = remote(gateway, 'closed', { username: 'anyone', password: 'wrong' });
  await assert.rejects(db.replicate.to(wrong), { status: 401 });
});

test('a session stands for its credentials until it is ended', async () => {
  const login = (password) =>
    request(gateway, '/_session', {
      method: 'POST',
      token: null,
      headers: json,
      body: JSON.stringify({ name: 'anna', password }),
    });
  const refused = await login('wrong');
  assert.equal(refused.status, 401);
  assert.equal((await refused.json()).reason, 'Name or password is incorrect.');
  const welcomed = await login('secret');
  assert.deepEqual(await welcomed.json(), { ok: true, name: 'anna', roles: ['_admin'] });
  const setCookie = welcomed.headers.get('set-cookie');
  assert.match(setCookie, /^AuthSession=.+; Version=1; Max-Age=600; Path=\/; HttpOnly; SameSite=Strict$/);
  const headers = { cookie: setCookie.split(';')[0] };
  const put = await request(gateway, '/by-cookie', { method: 'PUT', token: null, headers });
  assert.equal(put.status, 201);
  const session = await request(gateway, '/_session', { token: null, headers });
  assert.deepEqual((await session.json()).userCtx, { name: 'anna', roles: ['_admin'] });
  await request(gateway, '/_session', { method: 'DELETE', token: null, headers });
  const after = await request(gateway, '/by-cookie', { token: null, headers });
  assert.equal(after.status, 401);
});

test('a page of another site is refused before anything is done', async () => {
  const headers = { ...json, origin: 'https://evil.example' };
  const put = await request(gateway, '/evil', { method: 'PUT', headers });
  assert.equal(put.status, 403);
  assert.equal((await request(gateway, '/evil')).status, 404);
  const own = await request(gateway, '/own', { method: 'PUT', headers: { origin: origin(gateway) } });
  assert.equal(own.status, 201);
});
