/** Where everybody is stands in presence; what they say are events. Nothing is stored. */

import { createClient } from '/_settee/client.js';

const CHANNEL = 'walk-and-talk';
/** A step, in hundredths of the field. */
const STEP = 2.5;
/** At most so often others are told of a step, in milliseconds. */
const TELL_EVERY = 60;
const BUBBLE_TIME = 6_000;
const LINES_MAX = 100;
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const at = (id) => document.getElementById(id);
const field = at('field');
const walkers = new Map();
/** A gateway that wants a token finds it in the page's address: /#token=TOKEN. */
const token = new URLSearchParams(location.hash.slice(1)).get('token') ?? undefined;
const client = createClient();

/** One color for each id, the same in every page. */
function colorOf(id) {
  let sum = 0;
  for (const char of id) sum = (sum * 31 + char.codePointAt(0)) % 360;
  return `hsl(${sum} 62% 42%)`;
}

function element(tag, className, text = '') {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

const nameOf = (id) => walkers.get(id)?.name ?? 'somebody';

function place(member) {
  const { x = 50, y = 50 } = member.state ?? {};
  let walker = walkers.get(member.id);
  if (!walker) {
    const name = member.user ?? 'somebody';
    const dot = element('div', 'walker');
    dot.append(element('span', 'name', name));
    dot.style.setProperty('--color', colorOf(member.id));
    dot.classList.toggle('own', member.id === client.events.identity?.id);
    const row = element('li', '', name);
    row.style.setProperty('--color', colorOf(member.id));
    field.append(dot);
    at('walkers').append(row);
    walker = { name, dot, row };
    walkers.set(member.id, walker);
  }
  walker.dot.style.left = `${x}%`;
  walker.dot.style.top = `${y}%`;
}

function remove({ id }) {
  const walker = walkers.get(id);
  walker?.dot.remove();
  walker?.row.remove();
  walkers.delete(id);
}

function said({ text }, { from }) {
  const line = element('li', '');
  line.append(element('b', '', nameOf(from)), String(text));
  const lines = at('lines');
  lines.append(line);
  if (lines.childElementCount > LINES_MAX) lines.firstElementChild.remove();
  line.scrollIntoView({ block: 'nearest' });
  const dot = walkers.get(from)?.dot;
  dot?.querySelector('.bubble')?.remove();
  const bubble = element('span', 'bubble', String(text));
  dot?.append(bubble);
  setTimeout(() => bubble.remove(), BUBBLE_TIME);
}

function enter(name) {
  const own = { x: 20 + Math.random() * 60, y: 20 + Math.random() * 60 };
  const room = client.events.join(CHANNEL, { presence: true, state: own });
  let timer;
  const walk = (x, y) => {
    const within = (value) => Math.round(Math.min(97, Math.max(3, value)) * 10) / 10;
    Object.assign(own, { x: within(x), y: within(y) });
    const { id, user } = client.events.identity ?? {};
    // One's own steps are seen at once.
    if (id) place({ id, user, state: own });
    timer ??= setTimeout(() => {
      timer = undefined;
      room.setState({ ...own });
    }, TELL_EVERY);
  };
  room.on('members', (members) => {
    const there = new Set(members.map(({ id }) => id));
    for (const id of walkers.keys()) if (!there.has(id)) remove({ id });
    members.forEach(place);
  });
  room.on('join', place).on('state', place).on('leave', remove);
  client.events.on('said', said);
  field.addEventListener('keydown', (event) => {
    const direction = DIRECTIONS[event.key];
    if (!direction) return;
    event.preventDefault();
    walk(own.x + direction[0] * STEP, own.y + direction[1] * STEP);
  });
  field.addEventListener('click', (event) => {
    const { left, top, width, height } = field.getBoundingClientRect();
    walk(((event.clientX - left) / width) * 100, ((event.clientY - top) / height) * 100);
  });
  at('say').addEventListener('submit', (event) => {
    event.preventDefault();
    const text = at('text').value.trim();
    if (text) room.send('said', { text });
    at('text').value = '';
  });
  client.events.identify({ name, token });
}

function status(text, away) {
  at('status').textContent = text;
  at('status').classList.toggle('away', away);
}

client.on('identified', ({ user }) => {
  status(`Here as ${user}`, false);
  at('enter').hidden = true;
  at('world').hidden = false;
  field.focus();
});
client.on('unidentified', (error) => (at('problem').textContent = error.message));
client.on('disconnect', () => status('No connection; trying again', true));

at('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = new FormData(event.target).get('name').trim();
  if (!name) return;
  at('problem').textContent = '';
  if (client.url) client.events.identify({ name, token });
  else {
    client.connect(location.origin);
    enter(name);
  }
});
