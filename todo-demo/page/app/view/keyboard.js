/** Keys that work wherever the focus is; in a field they are letters. */

import { find } from './dom.js';

/**
 * @param {import('./list_view.js').ListView} view
 */
export function setUpKeyboard(view) {
  document.addEventListener('keydown', (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (document.querySelector('dialog[open]')) return;
    if (view.key(event)) event.preventDefault();
    if (target.matches('input:not([type=checkbox]):not([type=radio]), textarea, select')) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'n') {
      event.preventDefault();
      view.focusInput();
    } else if (event.key === '?') find('#help-dialog').showModal();
  });
  find('#help').addEventListener('click', () => find('#help-dialog').showModal());
}
