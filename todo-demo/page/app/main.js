/** Puts the parts together. */

import { Lists } from './store/lists.js';
import { Gateway } from './sync/gateway.js';
import { keepShell } from './offline_shell.js';
import { find } from './view/dom.js';
import { ListView } from './view/list_view.js';
import { ListsView } from './view/lists_view.js';
import { setUpKeyboard } from './view/keyboard.js';
import { setUpTheme } from './view/theme.js';
import { StatusLine } from './view/status_line.js';

setUpTheme();
takeTokenFromAddress();

const lists = new Lists();
const gateway = new Gateway(location.origin);
const listView = new ListView();
const listsView = new ListsView(lists);
new StatusLine(gateway, lists);
setUpKeyboard(listView);

listsView.addEventListener('select', () => listView.open(listsView.selected?.list));
lists.addEventListener('opened', (/** @type {any} */ { detail }) => gateway.follow(detail.db));
lists.addEventListener('closed', async (/** @type {any} */ { detail }) => {
  await gateway.unfollow(detail.name);
  await detail.destroy();
});

await lists.open();
await gateway.follow(lists.db);
document.documentElement.dataset.ready = '';
if (await keepShell()) find('#kept').hidden = false;

/** `#token=…` in the address that `todo-demo/start` prints: taken once, and out of sight. */
function takeTokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (!token) return;
  localStorage.setItem('todo.token', token);
  history.replaceState(null, '', location.pathname);
}
