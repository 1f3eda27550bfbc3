/** Light or dark: as the system says, until the button says otherwise. */

import { find } from './dom.js';

const PLACE = 'todo.theme';

export function setUpTheme() {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const show = () => {
    const theme = localStorage.getItem(PLACE) ?? (system.matches ? 'dark' : 'light');
    document.documentElement.dataset.theme = theme;
    const button = find('#theme');
    button.setAttribute('aria-pressed', String(theme === 'dark'));
  };
  find('#theme').addEventListener('click', () => {
    const isDark = document.documentElement.dataset.theme === 'dark';
    localStorage.setItem(PLACE, isDark ? 'light' : 'dark');
    show();
  });
  system.addEventListener('change', show);
  show();
}
