/** Says something to screen readers, and with an offer also to everybody: "Deleted. Undo". */

import { find, h } from './dom.js';

const SHOWN_MS = 8_000;

/** Takes the offer away that is shown. */
let withdraw = () => {};

/** @param {string} text */
export function announce(text) {
  find('#announcements').textContent = text;
}

/** What was offered belongs to something that is not shown any more. */
export function dismiss() {
  withdraw();
}

/**
 * Shows an offer for a while; there is one at a time.
 * @param {string} text
 * @param {string} label
 * @param {() => void} accept
 */
export function offer(text, label, accept) {
  withdraw();
  const ends = new AbortController();
  const timer = setTimeout(() => withdraw(), SHOWN_MS);
  withdraw = () => {
    ends.abort();
    clearTimeout(timer);
    find('#toast').replaceChildren();
    withdraw = () => {};
  };
  const take = () => {
    withdraw();
    accept();
  };
  const button = h('button', { type: 'button', class: 'link', onclick: take }, label);
  find('#toast').replaceChildren(h('div', { class: 'toast' }, h('span', {}, text), button));
  const key = (/** @type {KeyboardEvent} */ event) => {
    const isTyping = event.target instanceof HTMLElement && event.target.matches('input[type=text], textarea');
    if (event.key !== 'z' || !(event.ctrlKey || event.metaKey) || isTyping) return;
    event.preventDefault();
    take();
  };
  document.addEventListener('keydown', key, { signal: ends.signal });
  announce(`${text} ${label}: Control Z.`);
}
