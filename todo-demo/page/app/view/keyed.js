/**
 * Brings the children of an element in line with a list, keeping the elements that stay, and so
 * their focus, their open editors and their scroll positions.
 *
 * @param {HTMLElement} parent
 * @param {HTMLElement[]} wanted
 */
export function arrange(parent, wanted) {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  const keeps = new Set(wanted);
  for (const child of [...parent.children]) {
    if (!keeps.has(/** @type {HTMLElement} */ (child))) child.remove();
  }
  for (const [n, element] of wanted.entries()) {
    if (parent.children[n] !== element) parent.insertBefore(element, parent.children[n] ?? null);
  }
  // An element that is moved in the page loses the focus.
  if (focused && focused !== document.activeElement && parent.contains(focused)) focused.focus();
}
