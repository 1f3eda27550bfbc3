/** Images of to-dos as elements. An image is read from the database once for each digest. */

import { IMAGE } from '../store/conflicts.js';
import { h } from './dom.js';

/** @typedef {import('../store/list.js').TodoDoc} TodoDoc */

/** @param {TodoDoc} doc @returns {string | undefined} */
export function digestOf(doc) {
  return doc._attachments?.[IMAGE]?.digest;
}

/**
 * @param {import('../store/list.js').TodoList} list
 * @param {TodoDoc} doc
 * @param {string} className
 */
export function imageOf(list, doc, className) {
  const image = h('img', { class: className, alt: `Image of ${doc.title}`, decoding: 'async' });
  list.image(doc).then(
    (blob) => showBlob(image, blob),
    // A revision that has just been replaced; the next one is shown in a moment.
    () => image.removeAttribute('src'),
  );
  return image;
}

/**
 * @param {HTMLImageElement} image
 * @param {Blob} blob
 */
export function showBlob(image, blob) {
  const url = URL.createObjectURL(blob);
  const forget = () => URL.revokeObjectURL(url);
  image.addEventListener('load', forget, { once: true });
  image.addEventListener('error', forget, { once: true });
  image.src = url;
}
