/** A worker that syncs and writes, tells what it has, and ends. */

import { parentPort, workerData } from 'node:worker_threads';
import { database } from './databases.js';
import { remote } from './remotes.js';
import { connected, oneShot } from './syncs.js';

const client = connected(workerData);
const db = database();
await db.put({ _id: 'synced' });
await remote(client, 'worker').put({ _id: 'written' });
await client.sync(db, oneShot('worker'));
await client.end();
const { rows } = await db.allDocs();
parentPort.postMessage(rows.map(({ id }) => id));
