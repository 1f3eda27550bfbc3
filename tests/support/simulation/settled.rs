//! Whether all replicas are equal, all syncs say so, and nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt as _;
use settee::doc::RevTree;
use settee::store::{BulkGetOptions, GetOptions, OpenRev, OpenRevs};
use settee::{Database, DbName, DocId, Store, SyncState};

use super::stage::{Acknowledged, Place, Stage};

/// Why it is not over yet.
pub struct Unsettled(pub String);

pub struct Replicas {
    stage: Arc<Stage>,
    stores: Vec<(Place, Store)>,
}

/// A store in memory has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("a store in memory answers at once")
}

/// By document: which revision wins, and every leaf with its history and attachments. Documents that
/// are deleted are left out, since a replica that begins with nothing does not get their tombstones.
async fn contents(db: &Database) -> BTreeMap<DocId, Vec<String>> {
    let options = BulkGetOptions { revs: true, attachments: true, ..Default::default() };
    let mut all = BTreeMap::new();
    for id in db.ids(None, usize::MAX).await.expect("ids can be listed") {
        let Ok(winner) = db.get(&id, &GetOptions::default()).await else { continue };
        let leaves = db.open_revs(&id, &OpenRevs::All, options).await.expect("leaves can be read");
        let leaves = leaves.into_iter().map(|leaf| match leaf {
            OpenRev::Found(document) => document.to_json(),
            OpenRev::Missing(rev) => panic!("{id} lacks the body of {rev}"),
        });
        let mut lines: Vec<String> = leaves.collect();
        lines.sort_unstable();
        lines.insert(0, format!("{:?} wins", winner.rev));
        all.insert(id, lines);
    }
    all
}

/// What differs, in few words.
fn difference(
    a: &BTreeMap<DocId, Vec<String>>,
    b: &BTreeMap<DocId, Vec<String>>,
) -> Option<String> {
    let ids = a.keys().chain(b.keys());
    let mut differing = ids.filter(|id| a.get(*id) != b.get(*id));
    let id = differing.next()?;
    Some(format!("{} of {id}: {:#?} and {:#?}", differing.count() + 1, a.get(id), b.get(id)))
}

impl Replicas {
    pub fn new(stage: Arc<Stage>) -> Self {
        let stores = stage.stores();
        Self { stage, stores }
    }

    fn database(&self, place: Place, name: &DbName) -> Option<Database> {
        let (_, store) = self.stores.iter().find(|(p, _)| *p == place)?;
        now(store.database(name)).ok()
    }

    /// Whether every sync says that it is up to date, and is.
    pub fn look(&mut self) -> Result<(), Unsettled> {
        let statuses = self.stage.statuses();
        let expected = self.stage.settings.clients * self.stage.settings.databases;
        if statuses.len() < expected {
            return Err(Unsettled("some syncs have not begun".into()));
        }
        for ((client, name), status) in statuses {
            if status.state != SyncState::UpToDate {
                return Err(Unsettled(format!("client {client}, {name}: {status:?}")));
            }
        }
        for name in &self.stage.names {
            let Some(there) = self.database(Place::Gateway, name) else {
                return Err(Unsettled(format!("the gateway has no {name}")));
            };
            let wanted = now(contents(&there));
            for client in 0..self.stage.settings.clients {
                let here = self.database(Place::Client(client), name).expect("it syncs");
                if let Some(difference) = difference(&now(contents(&here)), &wanted) {
                    return Err(Unsettled(format!("client {client}, {name}: {difference}")));
                }
            }
        }
        Ok(())
    }

    /// Every revision whose writer was told that it is stored is known where it was written, and,
    /// unless its document is deleted, everywhere. Every database is sound.
    pub fn assert_nothing_lost(&self) {
        let acknowledged = self.stage.acknowledged();
        for (place, name) in self.databases() {
            let db = self.database(place, name).expect("it is there");
            let written = acknowledged.iter().filter(|written| written.database == *name);
            let written: Vec<&Acknowledged> = written.collect();
            let ids: Vec<DocId> = written.iter().map(|written| written.id.clone()).collect();
            let trees = now(db.rev_trees(&ids)).expect("trees can be read");
            for (written, tree) in written.into_iter().zip(trees) {
                let open =
                    tree.as_ref().and_then(RevTree::winner).is_some_and(|leaf| !leaf.state.deleted);
                let known = tree.is_some_and(|tree| tree.contains(&written.rev));
                let wanted = written.place == place || open;
                assert!(known || !wanted, "{place:?} has lost {written:?}");
            }
            let report = now(db.check()).expect("it can be checked");
            assert!(report.problems.is_empty(), "{place:?} {name}: {:?}", report.problems);
        }
    }

    fn databases(&self) -> impl Iterator<Item = (Place, &DbName)> {
        let names = &self.stage.names;
        self.stores.iter().flat_map(|(place, _)| names.iter().map(|name| (*place, name)))
    }
}
