/**
 * One true state out of those of all syncs.
 */

/**
 * @typedef {'switched-off' | 'auth-needed' | 'offline' | 'failed' | 'catching-up' | 'some-denied' | 'up-to-date'} State
 */

/**
 * What is known of one database's sync.
 * @typedef {object} Standing
 * @property {string} name
 * @property {string} state Of the sync, as settee-client names it.
 * @property {number} toSend
 * @property {number} toFetch As far as the gateway has told.
 * @property {Date | null} lastExchange
 * @property {any[]} denied
 * @property {Error | undefined} error Why it has ended.
 */

/**
 * @typedef {object} Summary
 * @property {State} state
 * @property {number} toSend
 * @property {number | null} toFetch Null where nobody can know.
 * @property {Date | null} lastExchange
 * @property {Array<any>} denied
 * @property {string} reason
 */

/**
 * @param {{isOnline: boolean, needsToken: boolean, refusal: string, isConnected: boolean, problem: string}} connection
 * @param {Standing[]} standings
 * @returns {Summary}
 */
export function summarize(connection, standings) {
  const state = stateOf(connection, standings);
  const isTalking = ['catching-up', 'some-denied', 'up-to-date', 'failed'].includes(state);
  const exchanges = standings.flatMap(({ lastExchange }) => (lastExchange ? [+lastExchange] : []));
  return {
    state,
    toSend: sum(standings.map(({ toSend }) => toSend)),
    toFetch: isTalking ? sum(standings.map(({ toFetch }) => toFetch)) : null,
    lastExchange: exchanges.length > 0 ? new Date(Math.max(...exchanges)) : null,
    denied: standings.flatMap(({ name, denied }) => denied.map((one) => ({ ...one, database: name }))),
    reason: reasonOf(state, connection, standings),
  };
}

/**
 * @param {Parameters<typeof summarize>[0]} connection
 * @param {Standing[]} standings
 * @returns {State}
 */
function stateOf({ isOnline, needsToken, isConnected }, standings) {
  const any = (/** @type {string} */ state) => standings.some((one) => one.state === state);
  if (!isOnline) return 'switched-off';
  if (needsToken) return 'auth-needed';
  if (!isConnected || any('offline')) return 'offline';
  if (standings.some(({ error }) => error)) return 'failed';
  // A change that was made just now is to be sent, though its sync has not heard of it yet.
  if (any('catching-up') || standings.some(({ toSend }) => toSend > 0)) return 'catching-up';
  return any('some-denied') ? 'some-denied' : 'up-to-date';
}

/**
 * @param {State} state
 * @param {Parameters<typeof summarize>[0]} connection
 * @param {Standing[]} standings
 */
function reasonOf(state, { refusal, problem }, standings) {
  if (state === 'auth-needed') return refusal;
  if (state === 'offline') return problem;
  if (state === 'failed') return standings.find(({ error }) => error)?.error?.message ?? '';
  return '';
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((total, one) => total + one, 0);
}
