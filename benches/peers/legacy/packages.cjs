'use strict';
// The packages of the tests are those of the benchmark.

const { createRequire } = require('node:module');
const { join } = require('node:path');

module.exports = createRequire(join(__dirname, '../../../tests/legacy-js/package.json'));
