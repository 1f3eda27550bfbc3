//! `settee destroy`: a database and everything in it goes.

use settee::StoreError;

use crate::failure::Failure;
use crate::place::{PlaceArgs, no_database, open_store};

/// Destroy a database and everything in it
///
/// Destroys a database and everything in it, without asking. Its space is given back little by
/// little, while the data directory is served or used by other commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: PlaceArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let place = args.place.place()?;
    let store = open_store(&place.dir)?;
    match store.destroy(&place.name).await {
        Err(StoreError::DatabaseMissing { name }) => return Err(no_database(&place.dir, &name)),
        destroyed => destroyed?,
    }
    store.close().await?;
    Ok(())
}
