/**
 * A name for this browser, which edits carry: "changed by Amber Fox" says more in a conflict than a
 * revision does.
 */

const COLOURS = ['Amber', 'Blue', 'Coral', 'Green', 'Indigo', 'Jade', 'Olive', 'Rose', 'Silver', 'Teal'];
const ANIMALS = ['Badger', 'Crane', 'Dolphin', 'Fox', 'Heron', 'Lynx', 'Otter', 'Owl', 'Robin', 'Seal'];
const PLACE = 'todo.device';

export function deviceName() {
  const known = localStorage.getItem(PLACE);
  if (known) return known;
  const [colour, animal] = crypto.getRandomValues(new Uint32Array(2));
  const name = `${COLOURS[colour % COLOURS.length]} ${ANIMALS[animal % ANIMALS.length]}`;
  localStorage.setItem(PLACE, name);
  return name;
}
