//! Laws of revision trees, against a model that keeps revisions and edges in plain sets.
//!
//! Generated histories are what replicas send: branches of a common history, cut anywhere, in any
//! order. Others are what no honest replica makes: one revision with several parents, and told once
//! as open and once as deleted. `SETTEE_TREES` says how many trees each law is tried with.

#[path = "support/random.rs"]
mod random;
#[path = "support/rev_model.rs"]
mod rev_model;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;
use settee::doc::{Leaf, Rev, RevHash, RevPath, RevState, RevTree};

use random::setting;
use rev_model::Model;

type Insert = (RevPath, RevState);

fn hash() -> impl Strategy<Value = RevHash> {
    let text = prop_oneof![
        4 => "[a-c]{1,2}",
        4 => "[0-9a-f]{32}",
        1 => "[0-9A-F]{32}",
        1 => "[0-9a-f]{31}",
        1 => "\\PC{0,6}",
    ];
    text.prop_map(|text| RevHash::parse(&text).expect("it is not long"))
}

fn state() -> impl Strategy<Value = RevState> {
    let body_bytes = prop::option::weighted(0.8, prop_oneof![0..300_u32, any::<u32>()]);
    (prop::bool::weighted(0.3), body_bytes)
        .prop_map(|(deleted, body_bytes)| RevState { deleted, body_bytes })
}

/// Cut paths of one history in which every revision has one parent.
fn honest() -> impl Strategy<Value = Vec<Insert>> {
    // A revision continues the newest one, or any, or is a first revision.
    let place = prop_oneof![
        6 => Just(None),
        3 => any::<Index>().prop_map(Some).prop_map(Some),
        1 => Just(Some(None)),
    ];
    let history = prop::collection::vec((place, hash(), state()), 1..30);
    let cuts = prop::collection::vec((any::<Index>(), 1..12_usize), 1..15);
    (history, cuts).prop_map(|(history, cuts)| {
        let mut revs: Vec<(Vec<Rev>, RevState)> = Vec::new();
        for (place, hash, state) in history {
            let parent = match place {
                None => revs.last(),
                Some(place) => place.and_then(|place| revs.get(place.index(revs.len().max(1)))),
            };
            let generation = parent.map_or(1, |(path, _)| path[0].generation() + 1);
            let rev = Rev::new(generation, hash).expect("generations are small");
            if revs.iter().all(|(path, _)| path[0] != rev) {
                let ancestors = parent.map(|(path, _)| path.clone()).unwrap_or_default();
                revs.push((std::iter::once(rev).chain(ancestors).collect(), state));
            }
        }
        let cut = |(newest, known): (Index, usize)| {
            let (path, state) = newest.get(&revs);
            let hashes = path.iter().take(known).map(|rev| rev.hash().clone()).collect();
            (RevPath::new(path[0].generation(), hashes).expect("generations fall by one"), *state)
        };
        cuts.into_iter().map(cut).collect()
    })
}

/// Paths through so few revisions that they contradict each other.
fn contradictory() -> impl Strategy<Value = Vec<Insert>> {
    let few = prop::sample::select(vec!["a", "b", "967a00dff5e02add41819138abb3284d"]);
    let path = (1..7_u64, prop::collection::vec(few, 1..7), state()).prop_map(
        |(start, mut hashes, state)| {
            hashes.truncate(usize::try_from(start).expect("it is below 7"));
            let hashes = hashes.into_iter().map(|h| RevHash::parse(h).expect(h)).collect();
            (RevPath::new(start, hashes).expect("it was cut to fit"), state)
        },
    );
    prop::collection::vec(path, 1..12)
}

fn inserts() -> impl Strategy<Value = Vec<Insert>> {
    prop_oneof![2 => honest(), 1 => contradictory()]
}

fn tree(inserts: &[Insert]) -> RevTree {
    let path = |(path, state): &Insert| RevTree::from_path(path, *state);
    inserts.iter().fold(RevTree::default(), |tree, insert| tree.merge(&path(insert)))
}

