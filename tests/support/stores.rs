use std::sync::Arc;

use settee::store::MemoryBackend;
use settee::{Limits, Store};

pub type OpenStore = (&'static str, Store, Option<tempfile::TempDir>);

pub fn stores() -> Vec<OpenStore> {
    stores_with(&Limits::default())
}

pub fn stores_with(limits: &Limits) -> Vec<OpenStore> {
    let memory = Store::with_backend(Arc::new(MemoryBackend::new()), limits.clone());
    vec![("memory", memory, None)]
}
