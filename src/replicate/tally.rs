//! What a direction did so far, for whoever shows it while it runs.

/// Counts and places of one direction, over all its connections.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only the gateway shows it"))]
pub(crate) struct Tally {
    /// Where it began.
    pub start_seq: String,
    /// The place that was read last.
    pub source_seq: String,
    /// The place up to which everything was written.
    pub through_seq: String,
    /// The place of the last checkpoint.
    pub checkpointed_seq: Option<String>,
    pub pending: u64,
    /// Revisions that were compared with the target, and those that it lacked.
    pub revs_checked: u64,
    pub revs_missing: u64,
    pub docs_read: u64,
    pub docs_written: u64,
    pub doc_write_failures: u64,
}
