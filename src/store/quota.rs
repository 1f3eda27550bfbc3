//! How much a database may hold.
//!
//! A write that would make it hold more is refused, document by document; a plain deletion never
//! is, nor one whose tombstone has no longer body than the leaf that it replaces. What counts is what compaction keeps: open documents, and the bytes of their leaves' bodies. The hard
//! case are writers at the same time: each reserves what it is about to add before it looks at the
//! counters, so that together they never go over.

use std::sync::{Arc, Mutex, PoisonError};

use super::backend::{Counts, DocCommit, StoredDoc};
use super::error::DocError;
use crate::doc::{DbName, RevTree, fits};

/// How much a database may hold. The default is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Documents that are not deleted.
    pub docs_max: Option<u64>,
    /// Bytes of the bodies of leaves. Attachments and old revisions do not count.
    pub bytes_max: Option<u64>,
}

impl Quota {
    /// The narrower of each bound.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self {
            docs_max: least(self.docs_max, other.docs_max),
            bytes_max: least(self.bytes_max, other.bytes_max),
        }
    }

    pub(super) fn is_unbound(&self) -> bool {
        *self == Self::default()
    }

    /// Why a database that holds this may not hold so much more.
    pub(super) fn check(&self, held: Held, more: Held) -> Result<(), DocError> {
        let over = |held: u64, more: u64, max: Option<u64>| {
            max.filter(|max| more > 0 && held.saturating_add(more) > *max)
        };
        if let Some(max) = over(held.docs, more.docs, self.docs_max) {
            return Err(DocError::OverQuota { what: "documents", max });
        }
        if let Some(max) = over(held.bytes, more.bytes, self.bytes_max) {
            return Err(DocError::OverQuota { what: "bytes of documents", max });
        }
        Ok(())
    }
}

/// The quota of the databases whose names match a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaRule {
    /// A name, in which each `*` stands for any number of characters.
    pub databases: String,
    /// How much each of them may hold.
    pub quota: Quota,
}

impl QuotaRule {
    fn is_for(&self, name: &DbName) -> bool {
        let parts: Vec<&str> = self.databases.split('*').collect();
        fits(name.as_str(), &parts)
    }
}

/// What all rules together allow a database.
pub(super) fn quota_of(rules: &[QuotaRule], name: &DbName) -> Quota {
    let matching = rules.iter().filter(|rule| rule.is_for(name));
    matching.fold(Quota::default(), |quota, rule| quota.and(rule.quota))
}

/// What counts for a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Held {
    docs: u64,
    bytes: u64,
}

impl Held {
    pub(super) fn of(counts: &Counts) -> Self {
        Self { docs: counts.docs, bytes: counts.leaf_bytes }
    }

    /// What a document takes more than before.
    pub(super) fn growth(before: &StoredDoc, after: &DocCommit) -> Self {
        let is_open =
            |tree: &RevTree| u64::from(tree.winner().is_some_and(|leaf| !leaf.state.deleted));
        let bytes = |tree: &RevTree| tree.leaf_bytes();
        Self {
            docs: is_open(&after.tree).saturating_sub(is_open(&before.tree)),
            bytes: bytes(&after.tree).saturating_sub(bytes(&before.tree)),
        }
    }

    pub(super) fn adds_no_bytes(self) -> bool {
        self.bytes == 0
    }

    #[must_use]
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            docs: self.docs.saturating_add(other.docs),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// What writers are about to add to a database.
#[derive(Debug, Default)]
pub(super) struct Reserved(Arc<Mutex<Held>>);

impl Reserved {
    /// Reserves; answers what others have reserved already.
    pub(super) fn take(&self, more: Held) -> (Reservation, Held) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = *all;
        *all = others.plus(more);
        (Reservation { all: Arc::clone(&self.0), held: more }, others)
    }
}

/// Gives back what was reserved when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    all: Arc<Mutex<Held>>,
    held: Held,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.docs = all.docs.saturating_sub(self.held.docs);
        all.bytes = all.bytes.saturating_sub(self.held.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let rule = QuotaRule { databases: pattern.into(), quota: Quota::default() };
            let name = DbName::parse(name).expect(name);
            assert_eq!(rule.is_for(&name), expected, "{pattern} {name}");
        };
        for (pattern, name) in [
            ("*", "a"),
            ("user-*", "user-"),
            ("user-*", "user-anna"),
            ("*-*-x", "a-b-c-x"),
            ("todos", "todos"),
            ("a*a", "aa"),
        ] {
            check(pattern, name, true);
        }
        for (pattern, name) in [
            ("user-*", "users"),
            ("todos", "todos2"),
            ("todos", "todo"),
            ("a*a", "a"),
            ("*-x-*-x", "a-x"),
            ("", "a"),
        ] {
            check(pattern, name, false);
        }
    }

    #[test]
    fn the_narrowest_of_all_rules_counts() {
        let rule = |databases: &str, docs_max, bytes_max| QuotaRule {
            databases: databases.into(),
            quota: Quota { docs_max, bytes_max },
        };
        let rules =
            [rule("*", Some(10), None), rule("a*", Some(20), Some(5)), rule("b", None, Some(1))];
        let quota = |name: &str| quota_of(&rules, &DbName::parse(name).expect(name));
        assert_eq!(quota("ab"), Quota { docs_max: Some(10), bytes_max: Some(5) });
        assert_eq!(quota("b"), Quota { docs_max: Some(10), bytes_max: Some(1) });
        assert!(quota_of(&[], &DbName::parse("a").expect("a")).is_unbound());
    }
}
