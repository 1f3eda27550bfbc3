//! What every backend must do, run against the memory model and against sled.

mod blobs;
mod databases;
mod documents;
#[cfg(feature = "sled")]
mod durable;
mod groups;
#[cfg(feature = "sled")]
mod histories;
mod indexes;
mod maintenance;
mod make;
#[cfg(feature = "sled")]
mod model;
mod scans;
mod snapshots;

use std::sync::Arc;

use super::backend::Backend;
use super::memory::MemoryBackend;

/// Runs each behaviour on a fresh store of each kind.
macro_rules! conformance {
    ($($behaviour:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(crate::store::conformance::memory()).await;
            })*
        }
        #[cfg(feature = "sled")]
        mod sled {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                let dir = tempfile::tempdir().expect("a temporary directory");
                super::$behaviour(crate::store::conformance::sled(dir.path())).await;
            })*
        }
    };
}
use conformance;

fn memory() -> Arc<dyn Backend> {
    Arc::new(MemoryBackend::new())
}

#[cfg(feature = "sled")]
fn open_sled(path: &std::path::Path) -> super::SledBackend {
    let options = super::SledOptions { cache_bytes: 16 * 1024 * 1024 };
    super::SledBackend::open_with(path, &options).expect("the store opens")
}

#[cfg(feature = "sled")]
fn sled(path: &std::path::Path) -> Arc<dyn Backend> {
    Arc::new(open_sled(path))
}
