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
  if (!IN_NODE) return new Blob(/** @type {any} */ (pieces), { type });
  // PouchDB's Buffers name their type as Blobs do.
  return Object.assign(scope.Buffer.concat(pieces), { type });
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

/** Characters of a string made at a time; a multiple of 3, so that pieces of base64 can be joined. */
const CHARS_MAX = 3 * 8192;

/**
 * @param {any} data A Buffer or a Blob.
 * @returns {Promise<string>}
 */
export async function toBase64(data) {
  if (IN_NODE && data instanceof Uint8Array) return scope.Buffer.from(data).toString('base64');
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(await data.arrayBuffer());
  let text = '';
  for (let from = 0; from < bytes.length; from += CHARS_MAX) {
    text += btoa(String.fromCharCode(...bytes.subarray(from, from + CHARS_MAX)));
  }
  return text;
}

/**
 * @param {string} text
 * @returns {Uint8Array}
 */
export function fromBase64(text) {
  let binary;
  try {
    binary = atob(text);
  } catch {
    throw new TypeError('Attachment is not a valid base64 string');
  }
  return Uint8Array.from(binary, (char) => char.charCodeAt(0));
}
