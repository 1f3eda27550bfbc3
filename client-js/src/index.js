/**
 * PouchDB syncs with a Settee gateway: any number of databases over one WebSocket.
 */

export { createClient, Client } from './client.js';
export { DeniedError, SetteeError } from './errors.js';
export { Events } from './events.js';
export { Objects } from './objects.js';
export { ObjectsView } from './objects-view.js';
export { Room } from './room.js';
export { Sync } from './sync.js';
export { Settee, Settee as default } from './adapter.js';

/** @typedef {import('./adapter.js').AdapterOptions} AdapterOptions */
/** @typedef {import('./objects.js').ObjectsOptions} ObjectsOptions */
/**
 * @template {object} T
 * @typedef {import('./objects.js').Stored<T>} Stored
 */
/** @typedef {import('./objects-view.js').ViewDefinition} ViewDefinition */
/** @typedef {import('./sync.js').SyncOptions} SyncOptions */
/** @typedef {import('./events.js').Targets} Targets */
/** @typedef {import('./events.js').EventNote} EventNote */
/** @typedef {import('./events.js').Identity} Identity */
/** @typedef {import('./room.js').Member} Member */
