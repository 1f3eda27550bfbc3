/**
 * Where a to-do stands in its list: a text key, and between any two keys there is another. So moving
 * one to-do writes one document, and two browsers that move different ones do not conflict.
 */

import { generateKeyBetween, generateNKeysBetween } from '/vendor/fractional-indexing.js';

/**
 * Keys may be equal, when two browsers put something in one place while apart; ids then decide.
 * @param {{_id: string, order: string}} a
 * @param {{_id: string, order: string}} b
 */
export function byOrder(a, b) {
  return compare(a.order, b.order) || compare(a._id, b._id);
}

/**
 * The keys to write so that a document stands at `index` among the sorted `others`: its own, and
 * those of later ones that share the key before it.
 * @param {Array<{_id: string, order: string}>} others
 * @param {number} index
 * @returns {{own: string, later: string[]}}
 */
export function keysAt(others, index) {
  const before = others[index - 1]?.order ?? null;
  let end = index;
  while (end < others.length && others[end].order === before) end += 1;
  const after = others[end]?.order ?? null;
  if (end === index) return { own: generateKeyBetween(before, after), later: [] };
  const [own, ...later] = generateNKeysBetween(before, after, end - index + 1);
  return { own, later };
}

/**
 * @param {string} a
 * @param {string} b
 */
function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}
