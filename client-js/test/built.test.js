/** What is published: the built modules, and their declarations. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const tsc = join(createRequire(import.meta.url).resolve('typescript/package.json'), '../bin/tsc');
let place;
let built;

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'settee-built-'));
  built = join(place, 'node_modules/settee-client');
  await mkdir(built, { recursive: true });
  await symlink(join(root, 'package.json'), join(built, 'package.json'));
  await run(process.execPath, [join(root, 'scripts/build.js'), built], { cwd: root });
});
after(() => rm(place, { recursive: true, force: true }));

test('the committed module is built from these sources', async () => {
  const file = 'dist/settee-client.js';
  const [committed, fresh] = await Promise.all([
    readFile(join(root, file), 'utf8'),
    readFile(join(built, file), 'utf8'),
  ]);
  const isSame = committed === fresh;
  assert.ok(isSame, `client-js/${file} is out of date: run "npm run build" in client-js/`);
  assert.ok(!fresh.includes(root), 'a built file names no directory of this machine');
});

const USE = `console.log(typeof createClient, new SetteeError({ status: 404, error: 'e', reason: 'r' }).status)`;

test('import and require both load it', async () => {
  const cwd = place;
  const imported = `import { createClient, SetteeError } from 'settee-client'; ${USE}`;
  const required = `const { createClient, SetteeError } = require('settee-client'); ${USE}`;
  const [esm, cjs] = await Promise.all([
    run(process.execPath, ['--input-type=module', '-e', imported], { cwd }),
    run(process.execPath, ['--input-type=commonjs', '-e', required], { cwd }),
  ]);
  assert.equal(esm.stdout, 'function 404\n');
  assert.equal(cjs.stdout, 'function 404\n');
});

const CONSUMER = `
const client: Client = createClient({ times: { pauseFirst: 100 } }).connect('ws://gateway');
const sync: Sync = client.sync({}, { remoteName: 'todos', credentials: async () => 'x', live: false });
sync.on('change', (info) => console.log(info)).cancel();
const denied: string[] = sync.denied().map((one) => one.reason);
const error = new SetteeError({ status: 404, error: 'not_found', reason: 'missing' });
export const all: [number, string[]] = [error.status, denied];
client.sync({}, { filter: (doc) => doc._id > 'a', push: { selector: { n: 1 } }, pull: false });
client.events.identify(async () => 'x').on('said', (_payload: any, { via }: EventNote) => via.user);
const room: Room = client.events.join('room-1', { presence: true, state: { x: 1 } });
room.on('join', (member: Member) => console.log(member.id, room.members.size)).setState(2);
const targets: Targets = { users: 'anna', channels: ['room-1'] };
export const reached: Promise<number> = client.events.send(targets, 'said', 1);
// @ts-expect-error a target that does not exist
client.events.send({ user: 'anna' }, 'said');
const plugin: (pouch: any) => void = Settee;
const options: AdapterOptions = { client, credentials: 'x', create: true };
plugin(options);
interface Todo {
  title: string;
  done: boolean;
}
const todos: Objects<Todo> = client.objects<Todo>('todos', { credentials: () => 'x', buffer: { ms: 60_000 } });
const saved: Promise<Stored<Todo>> = todos.save({ title: 'milk', done: false }, { always: true });
export const titles: string[] = todos.allObjects().map(({ title, _id, _rev }) => title + _id + _rev);
export const fetched: [Promise<Stored<Todo> | undefined>, Promise<Stored<Todo>[]>] = [todos.fetch('a'), todos.fetch(['a'])];
saved.catch((denied: DeniedError) => denied.isConflict && denied.object);
const view: ObjectsView<Todo> = todos.subscribe({ selector: { done: false } });
view.on('create', ({ title }: Stored<Todo>) => console.log(title)).change({ ids: ['a'] }).then(() => view.close());
export const untyped: any = client.objects('notes').allObjects()[0].anything;
// @ts-expect-error a member that is missing
todos.save({ title: 'milk' });
// @ts-expect-error a view of what does not exist
todos.subscribe({ filter: 1 });
// @ts-expect-error an option that does not exist
client.sync({}, { remote_name: 'todos' });
`;

test('declarations serve TypeScript in modules and in CommonJS', async () => {
  const types = ['AdapterOptions', 'Client', 'DeniedError', 'EventNote', 'Member', 'Objects', 'ObjectsView',
    'Room', 'Stored', 'Sync', 'Targets'];
  const names = `createClient, SetteeError, ${types.map((name) => `type ${name}`).join(', ')}`;
  const esm = `import Settee, { ${names} } from 'settee-client';`;
  const cjs = `import settee = require('settee-client');
import { Settee, ${names} } from 'settee-client';
export const same: typeof createClient = settee.createClient;`;
  const compilerOptions = {
    target: 'es2022',
    lib: ['es2022', 'dom'],
    module: 'node16',
    moduleResolution: 'node16',
    strict: true,
    types: [],
    noEmit: true,
  };
  await Promise.all([
    writeFile(join(place, 'esm.mts'), esm + CONSUMER),
    writeFile(join(place, 'cjs.cts'), cjs + CONSUMER),
    writeFile(join(place, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.?ts'] })),
  ]);
  const told = await run(process.execPath, [tsc, '--project', place]).then(
    () => '',
    (error) => error.stdout,
  );
  assert.equal(told, '');
});
