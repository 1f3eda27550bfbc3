/**
 * Moves a row with the pointer: the row itself travels through the list, and where it is let go it
 * stays.
 *
 * @param {PointerEvent} event The press on the row's grip.
 * @param {HTMLElement} row
 * @param {() => void} dropped Told once, and only if the row moved.
 * @returns {Promise<void>} Resolves when the pointer is up.
 */
export function drag(event, row, dropped) {
  const grip = /** @type {HTMLElement} */ (event.currentTarget);
  if (event.button !== 0) return Promise.resolve();
  event.preventDefault();
  grip.focus();
  const ends = new AbortController();
  const began = row.nextElementSibling;
  row.classList.add('dragged');
  const listen = (/** @type {string} */ name, /** @type {(event: any) => void} */ listener) =>
    window.addEventListener(name, listener, { signal: ends.signal });
  return new Promise((resolve) => {
    const finish = (/** @type {boolean} */ isKept) => {
      ends.abort();
      row.classList.remove('dragged');
      const hasMoved = row.nextElementSibling !== began;
      if (isKept && hasMoved) dropped();
      else if (hasMoved) row.parentElement?.insertBefore(row, began);
      resolve();
    };
    listen('pointermove', ({ clientY }) => follow(row, clientY));
    listen('pointerup', () => finish(true));
    listen('pointercancel', () => finish(false));
    listen('keydown', ({ key }) => key === 'Escape' && finish(false));
  });
}

/**
 * @param {HTMLElement} row
 * @param {number} y
 */
function follow(row, y) {
  const above = () => row.previousElementSibling;
  const below = () => row.nextElementSibling;
  // A quick pointer passes several rows between two events.
  for (let next = above(); next && y < middle(next); next = above()) next.before(row);
  for (let next = below(); next && y > middle(next); next = below()) next.after(row);
  row.scrollIntoView({ block: 'nearest' });
}

/** @param {Element} element */
function middle(element) {
  const { top, height } = element.getBoundingClientRect();
  return top + height / 2;
}
