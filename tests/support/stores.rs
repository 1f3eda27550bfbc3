use std::sync::Arc;

use settee::store::MemoryBackend;
use settee::{Limits, Store};

/// What the store is called in messages, the store, and the directory it lives in.
pub type OpenStore = (&'static str, Store, Option<tempfile::TempDir>);

/// One empty store of each kind.
pub fn stores() -> Vec<OpenStore> {
    stores_with(&Limits::default())
}

/// The same with other limits.
pub fn stores_with(limits: &Limits) -> Vec<OpenStore> {
    let memory = Store::with_backend(Arc::new(MemoryBackend::new()), limits.clone());
    let mut stores = vec![("memory", memory, None)];
    #[cfg(feature = "sled")]
    {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let sled = Store::open_with(directory.path(), limits.clone()).expect("sled opens");
        stores.push(("sled", sled, Some(directory)));
    }
    stores
}
