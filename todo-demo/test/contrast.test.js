import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

const CSS = await readFile(new URL('../page/style/base.css', import.meta.url), 'utf8');

/** Text and what it stands on. */
const TEXTS = [
  ...['ground', 'surface', 'raised', 'accent-soft', 'warn-soft', 'calm-soft', 'danger-soft'].map((on) => ['text', on]),
  ...['ground', 'surface', 'raised', 'accent-soft', 'warn-soft', 'calm-soft', 'danger-soft'].map((on) => ['muted', on]),
  ['on-accent', 'accent'],
  ['on-accent', 'accent-hover'],
  ['warn', 'warn-soft'],
  ['warn', 'surface'],
  ['danger', 'surface'],
  ['danger', 'warn-soft'],
  ['danger', 'calm-soft'],
  ['danger', 'danger-soft'],
  ['ground', 'text'],
];

/** Edges of controls, and the focus. */
const EDGES = ['ground', 'surface', 'raised'].flatMap((on) => [['line-strong', on], ['accent', on]]);

function colours(selector) {
  const block = CSS.slice(CSS.indexOf(`${selector} {`)).split('}')[0];
  return new Map([...block.matchAll(/--([a-z-]+): (#[0-9a-f]{6})/g)].map(([, name, value]) => [name, value]));
}

/** As WCAG 2.2 defines relative luminance and contrast. */
function luminance(colour) {
  const linear = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function contrast(a, b) {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
}

for (const [theme, selector] of [['light', ':root'], ['dark', ":root[data-theme='dark']"]]) {
  test(`${theme}: text and edges stand out as WCAG's AA asks`, () => {
    const all = colours(selector);
    for (const [pairs, least] of [[TEXTS, 4.5], [EDGES, 3]]) {
      for (const [name, on] of pairs) {
        const ratio = contrast(all.get(name), all.get(on));
        assert.ok(ratio >= least, `${name} on ${on}: ${ratio.toFixed(2)}`);
      }
    }
  });
}
