/**
 * SHA-256 (FIPS 180-4). WebCrypto has it too, but only in pages served over TLS.
 */

const ROUNDS = 64;

/**
 * The first 32 bits of the fractional parts of roots of the first primes.
 * @param {number} root
 * @param {number} count
 */
function constants(root, count) {
  const found = [];
  for (let n = 2; found.length < count; n += 1) {
    let prime = true;
    for (let d = 2; d * d <= n; d += 1) if (n % d === 0) prime = false;
    if (prime) found.push(((n ** (1 / root)) % 1) * 2 ** 32 | 0);
  }
  return found;
}

const START = constants(2, 8);
const STEPS = constants(3, ROUNDS);

/**
 * @param {string} text
 * @returns {string} 64 hex digits.
 */
export function sha256(text) {
  const state = Int32Array.from(START);
  const words = padded(new TextEncoder().encode(text));
  const schedule = new Int32Array(ROUNDS);
  for (let from = 0; from < words.length; from += 16) {
    schedule.set(words.subarray(from, from + 16));
    compress(state, schedule);
  }
  return [...state].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}

/** @param {Uint8Array} bytes */
function padded(bytes) {
  const blocks = ((bytes.length + 8) >> 6) + 1;
  const view = new DataView(new ArrayBuffer(blocks * 64));
  bytes.forEach((byte, index) => view.setUint8(index, byte));
  view.setUint8(bytes.length, 0x80);
  view.setUint32(blocks * 64 - 4, bytes.length * 8);
  return Int32Array.from({ length: blocks * 16 }, (_, index) => view.getInt32(index * 4));
}

/**
 * @param {number} word
 * @param {number} by
 */
function rotate(word, by) {
  return (word >>> by) | (word << (32 - by));
}

/**
 * @param {Int32Array} state
 * @param {Int32Array} w The schedule, of which the first 16 words are the block.
 */
function compress(state, w) {
  for (let i = 16; i < ROUNDS; i += 1) {
    const [x, y] = [w[i - 15], w[i - 2]];
    const s0 = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
    const s1 = rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < ROUNDS; i += 1) {
    const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + STEPS[i] + w[i]) | 0;
    const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, index) => (state[index] += word));
}
