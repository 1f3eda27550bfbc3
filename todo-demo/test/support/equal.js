/** Whether replicas hold the same: leaves, histories, bodies. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { BINARY } from '../../../client-js/test/support/gateway.js';

/** What `settee dump` tells of a database of a gateway that has stopped. */
export function dumped(gateway, database) {
  const text = execFileSync(BINARY, ['dump', join(gateway.data, database)], { encoding: 'utf8' });
  return text.trim().split('\n').map((line) => JSON.parse(line));
}

/** Two sets of leaves, in any order. */
export function assertSame(ours, theirs, what) {
  assert.deepEqual(normal(ours), normal(theirs), what);
}

function normal(docs) {
  const plain = docs.map(({ _attachments, _revisions, ...doc }) => ({
    ...doc,
    path: _revisions.ids.slice(0, Number(doc._rev.split('-')[0])),
    attachments: digests(_attachments),
  }));
  return plain.map((doc) => JSON.stringify(Object.entries(doc).sort())).sort();
}

function digests(attachments = {}) {
  return Object.entries(attachments).map(([name, { digest, content_type }]) => [name, digest, content_type]);
}