fn model(inserts: &[Insert]) -> Model {
    let mut model = Model::default();
    inserts.iter().for_each(|(path, state)| model.insert(path, *state));
    model
}

/// Every answer that a tree gives, compared with the model's.
fn assert_same(tree: &RevTree, model: &Model) {
    assert_eq!(tree.len(), model.revs.len());
    assert_eq!(tree.is_empty(), model.revs.is_empty());
    assert!(tree.revs().eq(model.revs.iter().map(|(rev, state)| (rev, *state))));
    let leaves = tree.leaves();
    assert_eq!(leaves, model.leaves());
    assert_eq!(tree.winner().as_ref(), leaves.first());
    let open = |leaf: &&Leaf| !leaf.state.deleted;
    let conflicts: Vec<Rev> =
        leaves.iter().skip(1).filter(open).map(|leaf| leaf.rev.clone()).collect();
    assert_eq!(tree.conflicts(), conflicts);
    for (rev, state) in &model.revs {
        assert!(tree.contains(rev));
        assert_eq!(tree.state(rev), Some(*state));
        assert_eq!(tree.is_leaf(rev), leaves.iter().any(|leaf| leaf.rev == *rev));
        assert_eq!(tree.leaves_from(rev), model.leaves_from(rev), "{rev}");
        let path: Vec<Rev> = tree.path_of(rev).expect("it is known").revs().collect();
        assert_eq!(path, model.path_of(rev));
        assert!(path.windows(2).all(|pair| pair[0].generation() == pair[1].generation() + 1));
    }
}

fn encoded(tree: &RevTree) -> Vec<u8> {
    let mut bytes = Vec::new();
    tree.encode(&mut bytes);
    bytes
}

