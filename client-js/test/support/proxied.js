/** A gateway, a proxy before it and a client connected through that, for as long as a file's tests. */

import { after, before } from 'node:test';
import { Gateway } from './gateway.js';
import { Proxy } from './proxy.js';
import { connected } from './syncs.js';

export let gateway;
export let proxy;
export let client;

before(async () => {
  gateway = await Gateway.start();
  proxy = await Proxy.start(gateway.url);
  client = connected(proxy.url);
});

after(async () => {
  await client.end();
  await proxy.stop();
  await gateway.remove();
});
