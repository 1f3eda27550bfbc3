'use strict';
// The npm client of 2015, with the PouchDB of its time and with today's.

const { Device, POUCHDBS, expectMissingCheckpoints } = require('../legacy-js/support/client');

expectMissingCheckpoints();

async function main() {
  const { isCalm, run, token, url } = await import('./common.mjs');

  async function connect(dbs, user) {
    const device = new Device();
    // This client shows what it was given once, so its token must outlast the connection.
    const credentials = { token: token(user, isCalm() ? 3_600 : 120) };
    for (const [name, db] of Object.entries(dbs)) device.sync(db, name, credentials);
    // While the gateway is away, the client goes on trying.
    device.client.connect(url);
    return { end: async () => device.end() };
  }

  const kinds = Object.entries(POUCHDBS).map(([name, create]) => ({
    ...{ name: `2015 with ${name}`, replicas: 1, connect },
    // It cannot take attachments, and loses the losing one of two first revisions.
    ...{ create: () => create(), files: 'left out', recreates: false },
  }));
  await run(kinds);
}

void main();
