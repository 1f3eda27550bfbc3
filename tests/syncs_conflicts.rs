//! A document edited on both sides is the same everywhere afterwards.

#[path = "support/syncing.rs"]
mod syncing;

use settee::store::GetOptions;
use settee::{Database, Rev, Store, SyncState};
use syncing::*;

struct Replicas {
    a: Database,
    b: Database,
    there: Database,
    network: Network,
    in_a: Watched,
    in_b: Watched,
    _gateway: TestGateway,
}

impl Replicas {
    async fn new() -> Self {
        let gateway = TestGateway::new(Store::memory());
        let network = Network::new(gateway.connector.clone());
        let (a, b, there) = (local().await, local().await, remote(&gateway, "shared").await);
        let in_a = Watched::new(network.client().sync(&a, live("shared")));
        let in_b = Watched::new(network.client().sync(&b, live("shared")));
        let mut replicas = Self { a, b, there, network, in_a, in_b, _gateway: gateway };
        put(&replicas.a, "doc", "first").await;
        replicas.settle().await;
        replicas
    }

    async fn offline(&self) {
        self.network.close();
        until_state(&self.in_a, SyncState::Offline).await;
        until_state(&self.in_b, SyncState::Offline).await;
    }

    /// Has every replica get what the others have, and compares them.
    async fn settle(&mut self) {
        self.network.open();
        self.in_a.up_to_date().await.unwrap();
        self.in_b.up_to_date().await.unwrap();
        let wanted = contents(&self.there).await;
        for db in [&self.a, &self.b] {
            let mut feed = db.feed(Default::default()).await.unwrap();
            while contents(db).await != wanted {
                feed.next_page(100, usize::MAX).await.unwrap();
            }
        }
        assert_eq!(conflicts(&self.a).await, conflicts(&self.there).await);
        assert_eq!(conflicts(&self.b).await, conflicts(&self.there).await);
    }
}

/// The winning revision, conflicts and deleted conflicts of the document.
async fn conflicts(db: &Database) -> Option<(Option<Rev>, Vec<Rev>, Vec<Rev>)> {
    let options = GetOptions { conflicts: true, deleted_conflicts: true, ..GetOptions::default() };
    let found = db.get(&id("doc"), &options).await.ok()?;
    Some((found.rev, found.extra.conflicts, found.extra.deleted_conflicts))
}

#[tokio::test(start_paused = true)]
async fn edits_of_both_sides_a_deleted_loser_and_a_resurrection() {
    let mut replicas = Replicas::new().await;
    replicas.offline().await;
    put(&replicas.a, "doc", "in a").await;
    put(&replicas.b, "doc", "in b").await;
    put(&replicas.there, "doc", "in the gateway").await;
    replicas.settle().await;
    let (winner, losers, _) = conflicts(&replicas.there).await.unwrap();
    assert_eq!(losers.len(), 2, "{losers:?}");

    replicas.b.delete(&id("doc"), losers[0].clone()).await.unwrap();
    replicas.settle().await;
    let (still, left, deleted) = conflicts(&replicas.a).await.unwrap();
    assert_eq!((still, left, deleted.len()), (winner, losers[1..].to_vec(), 1));

    replicas.a.delete(&id("doc"), losers[1].clone()).await.unwrap();
    delete(&replicas.a, "doc").await;
    replicas.settle().await;
    assert_eq!(text(&replicas.b, "doc").await, None);
    assert_eq!(text(&replicas.there, "doc").await, None);

    put(&replicas.b, "doc", "back").await;
    replicas.settle().await;
    assert_eq!(text(&replicas.a, "doc").await.as_deref(), Some("back"));
}

#[tokio::test(start_paused = true)]
async fn the_same_edit_on_both_sides_is_no_conflict() {
    let mut replicas = Replicas::new().await;
    replicas.offline().await;
    put(&replicas.a, "doc", "same").await;
    put(&replicas.b, "doc", "same").await;
    replicas.settle().await;
    let (_, losers, _) = conflicts(&replicas.there).await.unwrap();
    assert_eq!(losers, []);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_loses_to_an_edit() {
    let mut replicas = Replicas::new().await;
    replicas.offline().await;
    delete(&replicas.a, "doc").await;
    put(&replicas.b, "doc", "still wanted").await;
    replicas.settle().await;
    assert_eq!(text(&replicas.a, "doc").await.as_deref(), Some("still wanted"));
}
