/** The lists there are, and the one that is chosen: shown, named, renamed, deleted. */

import { announce } from './announce.js';
import { find, h, icon } from './dom.js';
import { arrange } from './keyed.js';

/** @typedef {import('../store/lists.js').ListEntry} ListEntry */

const PLACE = 'todo.selected';

/** Events: `select`. */
export class ListsView extends EventTarget {
  #lists;
  #element = find('#lists');
  /** @type {Map<string, HTMLElement>} */
  #items = new Map();
  #selected = localStorage.getItem(PLACE) ?? '';
  #changed = () => this.show();

  /** @param {import('../store/lists.js').Lists} lists */
  constructor(lists) {
    super();
    this.#lists = lists;
    lists.addEventListener('change', this.#changed);
    lists.addEventListener('opened', (/** @type {any} */ { detail }) =>
      detail.addEventListener('change', this.#changed),
    );
    find('#add-list').addEventListener('submit', (/** @type {Event} */ event) => this.#add(event));
    find('#list-name').addEventListener('change', () => this.#rename());
    find('#delete-list').addEventListener('click', () => this.#ask());
    find('#confirm-delete').addEventListener('click', () => this.#remove());
  }

  /** @returns {ListEntry | undefined} */
  get selected() {
    const { entries } = this.#lists;
    return entries.find(({ id }) => id === this.#selected) ?? entries[0];
  }

  show() {
    const { entries, isFull, isOpen } = this.#lists;
    // Which of them to show can be said only when all are there.
    if (!isOpen) return;
    const { selected } = this;
    // A list that comes, or gets another name, does not push the shown one away.
    this.#selected = selected?.id ?? '';
    arrange(this.#element, entries.map((entry) => this.#item(entry, entry === selected)));
    for (const id of this.#items.keys()) {
      if (!entries.some((entry) => entry.id === id)) this.#items.delete(id);
    }
    const name = find('#list-name');
    if (document.activeElement !== name) name.value = selected?.name ?? '';
    find('#main').classList.toggle('without-list', !selected);
    find('#new-list').disabled = isFull;
    find('#new-list').placeholder = isFull ? 'No more lists fit' : 'New list';
    this.dispatchEvent(new Event('select'));
  }

  /** @param {string} id */
  select(id) {
    this.#selected = id;
    localStorage.setItem(PLACE, id);
    this.show();
    this.#items.get(id)?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }

  /**
   * @param {ListEntry} entry
   * @param {boolean} isSelected
   */
  #item({ id, name, list }, isSelected) {
    const item = this.#items.get(id) ?? this.#newItem(id);
    const button = /** @type {HTMLElement} */ (item.firstElementChild);
    const { todos } = list;
    const open = todos.filter(({ doc }) => !doc.done).length;
    const hasConflicts = todos.some(({ versions }) => versions.length > 0);
    button.toggleAttribute('aria-current', isSelected);
    const label = h('span', { class: 'name' }, name);
    const spoken = h('span', { class: 'visually-hidden' }, ' open');
    const count = h('span', { class: 'count' }, String(open), spoken);
    const mark = hasConflicts && h('span', { class: 'mark', title: 'Something has two versions' }, icon('versions'));
    button.replaceChildren(label, ...(mark ? [mark] : []), count);
    return item;
  }

  /** @param {string} id */
  #newItem(id) {
    const button = h('button', { type: 'button', onclick: () => this.select(id) });
    const item = h('li', { 'data-id': id }, button);
    this.#items.set(id, item);
    return item;
  }

  /** @param {Event} event */
  async #add(event) {
    event.preventDefault();
    const input = find('#new-list');
    const name = input.value.trim();
    if (!name) return;
    input.value = '';
    const id = await this.#lists.add(name);
    this.select(id);
    announce(`Made the list ${name}`);
  }

  async #rename() {
    const name = find('#list-name').value.trim();
    const { selected } = this;
    if (selected && name && name !== selected.name) await this.#lists.rename(selected.id, name);
    this.show();
  }

  #ask() {
    const { selected } = this;
    if (!selected) return;
    const count = selected.list.todos.length;
    const what = count === 1 ? '1 to-do' : `${count} to-dos`;
    find('#delete-question').textContent = `Delete “${selected.name}” with ${what}, in every browser?`;
    find('#delete-dialog').showModal();
  }

  async #remove() {
    const { selected } = this;
    if (selected) await this.#lists.remove(selected.id);
  }
}
