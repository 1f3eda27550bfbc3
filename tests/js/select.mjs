// Judges documents with pouchdb-selector-core. One selector with documents a line in, a line out:
// true or false for each document, or the word "throws".
import { createInterface } from 'node:readline';
import { matchesSelector } from 'pouchdb-selector-core';

function judge(doc, selector) {
  try {
    return matchesSelector(doc, selector);
  } catch {
    return 'throws';
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { selector, docs } = JSON.parse(line);
  console.log(JSON.stringify(docs.map((doc) => judge(doc, selector))));
}
