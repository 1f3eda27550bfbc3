/**
 * Documents of which there is more than one version, since they were changed in two places that did
 * not know of each other.
 *
 * The hard case is a deletion against an edit. To PouchDB and CouchDB that is no conflict: the edit
 * wins, and the deletion is silently lost. Here a person's deletion carries `deletedAt`, and so can
 * be told from the tombstones that choosing a version leaves behind.
 */

/** @typedef {import('./list.js').TodoDoc} TodoDoc */

/** Members that are compared and shown. */
export const FIELDS = /** @type {const} */ (['title', 'note', 'done', 'image']);

/** The attachment that is a to-do's image. */
export const IMAGE = 'image';

/**
 * The versions that somebody must choose from; fewer than two are no conflict. The one that reads
 * return comes first.
 * @param {any} db
 * @param {string} id
 * @returns {Promise<TodoDoc[]>}
 */
export async function versionsOf(db, id) {
  const leaves = await db.get(id, { open_revs: 'all' });
  /** @type {TodoDoc[]} */
  const docs = leaves.flatMap((/** @type {any} */ leaf) => (leaf.ok ? [leaf.ok] : []));
  const open = docs.filter((doc) => !doc._deleted);
  // Where all have deleted there is nothing to choose.
  if (open.length === 0) return [];
  const { _rev: winner } = await db.get(id);
  const deletions = docs.filter((doc) => doc._deleted && doc.deletedAt);
  const first = open.filter((doc) => doc._rev === winner);
  return [...first, ...open.filter((doc) => doc._rev !== winner), ...deletions];
}

/**
 * Members in which the versions differ.
 * @param {TodoDoc[]} versions
 * @returns {Set<string>}
 */
export function differing(versions) {
  const edits = versions.filter((doc) => !doc._deleted);
  const unequal = FIELDS.filter((field) => new Set(edits.map((doc) => valueOf(doc, field))).size > 1);
  return new Set(unequal);
}

/**
 * @param {TodoDoc} doc
 * @param {typeof FIELDS[number]} field
 */
export function valueOf(doc, field) {
  return field === 'image' ? doc._attachments?.[IMAGE]?.digest : doc[field];
}

/**
 * Leaves one version only.
 * @param {any} db
 * @param {TodoDoc[]} versions
 * @param {TodoDoc} chosen One of them.
 * @param {{edited: string, by: string}} signature
 */
export async function keep(db, versions, chosen, signature) {
  const others = versions.filter((doc) => doc._rev !== chosen._rev);
  if (chosen._deleted) {
    for (const doc of others) if (!doc._deleted) await db.put(deletion(doc, signature));
    return;
  }
  // Written anew, and first: if another browser chooses the other version at the same time, both
  // choices stand beside each other again, where two removals alone would have removed everything.
  await db.put({ ...chosen, ...signature });
  for (const { _id, _rev } of others) await db.put({ _id, _rev, _deleted: true });
}

/**
 * A tombstone that says that a person wanted it.
 * @param {TodoDoc} doc
 * @param {{edited: string, by: string}} signature
 */
export function deletion({ _id, _rev, title }, { edited, by }) {
  return { _id, _rev, _deleted: true, title, deletedAt: edited, by };
}
