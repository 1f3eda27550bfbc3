// What was measured, as tables in Markdown. Ratios are to the first way; "–" is what has no figure.

import { median } from './measure.cjs';

const PER_DOCUMENTS = 10_000;
// From here on the client, and not the server, may be what bounds a rate.
const CLIENT_BUSY = 0.8;

const number = (value, digits = 0) => (Number.isFinite(value) ? value.toFixed(digits) : '–');
const ms = (value, digits = 0) => (Number.isFinite(value) ? `${value.toFixed(digits)} ms` : '–');
const thousands = (value) => (Number.isFinite(value) ? Math.round(value).toLocaleString('en') : '–');

/** A cell for each value, and one with its ratio to that of the first row. */
function withRatio(value, first, print) {
  return [print(value), number(value / first, 1)];
}

function table(heads, rows) {
  const line = (cells) => `|${cells.map((cell) => (cell ? ` ${cell} ` : ' ')).join('|')}|`;
  const rule = `|${'---|'.repeat(heads.length)}`;
  return [line(heads), rule, ...rows.map(line)].join('\n');
}

/** The middle of what `pick` finds in the rounds. */
const middle = (rounds, pick) => median(rounds.map(pick));

/** Rows of `[letter, way, found]` as cells; `cells(found, first)`. */
function rows(entries, cells) {
  const [[, , first]] = entries;
  return entries.map(([letter, { name }, found]) => [`(${letter}) ${name}`, ...cells(found, first)]);
}

const ratioTo = ([[letter]]) => `× (${letter})`;

export function timesTable(entries) {
  const times = ratioTo(entries);
  const heads = ['', 'push', times, 'pull', times, 'live, median', times, 'live, 95 of 100'];
  const cells = (found, first) => {
    const of = (kind, field, digits) => {
      const value = (rounds) => middle(rounds, (round) => round[kind][field]);
      return withRatio(value(found), value(first), (it) => ms(it, digits));
    };
    return [
      ...of('push', 'ms'),
      ...of('pull', 'ms'),
      ...of('live', 'p50_ms', 1),
      of('live', 'p95_ms', 1)[0],
    ];
  };
  return table(heads, rows(entries, cells));
}

export function costsTable(entries) {
  const times = ratioTo(entries);
  const heads = [
    ...['', 'server, push', times, 'server, pull', times, 'server, 100 live edits'],
    ...['client, push', 'client, pull', 'memory at rest', 'peak', 'growth', times],
  ];
  const cells = (found, first) => {
    const cpu = (rounds, kind, field, per) =>
      middle(rounds, (round) => (round[kind][field] / round[kind].count) * per);
    const bulk = (kind, field) =>
      withRatio(cpu(found, kind, field, PER_DOCUMENTS), cpu(first, kind, field, PER_DOCUMENTS), ms);
    const mib = (rounds, field) => middle(rounds, (round) => round.memory[field]);
    const print = (value) => (Number.isFinite(value) ? `${value.toFixed(0)} MiB` : '–');
    return [
      ...bulk('push', 'server_cpu_ms'),
      ...bulk('pull', 'server_cpu_ms'),
      ms(cpu(found, 'live', 'server_cpu_ms', 100)),
      bulk('push', 'client_cpu_ms')[0],
      bulk('pull', 'client_cpu_ms')[0],
      print(mib(found, 'rest')),
      print(mib(found, 'peak')),
      ...withRatio(mib(found, 'growth'), mib(first, 'growth'), print),
    ];
  };
  return table(heads, rows(entries, cells));
}

/** What goes up and down for each document, and the sum's ratio. */
function perDocument(entries, unit, digits) {
  const times = ratioTo(entries);
  const heads = ['', 'push', times, 'pull', times, 'a live edit', times];
  const cells = (found, first) =>
    ['push', 'pull', 'live'].flatMap((kind) => {
      const each = (wire, direction) => wire[kind][`${direction}_${unit}`] / wire[kind].count;
      const sum = (wire) => each(wire, 'up') + each(wire, 'down');
      const [up, down] = ['up', 'down'].map((direction) => each(found, direction));
      const places = kind === 'live' ? Math.min(digits, 1) : digits;
      const cell = `${number(up, places)} ↑ ${number(down, places)} ↓`;
      return withRatio(sum(found), sum(first), () => cell);
    });
  return table(heads, rows(entries, cells));
}

export const bytesTable = (entries) => perDocument(entries, 'bytes', 0);

export const messagesTable = (entries) => perDocument(entries, 'messages', 4);

export function connectionsTable(entries) {
  const kinds = ['push', 'pull', 'live'];
  const heads = ['', 'push', 'pull', 'live edits'];
  const cells = (found) => kinds.map((kind) => String(found[kind].connections));
  return table(heads, rows(entries, cells));
}

/** One row for each thing done, the servers side by side; `value` of one measurement. */
function sideBySide(entries, value, print, ratio) {
  const [[letter, , firstRounds]] = entries;
  const heads = entries.flatMap(([its, { name }], n) => {
    const title = `(${its}) ${name}`;
    return n === 0 ? [title] : [title, `× (${letter})`];
  });
  const names = Object.keys(firstRounds[0]);
  const lines = names.map((name) => {
    const of = (rounds) => middle(rounds, (round) => (round[name] ? value(round[name]) : Number.NaN));
    const first = of(firstRounds);
    const cells = entries.flatMap(([, , rounds], n) => {
      const mine = of(rounds);
      const busy = middle(rounds, (round) => (round[name] ? clientShare(round[name]) : 0));
      const cell = print(mine, busy > CLIENT_BUSY);
      return n === 0 ? [cell] : [cell, number(ratio(first, mine), 1)];
    });
    return [name, ...cells];
  });
  return table(['', ...heads], lines);
}

const clientShare = ({ client_cpu_ms, ms: took }) => client_cpu_ms / took;

export function ratesTable(entries) {
  const print = (rate, isClientBusy) => thousands(rate) + (isClientBusy ? '\\*' : '');
  const rate = ({ documents, ms: took }) => (documents / took) * 1e3;
  return sideBySide(entries, rate, print, (first, mine) => first / mine);
}

export function rawCostsTable(entries) {
  const cost = ({ documents, server_cpu_ms }) => (server_cpu_ms / documents) * PER_DOCUMENTS;
  return sideBySide(entries, cost, (value) => ms(value), (first, mine) => mine / first);
}
