/** Says where the demo is, once the gateway says that it listens. */

import { createInterface } from 'node:readline';

// Control-C is the gateway's to answer: it stops, and its output ends.
process.on('SIGINT', () => {});

const token = encodeURIComponent(process.env.DEMO_TOKEN ?? '');
for await (const line of createInterface({ input: process.stdin })) {
  const address = line.match(/^listening on (http:\S+)$/)?.[1];
  if (!address) {
    console.log(line);
    continue;
  }
  console.log(`
  The to-do demo:  ${address}/#token=${token}

  The link carries the token; without it, type the token into the field under "Token needed".
  Open it in a second browser or a private window too. Control-C ends it.
`);
}
