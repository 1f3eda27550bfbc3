/** All versions of one to-do beside each other, what differs marked, and a choice. */

import { differing, FIELDS, valueOf } from '../store/conflicts.js';
import { deviceName } from '../store/device.js';
import { announce } from './announce.js';
import { find, h, timeText } from './dom.js';
import { imageOf } from './thumbnail.js';

/** @typedef {import('../store/list.js').TodoDoc} TodoDoc */
/** @typedef {import('../store/list.js').TodoList} TodoList */

const LABELS = { title: 'To-do', note: 'Note', done: 'Done', image: 'Image' };

/**
 * @param {TodoList} list
 * @param {string} id
 */
export function openConflict(list, id) {
  const dialog = find('#conflict');
  let shown = '';
  const show = () => {
    const versions = list.find(id)?.versions ?? [];
    // Another browser may have chosen, or added a version, while this one looks on.
    if (versions.length === 0) dialog.close();
    const revs = versions.map(({ _rev }) => _rev).join();
    if (revs !== shown) dialog.querySelector('.versions').replaceChildren(...cards(list, versions));
    shown = revs;
  };
  list.addEventListener('change', show);
  dialog.addEventListener('close', () => list.removeEventListener('change', show), { once: true });
  show();
  if (shown) dialog.showModal();
}

/**
 * @param {TodoList} list
 * @param {TodoDoc[]} versions
 */
function cards(list, versions) {
  const unequal = differing(versions);
  const keep = async (/** @type {TodoDoc} */ chosen) => {
    await list.keep(versions, chosen);
    announce(chosen._deleted ? 'Deleted' : `Kept ${chosen.title}`);
  };
  return versions.map((doc, n) => {
    const letter = String.fromCharCode(65 + n);
    const name = `Version ${letter}`;
    const kind = doc._deleted ? 'button danger' : 'button primary';
    const text = doc._deleted ? 'Delete it' : `Keep version ${letter}`;
    const button = h('button', { type: 'button', class: kind, onclick: () => keep(doc) }, text);
    const shownNow = n === 0 && h('span', { class: 'tag' }, 'shown in the list');
    return h(
      'section',
      { class: 'version', 'aria-label': name },
      h('h3', {}, name, shownNow),
      h('p', { class: 'origin' }, origin(doc)),
      doc._deleted ? h('p', { class: 'deleted' }, `“${doc.title}” was deleted.`) : fields(list, doc, unequal),
      button,
    );
  });
}

/** @param {TodoDoc} doc */
function origin(doc) {
  const who = doc.by === deviceName() ? `${doc.by} (this browser)` : doc.by;
  return `${doc._deleted ? 'Deleted' : 'Changed'} by ${who}, ${timeText(doc.deletedAt ?? doc.edited)}`;
}

/**
 * @param {TodoList} list
 * @param {TodoDoc} doc
 * @param {Set<string>} unequal
 */
function fields(list, doc, unequal) {
  const rows = FIELDS.filter((field) => unequal.has(field) || valueOf(doc, field)).map((field) => {
    const differs = unequal.has(field);
    return h(
      'div',
      { class: differs ? 'differs' : 'same' },
      h('dt', {}, LABELS[field], differs && h('span', { class: 'tag' }, 'differs')),
      h('dd', {}, shownValue(list, doc, field)),
    );
  });
  return h('dl', {}, ...rows);
}

/**
 * @param {TodoList} list
 * @param {TodoDoc} doc
 * @param {typeof FIELDS[number]} field
 */
function shownValue(list, doc, field) {
  const value = valueOf(doc, field);
  if (field === 'done') return value ? 'Yes' : 'No';
  if (!value) return h('span', { class: 'nothing' }, 'none');
  return field === 'image' ? imageOf(list, doc, 'preview') : String(value);
}
