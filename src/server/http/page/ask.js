/** Questions to the gateway, with the session's cookie. */

const BASE = new URL('..', document.baseURI);

export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

/** The JSON of an answer; a {@link Refused} says why there is none. */
export async function ask(path, { method = 'GET', body } = {}) {
  const headers = { accept: 'application/json' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  const response = await fetch(new URL(path, BASE), {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: 'same-origin',
    cache: 'no-store',
  });
  const text = await response.text();
  let json = {};
  try {
    json = JSON.parse(text);
  } catch {
    // Whoever answered was not the gateway: a proxy, perhaps. Its status says enough.
  }
  if (!response.ok) throw new Refused(response.status, json.reason ?? `the gateway answered ${response.status}`);
  return json;
}

export const logIn = (name, password) => ask('_session', { method: 'POST', body: { name, password } });

export const logOut = () => ask('_session', { method: 'DELETE' });

export const status = () => ask('_settee/status');

/** At most so many databases, from a name on. */
export function databases(limit, from) {
  const start = from === undefined ? '' : `&startkey=${encodeURIComponent(JSON.stringify(from))}`;
  return ask(`_dbs_info?limit=${limit}${start}`);
}

/** Whether this gateway has been found not to replicate. */
let withoutJobs = false;

/** What replicates here; nothing from a gateway that does not. */
export async function jobs() {
  if (withoutJobs) return [];
  try {
    return await ask('_active_tasks');
  } catch (error) {
    withoutJobs = error instanceof Refused && [404, 501].includes(error.status);
    if (!withoutJobs) throw error;
    return [];
  }
}

export const database = (name) => ask(encodeURIComponent(name));

export function ids(name, limit, from) {
  const start = from === undefined ? {} : { startkey: from };
  return ask(`${encodeURIComponent(name)}/_all_docs`, { method: 'POST', body: { limit, ...start } });
}

/** Leaves with their histories, or one revision. The id is in the body, where it may be anything. */
export async function revisions(name, id, rev) {
  const body = { docs: [rev === undefined ? { id } : { id, rev }] };
  const found = await ask(`${encodeURIComponent(name)}/_bulk_get?revs=true`, { method: 'POST', body });
  return found.results[0].docs.filter((one) => one.ok).map((one) => one.ok);
}
