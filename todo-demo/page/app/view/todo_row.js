/** One to-do of the list on the page. */

import { h, icon, iconButton } from './dom.js';
import { digestOf, imageOf } from './thumbnail.js';
import { TodoEditor } from './todo_editor.js';

/** @typedef {import('../store/list.js').Todo} Todo */

/**
 * What a row asks of the view that it stands in.
 * @typedef {object} Actions
 * @property {(todo: Todo) => void} remove
 * @property {(todo: Todo) => void} choose Opens the conflict view.
 * @property {(todo: Todo) => void} enlarge Shows the image.
 * @property {(event: PointerEvent, row: TodoRow) => void} drag
 */

export class TodoRow {
  #list;
  #actions;
  /** @type {Todo} */
  #todo;
  #digest = '';
  /** @type {TodoEditor | undefined} */
  #editor;
  #check;
  #grip;
  #edit;
  #remove;
  #title = h('span', { class: 'title' });
  #note = h('span', { class: 'note' });
  #image = h('span', { class: 'image' });
  #badge = h('span', { class: 'badge' });
  #parts;

  /**
   * @param {import('../store/list.js').TodoList} list
   * @param {Todo} todo
   * @param {Actions} actions
   */
  constructor(list, todo, actions) {
    this.#list = list;
    this.#todo = todo;
    this.#actions = actions;
    this.#check = h('input', { type: 'checkbox', onchange: () => this.#complete() });
    this.#grip = iconButton('grip', '', { class: 'grip' });
    this.#grip.addEventListener('pointerdown', (event) => actions.drag(event, this));
    const edit = () => this.edit();
    this.#edit = iconButton('edit', '', { class: 'edit', onclick: edit });
    this.#remove = iconButton('remove', '', { class: 'remove', onclick: () => actions.remove(this.#todo) });
    const text = h('button', { type: 'button', class: 'text', onclick: edit }, this.#title, this.#note);
    const check = h('label', { class: 'check' }, this.#check);
    const more = h('span', { class: 'more' }, this.#edit, this.#remove);
    this.#parts = [this.#grip, check, text, this.#image, this.#badge, more];
    this.element = h('li', { class: 'todo', 'data-id': todo.doc._id }, ...this.#parts);
    this.update(todo);
  }

  get id() {
    return this.#todo.doc._id;
  }

  get todo() {
    return this.#todo;
  }

  /** @param {Todo} todo */
  update(todo) {
    this.#todo = todo;
    const { title, note = '', done } = todo.doc;
    this.element.classList.toggle('done', done);
    this.#check.checked = done;
    this.#check.setAttribute('aria-label', `Done: ${title}`);
    this.#title.textContent = title;
    this.#note.textContent = note;
    this.#note.hidden = note === '';
    label(this.#grip, `Move ${title}: Alt with up or down`);
    label(this.#edit, `Edit ${title}`);
    label(this.#remove, `Delete ${title}`);
    this.#showImage();
    this.#showBadge();
  }

  edit() {
    if (this.#editor) return;
    this.#editor = new TodoEditor(this.#list, this.#todo.doc, () => this.#edited());
    this.element.classList.add('editing');
    this.element.replaceChildren(this.#editor.element);
    this.#editor.focus();
  }

  #edited() {
    this.#editor = undefined;
    this.element.classList.remove('editing');
    this.element.replaceChildren(...this.#parts);
    this.focus('.text');
  }

  /** @param {string} selector Of the control to focus. */
  focus(selector) {
    /** @type {HTMLElement | null} */ (this.element.querySelector(selector))?.focus();
  }

  #complete() {
    this.#list.change(this.id, { done: this.#check.checked });
  }

  #showImage() {
    const { doc } = this.#todo;
    const digest = digestOf(doc) ?? '';
    if (digest === this.#digest) return;
    this.#digest = digest;
    const show = () => this.#actions.enlarge(this.#todo);
    const attributes = { type: 'button', class: 'enlarge', 'aria-label': `Show the image of ${doc.title}`, onclick: show };
    const button = digest && h('button', attributes, imageOf(this.#list, doc, 'thumbnail'));
    this.#image.replaceChildren(...(button ? [button] : []));
  }

  #showBadge() {
    const count = this.#todo.versions.length;
    if (count === 0) {
      this.#badge.replaceChildren();
      return;
    }
    const text = `${count} versions`;
    if (this.#badge.textContent === text) return;
    const choose = () => this.#actions.choose(this.#todo);
    const attributes = { type: 'button', class: 'conflict', onclick: choose, title: 'Changed in two places: choose' };
    this.#badge.replaceChildren(h('button', attributes, icon('versions'), text));
  }
}

/**
 * @param {HTMLElement} button
 * @param {string} text
 */
function label(button, text) {
  button.setAttribute('aria-label', text);
  button.title = text;
}
