// Plain objects without a local database: two people share a list of to-dos.
// node examples/plain-objects.mjs ws://127.0.0.1:5984 TOKEN, after `npm ci` in client-js/.
import { createRequire } from 'node:module';
import { createClient } from '../client-js/dist/settee-client.js';

const [url, token] = process.argv.slice(2);
// Node has a WebSocket of its own from version 22.
const { WebSocket } = globalThis.WebSocket
  ? globalThis
  : createRequire(new URL('../client-js/', import.meta.url))('ws');
const access = { credentials: () => ({ token }), create: true };

function person() {
  const client = createClient({ WebSocket }).connect(url);
  return { client, todos: client.objects('plain-objects', access) };
}

const told = (view, event) => new Promise((resolve) => view.once(event, resolve));

const [anna, berta] = [person(), person()];
const open = berta.todos.subscribe({ selector: { done: false } });
await open.ready;
open.on('create', ({ title }) => console.log('to do:', title));
open.on('update', ({ title }) => console.log('now:', title));
open.on('leave', (id) => console.log('done:', id));

// What is saved is shown at once; the promise tells that the gateway has it.
let heard = told(open, 'create');
const saving = anna.todos.save({ _id: `milk-${Date.now()}`, title: 'Buy milk', done: false });
console.log('shown at once:', anna.todos.allObjects().length);
const milk = await saving;
await heard;

// Both edit the same revision. Berta, who comes second, sees her edit at once, then what the gateway
// has in its place, and is told that it was a conflict.
heard = told(open, 'update');
await anna.todos.save({ ...milk, title: 'Buy oat milk' });
await heard;
const late = await berta.todos.save({ ...milk, done: true }).catch((error) => error);
console.log('conflict:', late.isConflict, 'with', late.object.title);

// What no longer matches leaves the view.
heard = told(open, 'leave');
await berta.todos.save({ ...late.object, done: true });
await heard;

// Without a connection objects can be saved all the same; they are sent when there is one again.
anna.client.disconnect();
const bread = anna.todos.save({ title: 'Bake bread', done: false });
heard = told(open, 'create');
anna.client.connect(url);
await Promise.all([bread, heard]);

// The view goes on as another one: what it has in common with the earlier one is not told again.
open.removeAllListeners();
await open.change({ selector: { done: true } });
console.log('all done:', open.list().map(({ title }) => title).join());
await Promise.all([anna.client.end(), berta.client.end()]);
