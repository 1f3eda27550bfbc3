use settee::Store;

/// What `check` finds in any of a store's databases.
pub async fn check_sound(store: &Store) -> Result<(), String> {
    for name in store.names(None, usize::MAX).await.map_err(|error| error.to_string())? {
        let db = store.database(&name).await.map_err(|error| error.to_string())?;
        let report = db.check().await.map_err(|error| error.to_string())?;
        if !report.problems.is_empty() {
            return Err(format!("{name} is not sound: {:?}", report.problems));
        }
    }
    Ok(())
}
