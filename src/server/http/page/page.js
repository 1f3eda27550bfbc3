/** The page: who may see it, what is shown where, and when it is asked for again. */

import { databases, jobs, logIn, logOut, Refused, status } from './ask.js';
import { databaseView, documentView, linkTo } from './documents.js';
import { bytes, count, make, table, time } from './make.js';

/** Between two looks at the gateway. */
const LOOK_AGAIN_MS = 3_000;
const DATABASES = 100;

const main = document.querySelector('#main');
const state = document.querySelector('#state');
const leave = document.querySelector('#leave');

/** Counts views, so that what comes late for an older one is not shown. */
let shown = 0;
let timer;

function tell(text, kind = '') {
  // Only what is wrong is said aloud, and only once.
  state.setAttribute('role', kind === '' ? 'none' : 'alert');
  if (state.textContent !== text) state.textContent = text;
  state.className = kind;
}

function tellStatus(now) {
  leave.hidden = false;
  if (now.poisoned) tell('The store takes no writes: a flush failed', 'bad');
  else if (now.stopping) tell('Stopping', 'bad');
  else tell(`${now.version}, up ${time(now.up_s)}`);
}

const tile = (number, text) => make('li', {}, make('strong', {}, Number(number).toLocaleString('en')), ` ${text}`);

function connectionRow(one) {
  const channels = one.channels.map((channel) => {
    const rights = channel.read ? (channel.write ? '' : ', read only') : ', write only';
    const user = channel.user === null ? '' : ` as ${channel.user}`;
    return make('li', {}, make('a', { href: linkTo(channel.database) }, channel.database), `${user}${rights}`);
  });
  return [
    one.peer ?? 'this process',
    one.protocol,
    time(one.since_s),
    one.waiting_bytes > 0 ? `${bytes(one.waiting_bytes)} waiting` : '',
    channels.length === 0 ? 'none open' : make('ul', { class: 'plain' }, channels),
  ];
}

function denialRow(one) {
  return [
    make('time', { datetime: one.time }, one.time.slice(0, 19).replace('T', ' ')),
    `${one.status} ${one.error}`,
    one.database ?? '',
    one.protocol ?? '',
    one.peer ?? '',
  ];
}

function databaseRow({ key, info }) {
  if (!info) return [key, '', '', '', ''];
  return [
    make('a', { href: linkTo(key) }, key),
    info.doc_count.toLocaleString('en'),
    info.doc_del_count.toLocaleString('en'),
    bytes(info.sizes.file),
    info.update_seq.split('-')[0],
  ];
}

function section(title, ...content) {
  const id = title.toLowerCase();
  return make('section', { 'aria-labelledby': id }, make('h2', { id }, title), ...content);
}

function jobRow(job) {
  const read = job.docs_read ?? 0;
  return [job.source ?? '', job.target ?? '', job.continuous ? 'live' : 'once', count(read, 'document')];
}

function tiles({ connections, channels }) {
  return [
    tile(connections.v1, 'settee.v1'), tile(connections.legacy, 'of 2015'),
    tile(connections.http, 'HTTP'), tile(channels, channels === 1 ? 'channel' : 'channels'),
  ];
}

/** What is live: asked for again and again. */
function live(now, tasks) {
  return [
    section('Connections',
      table('Connections', ['From', 'Protocol', 'For', 'Outbox', 'Channels'], now.connected.map(connectionRow),
        'No WebSocket is open.')),
    section('Denials',
      table('Denials', ['Time (UTC)', 'Error', 'Database', 'Protocol', 'From'], now.denials.slice(0, 20).map(denialRow),
        'Nobody was denied anything since the start.')),
    section('Replications',
      table('Replications', ['Source', 'Target', 'How', 'Read'],
        tasks.filter((task) => task.type === 'replication').map(jobRow), 'This gateway runs none.')),
  ];
}

