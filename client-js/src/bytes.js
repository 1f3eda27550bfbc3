/**
 * Attachments' bytes, as this platform's PouchDB has them: Buffers in Node, Blobs elsewhere.
 */

/** Bytes of a Blob read at a time. */
const SLICE_BYTES = 1024 * 1024;

const scope = /** @type {any} */ (globalThis);

/** PouchDB's build for Node is in use. */
const IN_NODE = typeof scope.process?.versions?.node === 'string' && !scope.window;

/**
 * @param {Uint8Array[]} pieces
 * @param {string} type
 * @returns {any} A Buffer or a Blob.
 */
export function joined(pieces, type) {
  return IN_NODE ? scope.Buffer.concat(pieces) : new Blob(/** @type {any} */ (pieces), { type });
}

/**
 * @param {any} data A Buffer or a Blob.
 * @returns {number}
 */
export function byteLength(data) {
  return data.size ?? data.length;
}

/**
 * @param {any} data A Buffer or a Blob.
 * @returns {AsyncGenerator<Uint8Array>}
 */
export async function* chunksOf(data) {
  if (data instanceof Uint8Array) {
    yield data;
    return;
  }
  for (let from = 0; from < data.size; from += SLICE_BYTES) {
    yield new Uint8Array(await data.slice(from, from + SLICE_BYTES).arrayBuffer());
  }
}
