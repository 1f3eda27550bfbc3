// Merges paths with pouchdb-merge. One scenario a line in, what came of it a line out.
import { createInterface } from 'node:readline';
import merging from 'pouchdb-merge';

const { merge, winningRev, collectLeaves, collectConflicts, revExists, traverseRevTree } = merging;

// `ids` has the newest first, as in `_revisions`.
function pathToTree({ start, ids, deleted }) {
  const [newest, ...ancestors] = ids;
  let node = [newest, { status: 'available', ...(deleted && { deleted }) }, []];
  for (const id of ancestors) node = [id, { status: 'missing' }, [node]];
  return { pos: start + 1 - ids.length, ids: node };
}

// Leaves that are a parent elsewhere in the same tree: a stemmed tree can hold a revision twice.
function staleLeaves(revTree) {
  const parents = new Set();
  traverseRevTree(revTree, (isLeaf, pos, id) => {
    if (!isLeaf) parents.add(`${pos}-${id}`);
  });
  return collectLeaves(revTree).map(({ rev }) => rev).filter((rev) => parents.has(rev));
}

for await (const line of createInterface({ input: process.stdin })) {
  const { paths, depth, probes } = JSON.parse(line);
  let revTree = [];
  for (const path of paths) revTree = merge(revTree, pathToTree(path), depth).tree;
  const metadata = { rev_tree: revTree };
  console.log(JSON.stringify({
    winner: winningRev(metadata),
    leaves: collectLeaves(revTree).map(({ rev, opts }) => [rev, !!opts.deleted]),
    conflicts: collectConflicts(metadata),
    stale: staleLeaves(revTree),
    exists: probes.map((rev) => revExists(revTree, rev)),
  }));
}
