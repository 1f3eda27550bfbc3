/** Keeps the page's own files, so that a reload works while the gateway is away. */

/** As in service-worker.js. */
const SHELL = 'todo-shell';

export async function keepShell() {
  if (!('serviceWorker' in navigator)) return;
  await navigator.serviceWorker.register('service-worker.js');
  const cache = await caches.open(SHELL);
  const loaded = performance.getEntriesByType('resource').map(({ name }) => name);
  const own = loaded.filter((name) => name.startsWith(location.origin) && !name.includes('service-worker'));
  await cache.addAll([location.origin + location.pathname, ...new Set(own)]);
}
