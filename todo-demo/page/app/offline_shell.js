/** Keeps the page's own files, so that a reload works while the gateway is away. */

/** As in service-worker.js. */
const SHELL = 'todo-shell';

/** @returns {Promise<boolean>} False where there are no service workers, as on plain HTTP. */
export async function keepShell() {
  if (!('serviceWorker' in navigator)) return false;
  await navigator.serviceWorker.register('service-worker.js');
  await navigator.serviceWorker.ready;
  const cache = await caches.open(SHELL);
  const loaded = performance.getEntriesByType('resource').map(({ name }) => name);
  const own = loaded.filter((name) => name.startsWith(location.origin) && !name.includes('service-worker'));
  await cache.addAll([location.origin + location.pathname, ...new Set(own)]);
  return true;
}
