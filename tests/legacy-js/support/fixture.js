'use strict';
// What each test of the npm client begins with and ends with.

const { afterEach, before, beforeEach, describe } = require('node:test');
const { Device, POUCHDBS, expectMissingCheckpoints } = require('./client');

/** The gateway of a test and the devices that sync with it. */
class Fixture {
  constructor(create) {
    /** Makes an empty local database. */
    this.create = create;
    this.devices = [];
  }

  device() {
    const device = new Device();
    this.devices.push(device);
    return device;
  }

  endDevices() {
    this.devices.splice(0).forEach((one) => one.end());
  }
}

/** Defines tests for each PouchDB; each test has a new gateway. */
function forEachPouchDB(startGateway, defineTests) {
  for (const [pouchdb, create] of Object.entries(POUCHDBS)) {
    describe(pouchdb, () => {
      const fixture = new Fixture(create);
      before(expectMissingCheckpoints);
      beforeEach(async () => {
        fixture.gateway = await startGateway();
      });
      afterEach(async () => {
        fixture.endDevices();
        await fixture.gateway.remove();
      });
      defineTests(fixture);
    });
  }
}

module.exports = { forEachPouchDB };
