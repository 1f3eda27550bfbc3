/**
 * Elements made one by one. What a client wrote becomes text or the value of an attribute here, and
 * never markup.
 */

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

/** An HTML element; an attribute that is a function listens to the event of its name. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** A table of rows of cells; where it is narrow each cell names its column. */
export function table(caption, columns, rows, empty) {
  if (rows.length === 0) return make('p', { class: 'empty' }, empty);
  const heads = columns.map((column) => make('th', { scope: 'col' }, column));
  const cells = (row) => row.map((cell, at) => make('td', { 'data-column': columns[at] }, cell));
  return make(
    'table',
    { 'aria-label': caption },
    make('thead', {}, make('tr', {}, heads)),
    make('tbody', {}, rows.map((row) => make('tr', {}, cells(row)))),
  );
}

export function bytes(count) {
  if (count == null) return '';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit > 0 && count < 10 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export function count(number, one, many = `${one}s`) {
  return `${Number(number).toLocaleString('en')} ${number === 1 ? one : many}`;
}

export function time(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}
