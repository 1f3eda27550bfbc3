'use strict';
// What the clients measure with, whichever PouchDB they use.

const { once } = require('node:events');

const milliseconds = (from) => Number(process.hrtime.bigint() - from) / 1e6;

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

const WORDS = ('ask Anna about the blue bicycle before she goes and buy oat milk bread cheese six eggs '
  + 'two lemons call plumber kitchen tap drips again return library books by Thursday').split(' ');
const WORDS_PER_TEXT = 30;

/** Text that differs from one document to the next, the same ones in each run. */
function text(n) {
  let state = n + 1;
  const word = () => {
    // The generator of Numerical Recipes; its upper bits are the better ones.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return WORDS[(state >>> 16) % WORDS.length];
  };
  return Array.from({ length: WORDS_PER_TEXT }, word).join(' ');
}

/** Documents as long as a to-do with a few details. */
function documents(count) {
  return Array.from({ length: count }, (_, n) => ({ _id: `doc-${n}`, n, done: false, text: text(n) }));
}

/** Tells the process that started this one where it stands, and goes on when that has looked. */
async function mark(name) {
  if (!process.send) return;
  const seen = once(process, 'message');
  process.send(name);
  await seen;
}

/** Milliseconds of processor time of this process since `before`. */
function processorTime(before) {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e3;
}

/** How long something takes, and how much processor time of this process. */
async function timed(work) {
  await mark('begin');
  const cpu = process.cpuUsage();
  const began = process.hrtime.bigint();
  await work();
  const ms = milliseconds(began);
  return { ms, client_cpu_ms: processorTime(cpu) };
}

/** Each document in turn, from the call of one synced device until the other tells of it. */
async function live(here, there, count) {
  const arrived = new Map();
  there.changes({ since: 'now', live: true }).on('change', ({ id }) => arrived.get(id)?.());
  const times = [];
  await mark('begin');
  const cpu = process.cpuUsage();
  for (let n = 0; n < count; n++) {
    const arrives = new Promise((resolve) => arrived.set(`live-${n}`, resolve));
    const began = process.hrtime.bigint();
    await here.put({ _id: `live-${n}`, n });
    await arrives;
    times.push(milliseconds(began));
    // Both rest before the next, so that each is measured for itself.
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const client_cpu_ms = processorTime(cpu);
  times.sort((a, b) => a - b);
  const at = (share) => times[Math.min(times.length - 1, Math.floor(times.length * share))];
  return { p50_ms: at(0.5), p95_ms: at(0.95), client_cpu_ms };
}

module.exports = { documents, live, mark, median, milliseconds, processorTime, timed };