async function gatewayView(from) {
  const numbers = make('ul', { class: 'tiles', 'aria-label': 'Connections and channels' });
  const place = make('div');
  const fill = (now, tasks) => {
    tellStatus(now);
    numbers.replaceChildren(...tiles(now));
    // Whoever stands on something in it is not pulled away.
    if (!place.contains(document.activeElement)) place.replaceChildren(...live(now, tasks));
  };
  const [now, tasks, dbs] = await Promise.all([status(), jobs(), databases(DATABASES + 1, from)]);
  fill(now, tasks);
  const more = dbs[DATABASES];
  const rows = dbs.slice(0, DATABASES).map(databaseRow);
  const again = async () => fill(...(await Promise.all([status(), jobs()])));
  const content = [
    make('h1', {}, 'Gateway'),
    numbers,
    section('Databases',
      table('Databases', ['Name', 'Documents', 'Deleted', 'Bodies', 'Update seq'], rows, 'There is no database yet.'),
      make('p', { class: 'turn' },
        from === undefined ? null : make('a', { href: '#/' }, 'To the first'),
        more ? make('a', { href: `#/?from=${encodeURIComponent(more.key)}` }, 'Further databases') : null)),
    place,
  ];
  return { content, again };
}

function loginView(reason) {
  const name = make('input', { id: 'name', name: 'name', autocomplete: 'username', required: true });
  const password = make('input', {
    id: 'password', name: 'password', type: 'password', autocomplete: 'current-password', required: true,
  });
  const problem = make('p', { class: 'problem', role: 'alert' }, reason ?? null);
  const submit = async (event) => {
    event.preventDefault();
    problem.textContent = '';
    try {
      await logIn(name.value, password.value);
      await show();
    } catch (error) {
      password.value = '';
      problem.textContent = error.message;
    }
  };
  return [
    make('form', { class: 'login', submit },
      make('h1', {}, 'Log in'),
      make('label', { for: 'name' }, 'Name'), name,
      make('label', { for: 'password' }, 'Password or token'), password,
      problem, make('button', {}, 'Log in')),
  ];
}

/** What the address after `#` asks for. */
async function viewOf(hash) {
  const [path, query] = hash.replace(/^#\/?/, '').split('?');
  const [name, kind, id] = path === '' ? [] : path.split('/').map(decodeURIComponent);
  if (name === undefined) return gatewayView(new URLSearchParams(query).get('from') ?? undefined);
  // Who may see the gateway is told of it on every view.
  tellStatus(await status());
  if (kind === 'doc') return { content: await documentView(name, id ?? '') };
  return { content: await databaseView(name, kind === 'from' ? id : undefined) };
}

function repeat(again, number) {
  timer = setTimeout(async () => {
    if (number !== shown) return;
    try {
      if (!document.hidden) await again();
      if (number === shown) repeat(again, number);
    } catch (error) {
      if (number === shown) fail(error, again);
    }
  }, LOOK_AGAIN_MS);
}

/** The error of a look that was not the first: what is shown stays. */
function fail(error, again) {
  if (error instanceof Refused && [401, 403].includes(error.status)) {
    void show();
    return;
  }
  tell('The gateway does not answer', 'bad');
  repeat(again, shown);
}

async function show({ focus = false } = {}) {
  clearTimeout(timer);
  const number = (shown += 1);
  let view;
  try {
    view = await viewOf(location.hash);
  } catch (error) {
    if (!(error instanceof Refused)) view = { content: [make('p', { class: 'problem' }, 'The gateway does not answer. ', reload())] };
    else if (error.status === 401) view = { content: loginView() };
    else if (error.status === 403 && leave.hidden) view = { content: loginView(error.message) };
    else view = { content: [make('p', { class: 'problem', role: 'alert' }, error.message), make('p', {}, make('a', { href: '#/' }, 'To the gateway'))] };
    if (view.content[0].matches('.login')) {
      leave.hidden = true;
      tell('');
    }
  }
  if (number !== shown) return;
  main.replaceChildren(...view.content);
  if (focus) main.focus();
  main.querySelector('.login input')?.focus();
  document.title = location.hash.length > 2 ? `${decodeURIComponent(location.hash.slice(2))} – Settee` : 'Settee';
  if (view.again) repeat(view.again, number);
}

const reload = () => make('button', { type: 'button', click: () => void show() }, 'Ask again');

leave.addEventListener('click', async () => {
  await logOut().catch(() => {});
  leave.hidden = true;
  location.hash = '#/';
  await show();
});
addEventListener('hashchange', () => void show({ focus: true }));
void show();