fn assert_decodes_to_its_own_bytes(bytes: &[u8]) {
    if let Ok((tree, rest)) = RevTree::decode(bytes) {
        assert_eq!(encoded(&tree), bytes[..bytes.len() - rest.len()]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: setting("SETTEE_TREES", 2_000) as u32,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_tree_answers_as_its_model(inserts in inserts()) {
        assert_same(&tree(&inserts), &model(&inserts));
    }

    #[test]
    fn merging_commutes_associates_and_is_idempotent(
        inserts in inserts(), cuts in any::<(Index, Index)>(),
    ) {
        let (mut from, mut to) = (cuts.0.index(inserts.len()), cuts.1.index(inserts.len()));
        if from > to {
            std::mem::swap(&mut from, &mut to);
        }
        let (a, b, c) = (tree(&inserts[..from]), tree(&inserts[from..to]), tree(&inserts[to..]));
        prop_assert_eq!(a.merge(&b), b.merge(&a));
        prop_assert_eq!(a.merge(&b).merge(&c), a.merge(&b.merge(&c)));
        let all = tree(&inserts);
        prop_assert_eq!(&a.merge(&b).merge(&c), &all);
        prop_assert_eq!(&all.merge(&all), &all);
        prop_assert_eq!(&all.merge(&b), &all);
    }

    #[test]
    fn order_of_insertion_does_not_matter(
        (inserts, shuffled) in
            inserts().prop_flat_map(|inserts| (Just(inserts.clone()), Just(inserts).prop_shuffle())),
    ) {
        let (tree, other) = (tree(&inserts), tree(&shuffled));
        prop_assert_eq!(&tree, &other);
        prop_assert_eq!(tree.winner(), other.winner());
        prop_assert_eq!(tree.leaves(), other.leaves());
        prop_assert_eq!(encoded(&tree), encoded(&other));
    }

    #[test]
    fn stemming_keeps_what_is_near_a_leaf(inserts in inserts(), limit in 1..8_u32) {
        let (whole, mut stemmed) = (tree(&inserts), tree(&inserts));
        stemmed.stem(limit);
        prop_assert_eq!(stemmed.leaves(), whole.leaves());
        prop_assert_eq!(stemmed.winner(), whole.winner());
        let mut model = model(&inserts);
        model.stem(limit);
        assert_same(&stemmed, &model);
        // An unbranched history is exactly as long as the limit allows; what branches share may
        // reach further back from the longer one.
        if let [only] = &stemmed.leaves()[..] {
            let path = stemmed.path_of(&only.rev).expect("it is known");
            prop_assert!(path.hashes().len() <= limit as usize);
        }
        let once = stemmed.clone();
        stemmed.stem(limit);
        prop_assert_eq!(stemmed, once);
    }

    #[test]
    fn a_stemmed_tree_and_its_ancestors_make_it_whole(inserts in inserts(), limit in 1..8_u32) {
        let whole = tree(&inserts);
        let mut stemmed = whole.clone();
        stemmed.stem(limit);
        prop_assert_eq!(stemmed.merge(&whole), whole);
    }

    #[test]
    fn revs_diff_names_what_is_missing(
        (known, told) in inserts().prop_flat_map(|all| {
            (prop::sample::subsequence(all.clone(), 0..=all.len()), Just(all))
        }),
        strangers in prop::collection::vec((1..9_u64, hash()), 0..4),
    ) {
        let mut asked: Vec<Rev> = told.iter().flat_map(|(path, _)| path.revs()).collect();
        asked.extend(strangers.into_iter().map(|(g, hash)| Rev::new(g, hash).expect("g is small")));
        let diff = tree(&known).revs_diff(&asked);
        let model = model(&known);
        let missing: Vec<Rev> =
            asked.into_iter().filter(|rev| !model.revs.contains_key(rev)).collect();
        let older = |leaf: &Leaf| missing.iter().any(|m| m.generation() > leaf.rev.generation());
        let ancestors: Vec<Rev> =
            model.leaves().into_iter().filter(older).map(|leaf| leaf.rev).collect();
        prop_assert_eq!(diff.missing, missing);
        prop_assert_eq!(diff.possible_ancestors, ancestors);
    }

    #[test]
    fn body_lengths_are_set_and_cleared(
        inserts in inserts(), which in any::<Index>(), body_bytes in any::<Option<u32>>(),
    ) {
        let (mut tree, mut model) = (tree(&inserts), model(&inserts));
        let rev = model.revs.keys().nth(which.index(model.revs.len())).expect("below").clone();
        tree.set_body_bytes(&rev, body_bytes);
        model.revs.get_mut(&rev).expect("it is a key").body_bytes = body_bytes;
        assert_same(&tree, &model);
    }

    #[test]
    fn decoding_undoes_encoding(inserts in inserts(), rest in any::<[u8; 3]>()) {
        let tree = tree(&inserts);
        let mut bytes = encoded(&tree);
        bytes.extend(rest);
        prop_assert_eq!(RevTree::decode(&bytes), Ok((tree, &rest[..])));
    }

    #[test]
    fn whatever_decodes_has_these_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_decodes_to_its_own_bytes(&bytes);
    }

    /// Small numbers are counts, flags and distances, so these get much further than any bytes.
    #[test]
    fn whatever_small_numbers_decode_has_these_bytes(
        bytes in prop::collection::vec(prop_oneof![0..8_u8, 0..64_u8], 0..60),
    ) {
        assert_decodes_to_its_own_bytes(&bytes);
    }

    #[test]
    fn whatever_damage_decodes_has_these_bytes(
        inserts in inserts(),
        damage in prop::collection::vec((any::<Index>(), 0..3_u8, any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&tree(&inserts));
        for (place, kind, byte) in damage {
            let at = place.index(bytes.len().max(1)).min(bytes.len());
            match kind {
                0 => bytes.insert(at, byte),
                _ if at == bytes.len() => {}
                1 => drop(bytes.remove(at)),
                _ => bytes[at] = byte,
            }
        }
        assert_decodes_to_its_own_bytes(&bytes);
    }
}
