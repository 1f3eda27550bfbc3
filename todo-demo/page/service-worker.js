/**
 * Serves the page's own files from the cache when the network does not: newest first, so that
 * nobody sees an old page while the gateway is there.
 */

/** As in app/offline_shell.js. */
const SHELL = 'todo-shell';

const worker = /** @type {any} */ (self);

worker.addEventListener('install', () => worker.skipWaiting());
worker.addEventListener('activate', (/** @type {any} */ event) => event.waitUntil(worker.clients.claim()));
worker.addEventListener('fetch', (/** @type {any} */ event) => {
  if (event.request.method === 'GET') event.respondWith(answer(event.request));
});

/** @param {Request} request */
async function answer(request) {
  try {
    return await fetch(request);
  } catch (error) {
    // The client module varies by Origin, which a page sends for scripts but not to fill the cache.
    const cached = await caches.match(request, { cacheName: SHELL, ignoreSearch: true, ignoreVary: true });
    if (cached) return cached;
    throw error;
  }
}
