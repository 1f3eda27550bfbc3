/** A document's revision tree: made of the histories of its leaves, and drawn. */

import { draw } from './make.js';

const STEP = 80;
const LANE = 46;
const RADIUS = 9;
const MARGIN = 34;

/** Order of leaves: open before deleted, then generation, then hash; the first one wins. */
function byRank(one, other) {
  if (one.deleted !== other.deleted) return one.deleted ? 1 : -1;
  if (one.generation !== other.generation) return other.generation - one.generation;
  return one.rev < other.rev ? 1 : -1;
}

/** The leaves of a tree, the winning one first, each with its path from the newest to the oldest. */
export function leavesOf(documents) {
  const leaves = documents.map((document) => {
    const { start, ids } = document._revisions;
    const path = ids.map((hash, back) => `${start - back}-${hash}`);
    return { rev: path[0], generation: start, deleted: document._deleted === true, path, document };
  });
  return leaves.sort(byRank);
}

/** What a leaf is called. */
export function kindOf(leaf, index) {
  if (leaf.deleted) return index === 0 ? 'deleted, winning' : 'deleted';
  return index === 0 ? 'winning' : 'conflict';
}

export const short = (rev) => rev.replace(/^(\d+-.{6}).*$/, '$1');

/** Revisions that are drawn, each with its lane; a run without branches is drawn as its two ends. */
function nodesOf(leaves) {
  const nodes = new Map();
  const children = new Map();
  leaves.forEach((leaf, lane) => {
    leaf.path.forEach((rev, at) => {
      if (!nodes.has(rev)) nodes.set(rev, { rev, lane, generation: leaf.generation - at });
      const parent = leaf.path[at + 1];
      if (parent === undefined) return;
      if (!children.has(parent)) children.set(parent, new Set());
      children.get(parent).add(rev);
    });
  });
  const ends = new Set(leaves.flatMap((leaf) => [leaf.path[0], leaf.path.at(-1)]));
  for (const leaf of leaves) {
    for (const [at, rev] of leaf.path.entries()) {
      const branches = (children.get(rev)?.size ?? 0) > 1;
      const short = leaf.path.length <= 6;
      if (!short && !branches && !ends.has(rev) && at > 1) nodes.get(rev).hidden ??= true;
      else nodes.get(rev).hidden = false;
    }
  }
  return nodes;
}

/** Pairs of neighbours that are drawn, with how many revisions between them are not. */
function edgesOf(leaves, nodes) {
  const edges = new Map();
  for (const leaf of leaves) {
    let [child, left] = [leaf.path[0], 0];
    for (const rev of leaf.path.slice(1)) {
      if (nodes.get(rev).hidden) {
        left += 1;
        continue;
      }
      edges.set(`${rev} ${child}`, { parent: nodes.get(rev), child: nodes.get(child), left });
      [child, left] = [rev, 0];
    }
  }
  return [...edges.values()];
}

/** The tree as an image; `choose` is told the revision that somebody picked. */
export function treeImage(leaves, chosen, choose) {
  const nodes = nodesOf(leaves);
  const shown = [...nodes.values()].filter((node) => !node.hidden);
  const generations = [...new Set(shown.map((node) => node.generation))].sort((a, b) => a - b);
  const x = (node) => MARGIN + generations.indexOf(node.generation) * STEP;
  const y = (node) => MARGIN + node.lane * LANE;
  const width = MARGIN * 2 + (generations.length - 1) * STEP + 30;
  const height = MARGIN * 2 + (leaves.length - 1) * LANE;
  const lines = edgesOf(leaves, nodes).map(({ parent, child, left }) => {
    const [px, py, cx, cy] = [x(parent), y(parent), x(child), y(child)];
    const path = `M${px} ${py}C${px + STEP / 2} ${py} ${cx - STEP / 2} ${cy} ${cx} ${cy}`;
    const line = draw('path', { d: path, class: left ? 'edge folded' : 'edge' });
    if (!left) return line;
    const label = { x: (px + cx) / 2, y: (py + cy) / 2 - 7, class: 'left' };
    return draw('g', {}, line, draw('text', label, `+${left}`));
  });
  const ranks = new Map(leaves.map((leaf, index) => [leaf.rev, kindOf(leaf, index)]));
  const marks = shown.map((node) => {
    const kind = ranks.get(node.rev);
    const pick = () => choose(node.rev);
    return draw(
      'g',
      {
        class: `node ${kind ? kind.replace(', ', '-') : 'inner'}`,
        role: 'button',
        tabindex: '0',
        'aria-label': `${node.rev}${kind ? `, ${kind}` : ''}`,
        'aria-pressed': String(node.rev === chosen),
        'data-rev': node.rev,
        click: pick,
        keydown: (event) => {
          if (event.key !== 'Enter' && event.key !== ' ') return;
          event.preventDefault();
          pick();
        },
      },
      draw('circle', { cx: x(node), cy: y(node), r: RADIUS }),
      draw('text', { x: x(node), y: y(node) + RADIUS + 13 }, short(node.rev)),
    );
  });
  const size = { width, height, viewBox: `0 0 ${width} ${height}` };
  return draw('svg', { ...size, class: 'tree', role: 'group', 'aria-label': 'Revision tree' }, lines, marks);
}
