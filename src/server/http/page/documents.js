/** A database's documents, and one document with its revisions. */

import { database, ids, revisions } from './ask.js';
import { bytes, count, make, table } from './make.js';
import { kindOf, leavesOf, short, treeImage } from './tree.js';

const PAGE = 50;

export const linkTo = (...pieces) => `#/${pieces.map(encodeURIComponent).join('/')}`;

function crumbs(...links) {
  const items = links.map(([text, href], at) => {
    const current = at === links.length - 1 ? { 'aria-current': 'page' } : {};
    return make('li', {}, make('a', { href, ...current }, text));
  });
  return make('nav', { 'aria-label': 'Where this is' }, make('ol', { class: 'crumbs' }, items));
}

/** The documents of a database from an id on, one page. */
export async function databaseView(name, from) {
  const [info, page] = await Promise.all([database(name), ids(name, PAGE + 1, from)]);
  const find = make('input', { id: 'find', name: 'find', autocomplete: 'off', spellcheck: 'false' });
  const go = (event) => {
    event.preventDefault();
    if (find.value !== '') location.hash = linkTo(name, 'doc', find.value);
  };
  const rows = page.rows.slice(0, PAGE).map((row) => [
    make('a', { href: linkTo(name, 'doc', row.id) }, row.id),
    make('code', {}, short(row.value.rev)),
  ]);
  const more = page.rows[PAGE];
  return [
    crumbs(['Gateway', '#/'], [name, linkTo(name)]),
    make('h1', {}, name),
    make('p', { class: 'facts' },
      `${count(info.doc_count, 'document')}, ${info.doc_del_count.toLocaleString('en')} deleted; `,
      `bodies ${bytes(info.sizes.active)}, with old ones ${bytes(info.sizes.file)}`),
    make('form', { class: 'find', submit: go },
      make('label', { for: 'find' }, 'Open a document by its id'), find, make('button', {}, 'Open')),
    table('Documents', ['Id', 'Winning revision'], rows, 'No documents from here on.'),
    make('p', { class: 'turn' },
      from === undefined ? null : make('a', { href: linkTo(name) }, 'To the first'),
      more ? make('a', { href: linkTo(name, 'from', more.id) }, 'Further documents') : null),
  ];
}

function bodyText(document) {
  const { _revisions, ...rest } = document;
  return JSON.stringify(rest, null, 2);
}

/** One document: its tree, and the revision that is chosen. */
export async function documentView(name, id) {
  const leaves = leavesOf(await revisions(name, id));
  const head = [
    crumbs(['Gateway', '#/'], [name, linkTo(name)], [id, linkTo(name, 'doc', id)]),
    make('h1', {}, id),
  ];
  if (leaves.length === 0) return [...head, make('p', { class: 'empty' }, 'There is no such document.')];
  const tree = make('div', { class: 'scroll' });
  const body = make('pre', { id: 'body', tabindex: '0', 'aria-label': 'The revision as JSON' });
  const title = make('h2', { id: 'chosen' });
  const list = make('ul', { class: 'leaves', 'aria-label': 'Leaves' });
  const show = async (rev) => {
    const focused = document.activeElement?.closest?.('[data-rev]') != null;
    tree.replaceChildren(treeImage(leaves, rev, show));
    list.replaceChildren(...leaves.map((leaf, at) => {
      const pressed = String(leaf.rev === rev);
      const pick = { type: 'button', 'aria-pressed': pressed, click: () => show(leaf.rev) };
      const kind = kindOf(leaf, at);
      return make('li', {}, make('button', pick, make('code', {}, short(leaf.rev)),
        make('span', { class: `kind ${kind.replace(', ', '-')}` }, kind)));
    }));
    if (focused) tree.querySelector('[aria-pressed=true]')?.focus();
    title.textContent = rev;
    const leaf = leaves.find((one) => one.rev === rev);
    const found = leaf ? [leaf.document] : await revisions(name, id, rev).catch(() => []);
    // Another one may have been chosen meanwhile.
    if (title.textContent !== rev) return;
    body.classList.toggle('gone', found.length === 0);
    body.textContent = found.length === 0 ? 'Its body is no longer stored: compaction took it.' : bodyText(found[0]);
  };
  await show(leaves[0].rev);
  const conflicts = leaves.filter((leaf, at) => at > 0 && !leaf.deleted).length;
  const told = conflicts === 0 ? 'No conflicts.' : `${count(conflicts, 'conflict')}.`;
  return [...head, make('p', { class: 'facts' }, told), tree, list, title, body];
}
