/** The form that a to-do turns into while it is edited. */

import { IMAGE_BYTES_MAX, isConflict } from '../store/list.js';
import { h } from './dom.js';
import { digestOf, imageOf, showBlob } from './thumbnail.js';

/** @typedef {import('../store/list.js').TodoDoc} TodoDoc */

export class TodoEditor {
  #list;
  #doc;
  #done;
  /** As `TodoList.save` takes it. @type {File | null | undefined} */
  #image;
  #title;
  #note;
  #picture = h('div', { class: 'picture' });
  #message = h('p', { class: 'message', role: 'alert' });

  /**
   * @param {import('../store/list.js').TodoList} list
   * @param {TodoDoc} doc The revision that is edited.
   * @param {() => void} done
   */
  constructor(list, doc, done) {
    this.#list = list;
    this.#doc = doc;
    this.#done = done;
    this.#title = h('input', { type: 'text', name: 'title', required: true, maxlength: 500, autocomplete: 'off' });
    this.#title.value = doc.title;
    this.#note = h('textarea', { name: 'note', rows: 3, maxlength: 10_000 });
    this.#note.value = doc.note ?? '';
    this.element = this.#form();
    this.#showPicture();
  }

  focus() {
    this.#title.focus();
    this.#title.select();
  }

  #form() {
    const file = h('input', {
      type: 'file',
      accept: 'image/*',
      class: 'visually-hidden',
      onchange: () => this.#choose(file.files?.[0]),
    });
    return h(
      'form',
      {
        class: 'editor',
        'aria-label': `Edit ${this.#doc.title}`,
        onsubmit: (/** @type {Event} */ event) => this.#submit(event),
        onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
        onpaste: (/** @type {ClipboardEvent} */ event) => this.#choose(event.clipboardData?.files[0]),
      },
      h('label', { class: 'field' }, h('span', {}, 'To-do'), this.#title),
      h('label', { class: 'field' }, h('span', {}, 'Note'), this.#note),
      this.#picture,
      h('label', { class: 'button file' }, file, 'Choose an image'),
      h('span', { class: 'hint' }, 'or paste one'),
      this.#message,
      h(
        'div',
        { class: 'actions' },
        h('button', { type: 'submit', class: 'button primary' }, 'Save'),
        h('button', { type: 'button', class: 'button', onclick: () => this.#done() }, 'Cancel'),
      ),
    );
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    event.stopPropagation();
    if (event.key === 'Escape') this.#done();
    else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) this.#submit(event);
  }

  /** @param {File | undefined} file */
  #choose(file) {
    if (!file) return;
    if (!file.type.startsWith('image/')) this.#say('That is not an image.');
    else if (file.size > IMAGE_BYTES_MAX) this.#say('That image is larger than 5 MB.');
    else {
      this.#say('');
      this.#image = file;
      this.#showPicture();
    }
  }

  #showPicture() {
    const remove = () => {
      this.#image = null;
      this.#showPicture();
    };
    const image = this.#shownImage();
    const button = h('button', { type: 'button', class: 'button', onclick: remove }, 'Remove it');
    this.#picture.replaceChildren(...(image ? [image, button] : []));
  }

  #shownImage() {
    if (this.#image) {
      const image = h('img', { class: 'preview', alt: 'The image you chose' });
      showBlob(image, this.#image);
      return image;
    }
    const isKept = this.#image === undefined && digestOf(this.#doc);
    return isKept ? imageOf(this.#list, this.#doc, 'preview') : undefined;
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    const title = this.#title.value.trim();
    if (!title) return;
    try {
      await this.#list.save(this.#doc, { title, note: this.#note.value.trim() }, this.#image);
      this.#done();
    } catch (error) {
      if (isConflict(error)) this.#overtaken();
      else this.#say(`Not saved: ${/** @type {any} */ (error).message}`);
    }
  }

  /** Somebody else's edit came while this one was being made: it is shown before it is replaced. */
  #overtaken() {
    const latest = this.#list.find(this.#doc._id)?.doc;
    if (!latest) {
      this.#say('This to-do was deleted meanwhile.');
      return;
    }
    this.#doc = latest;
    this.#say(`${latest.by} changed this meanwhile to “${latest.title}”. Save again to replace that.`);
  }

  /** @param {string} text */
  #say(text) {
    this.#message.textContent = text;
  }
}
