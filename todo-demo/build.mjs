/**
 * Brings the two packages that the page uses into page/vendor/, each as one module: a browser finds
 * neither `node_modules` nor a package by its bare name.
 */

import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';

await build({
  entryPoints: { pouchdb: 'pouchdb-browser', 'fractional-indexing': 'fractional-indexing' },
  outdir: fileURLToPath(new URL('page/vendor', import.meta.url)),
  absWorkingDir: fileURLToPath(new URL('.', import.meta.url)),
  bundle: true,
  format: 'esm',
  minify: true,
  legalComments: 'inline',
  logLevel: 'warning',
});
