'use strict';
// What the clients in JavaScript measure with, whichever PouchDB they use.

const milliseconds = (from) => Number(process.hrtime.bigint() - from) / 1e6;

/** Documents as long as a to-do with a few details. */
function documents(count) {
  const text = 'a line of text as long as a to-do with a few details, '.repeat(3);
  return Array.from({ length: count }, (_, n) => ({ _id: `doc-${n}`, n, done: false, text }));
}

/** How long something takes, and how much processor time of this process. */
async function timed(work) {
  const cpu = process.cpuUsage();
  const began = process.hrtime.bigint();
  await work();
  const ms = milliseconds(began);
  const { user, system } = process.cpuUsage(cpu);
  return { ms, cpu_ms: (user + system) / 1e3 };
}

/** Each document in turn, from the call of one synced device until the other tells of it. */
async function live(here, there, count) {
  const arrived = new Map();
  there.changes({ since: 'now', live: true }).on('change', ({ id }) => arrived.get(id)?.());
  const times = [];
  for (let n = 0; n < count; n++) {
    const arrives = new Promise((resolve) => arrived.set(`live-${n}`, resolve));
    const began = process.hrtime.bigint();
    await here.put({ _id: `live-${n}`, n });
    await arrives;
    times.push(milliseconds(began));
    // Both rest before the next, so that each is measured for itself.
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  times.sort((a, b) => a - b);
  const at = (share) => times[Math.min(times.length - 1, Math.floor(times.length * share))];
  return { p50_ms: at(0.5), p95_ms: at(0.95) };
}

module.exports = { documents, live, timed };
