/** Says something to screen readers, and with an offer also to everybody: "Deleted. Undo". */

import { find, h } from './dom.js';

const SHOWN_MS = 8_000;

/** @param {string} text */
export function announce(text) {
  find('#announcements').textContent = text;
}

/** @type {any} */
let timer;

/**
 * @param {string} text
 * @param {string} offer
 * @param {() => void} accept
 */
export function offer(text, offer, accept) {
  announce(`${text} ${offer}: Control Z.`);
  const close = () => {
    clearTimeout(timer);
    find('#toast').replaceChildren();
    document.removeEventListener('keydown', undo);
  };
  const take = () => {
    close();
    accept();
  };
  const undo = (/** @type {KeyboardEvent} */ event) => {
    const isTyping = event.target instanceof HTMLElement && event.target.matches('input[type=text], textarea');
    if (event.key !== 'z' || !(event.ctrlKey || event.metaKey) || isTyping) return;
    event.preventDefault();
    take();
  };
  find('#toast').dispatchEvent(new Event('replaced'));
  clearTimeout(timer);
  const button = h('button', { type: 'button', class: 'link', onclick: take }, offer);
  find('#toast').replaceChildren(h('div', { class: 'toast' }, h('span', {}, text), button));
  find('#toast').addEventListener('replaced', close, { once: true });
  document.addEventListener('keydown', undo);
  timer = setTimeout(close, SHOWN_MS);
}
