/**
 * Single messages of settee.v1: JSON arrays with the verb first, and binary pieces of attachments.
 */

import { broken } from './errors.js';

/** The WebSocket subprotocol's name. */
export const SUBPROTOCOL = 'settee.v1';

/** Bytes before an attachment's bytes: a flag for the last piece, the channel, the call. */
const PIECE_HEADER_BYTES = 9;

/**
 * @param {string} verb
 * @param {...any} elements
 */
export function encode(verb, ...elements) {
  return JSON.stringify([verb, ...elements]);
}

/**
 * A call whose parameters are JSON text already.
 * @param {number} channel
 * @param {number} call
 * @param {string} method
 * @param {string} params
 */
export function encodeCall(channel, call, method, params) {
  return `["call",${channel},${call},"${method}",${params}]`;
}

/**
 * @param {string} text
 * @returns {any[]} The verb and what follows it.
 */
export function decode(text) {
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw broken('a message was not JSON');
  }
  if (!Array.isArray(message) || typeof message[0] !== 'string') {
    throw broken('a message was not an array with a verb first');
  }
  return message;
}

/**
 * @param {number} channel
 * @param {number} call
 * @param {boolean} last
 * @param {Uint8Array} bytes
 */
export function encodePiece(channel, call, last, bytes) {
  const message = new Uint8Array(PIECE_HEADER_BYTES + bytes.length);
  const view = new DataView(message.buffer);
  view.setUint8(0, last ? 1 : 0);
  view.setUint32(1, channel);
  view.setUint32(5, call);
  message.set(bytes, PIECE_HEADER_BYTES);
  return message;
}

/**
 * @param {ArrayBuffer} message
 * @returns {{channel: number, call: number, last: boolean, bytes: Uint8Array}}
 */
export function decodePiece(message) {
  const view = new DataView(message);
  if (message.byteLength < PIECE_HEADER_BYTES || view.getUint8(0) > 1) {
    throw broken('a binary message must begin with 0 or 1, a channel and a call');
  }
  const bytes = new Uint8Array(message, PIECE_HEADER_BYTES);
  return { channel: view.getUint32(1), call: view.getUint32(5), last: view.getUint8(0) === 1, bytes };
}
