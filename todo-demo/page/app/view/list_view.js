/** The list that is shown: its to-dos, the form that adds one, the filter. */

import { announce, dismiss, offer } from './announce.js';
import { openConflict } from './conflict_view.js';
import { find, h } from './dom.js';
import { drag } from './dragging.js';
import { arrange } from './keyed.js';
import { imageOf } from './thumbnail.js';
import { TodoRow } from './todo_row.js';

/** @typedef {import('../store/list.js').Todo} Todo */
/** @typedef {import('../store/list.js').TodoList} TodoList */

/** @type {Record<string, (todo: Todo) => boolean>} */
const FILTERS = {
  all: () => true,
  open: ({ doc }) => !doc.done,
  done: ({ doc }) => doc.done,
};

export class ListView {
  /** @type {TodoList | undefined} */
  #list;
  /** @type {Map<string, TodoRow>} */
  #rows = new Map();
  #filter = 'all';
  #isDragging = false;
  #element = find('#todos');
  #input = find('#new-todo');
  #changed = () => this.show();

  constructor() {
    find('#add-todo').addEventListener('submit', (/** @type {Event} */ event) => this.#add(event));
    find('#filters').addEventListener('change', (/** @type {any} */ event) => {
      this.#filter = event.target.value;
      this.show();
    });
  }

  /** @param {TodoList | undefined} list */
  open(list) {
    if (list === this.#list) return;
    this.#list?.removeEventListener('change', this.#changed);
    this.#list = list;
    this.#rows.clear();
    this.#element.replaceChildren();
    dismiss();
    list?.addEventListener('change', this.#changed);
    this.show();
  }

  show() {
    if (this.#isDragging) return;
    const todos = this.#list?.todos ?? [];
    const shown = todos.filter(FILTERS[this.#filter]);
    const rows = shown.map((todo) => this.#row(todo));
    for (const id of this.#rows.keys()) {
      if (!todos.some(({ doc }) => doc._id === id)) this.#rows.delete(id);
    }
    arrange(this.#element, rows.map(({ element }) => element));
    for (const [name, passes] of Object.entries(FILTERS)) {
      find(`#count-${name}`).textContent = String(todos.filter(passes).length);
    }
    find('#empty').hidden = rows.length > 0;
    find('#empty').textContent = todos.length > 0 ? 'Nothing here with this filter.' : 'Nothing to do yet.';
  }

  focusInput() {
    this.#input.focus();
  }

  /**
   * A key that was pressed on a row. Returns whether it meant something.
   * @param {KeyboardEvent} event
   */
  key(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const element = /** @type {HTMLElement | null} */ (target.closest('.todo'));
    const row = element && this.#rows.get(element.dataset.id ?? '');
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!row || row.element.classList.contains('editing')) return false;
    if (step && event.altKey) this.#step(row, step);
    else if (step) this.#walk(row, step, target);
    else if (event.key === 'Delete') this.#remove(row.todo);
    else return false;
    return true;
  }

  /** @param {Todo} todo */
  #row(todo) {
    const known = this.#rows.get(todo.doc._id);
    known?.update(todo);
    const list = /** @type {TodoList} */ (this.#list);
    const row = known ?? new TodoRow(list, todo, {
      remove: (one) => this.#remove(one),
      choose: (one) => openConflict(list, one.doc._id),
      enlarge: (one) => enlarge(list, one),
      drag: (event, dragged) => this.#drag(event, dragged),
    });
    this.#rows.set(todo.doc._id, row);
    return row;
  }

  /** @param {Event} event */
  async #add(event) {
    event.preventDefault();
    const title = this.#input.value.trim();
    if (!title || !this.#list) return;
    this.#input.value = '';
    await this.#list.add(title);
    announce(`Added ${title}`);
  }

  /** @param {Todo} todo */
  async #remove({ doc }) {
    const list = /** @type {TodoList} */ (this.#list);
    const hadFocus = this.#rows.get(doc._id)?.element.contains(document.activeElement);
    const next = this.#rows.get(doc._id)?.element.nextElementSibling;
    await list.remove(doc);
    if (hadFocus) this.#focusText(next) || this.focusInput();
    offer(`Deleted “${doc.title}”.`, 'Undo', () => list.restore(doc));
  }

  /**
   * @param {TodoRow} row
   * @param {number} step
   */
  async #step(row, step) {
    const visible = [...this.#element.children];
    const index = visible.indexOf(row.element) + step;
    const neighbour = visible[index]?.dataset.id;
    if (!neighbour) return;
    await this.#list?.move(row.id, step > 0 ? { after: neighbour } : { before: neighbour });
    announce(`Moved to ${index + 1} of ${visible.length}`);
  }

  /**
   * To the same control of the next row.
   * @param {TodoRow} row
   * @param {number} step
   * @param {HTMLElement} target
   */
  #walk(row, step, target) {
    const visible = [...this.#element.children];
    const next = visible[visible.indexOf(row.element) + step];
    if (!next) {
      if (step < 0) this.focusInput();
      return;
    }
    const same = target.matches('input') ? 'input' : `.${target.classList[target.classList.length - 1]}`;
    /** @type {HTMLElement | null} */ (next.querySelector(same))?.focus() ?? this.#focusText(next);
  }

  /** @param {any} row */
  #focusText(row) {
    const text = row?.querySelector('.text');
    text?.focus();
    return Boolean(text);
  }

  /**
   * @param {PointerEvent} event
   * @param {TodoRow} row
   */
  async #drag(event, row) {
    const { element, id } = row;
    this.#isDragging = true;
    const dropped = () => {
      const above = /** @type {HTMLElement | null} */ (element.previousElementSibling);
      const below = /** @type {HTMLElement | null} */ (element.nextElementSibling);
      if (above) this.#list?.move(id, { after: above.dataset.id ?? '' });
      else if (below) this.#list?.move(id, { before: below.dataset.id ?? '' });
    };
    await drag(event, element, dropped);
    this.#isDragging = false;
  }
}

/**
 * @param {TodoList} list
 * @param {Todo} todo
 */
function enlarge(list, { doc }) {
  const dialog = find('#picture');
  dialog.querySelector('.frame').replaceChildren(imageOf(list, doc, 'large'), h('p', {}, doc.title));
  dialog.showModal();
}
