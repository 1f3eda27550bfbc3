/**
 * An error as the wire shows it: the HTTP status with the same meaning, CouchDB's name of the
 * error, and the reason for a person.
 * @typedef {{status: number, error: string, reason: string}} WireError
 */

/** What goes wrong between a client and a gateway. */
export class SetteeError extends Error {
  /** @param {WireError} wire */
  constructor({ status, error, reason }) {
    super(reason);
    /** CouchDB's name of the error, as PouchDB's errors have it. */
    this.name = error;
    this.error = error;
    this.status = status;
    this.reason = reason;
  }

  /** Whether trying again later might help. */
  get isTransient() {
    return this.status === 0 || this.status === 429 || this.status === 503 || this.status === 507;
  }

  /** Whether other credentials might help. */
  get isUnauthorized() {
    return this.status === 401;
  }
}

/**
 * A save or destroy of an object that did not come to be and was taken back.
 */
export class DeniedError extends SetteeError {
  /**
   * @param {WireError} wire
   * @param {string} id
   * @param {any} attempted The object that was to be saved; nothing if it was to be destroyed.
   * @param {any} object What the gateway has of it, as far as is known; nothing if it has none.
   */
  constructor(wire, id, attempted, object) {
    super(wire);
    this.id = id;
    this.attempted = attempted;
    this.object = object;
  }

  /** Whether somebody else was faster: `object` is theirs. */
  get isConflict() {
    return this.status === 409;
  }
}

/**
 * There is no connection.
 * @param {string} reason
 */
export function disconnected(reason) {
  return new SetteeError({ status: 0, error: 'disconnected', reason });
}

/**
 * The gateway said something that makes no sense here.
 * @param {string} reason
 */
export function broken(reason) {
  return new SetteeError({ status: 500, error: 'protocol_error', reason });
}

/** The client was told to end while something still ran. */
export function ended() {
  return new SetteeError({ status: 410, error: 'ended', reason: 'the client was ended' });
}

/**
 * Whatever was thrown, as an Error.
 * @param {any} thrown
 * @returns {Error}
 */
export function asError(thrown) {
  if (thrown instanceof Error) return thrown;
  const reason = thrown?.reason ?? thrown?.message ?? String(thrown);
  const { status = 500, name = 'unknown_error' } = thrown ?? {};
  return new SetteeError({ status, error: name, reason });
}
