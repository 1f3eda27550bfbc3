//! Where a database is, and which part of it: `DIR/DB` and selectors on the command line.

use std::path::{Path, PathBuf};

use settee::doc::SelectorError;
use settee::{Database, DbName, Limits, Selector, Store};

use crate::failure::Failure;

/// One database of a data directory.
#[derive(Debug)]
pub struct Place {
    pub dir: PathBuf,
    pub name: DbName,
}

/// Reads the argument of `--selector`.
pub fn selector(text: &str) -> Result<Selector, SelectorError> {
    Selector::parse(text, &Limits::default())
}

/// How a command names one database.
#[derive(Debug, clap::Args)]
pub struct PlaceArgs {
    /// A data directory, a slash, and the name of a database in it
    #[arg(value_name = "DIR/DB")]
    path: PathBuf,
    /// Name of the database; the path is then the data directory alone. For names with a slash
    #[arg(long, value_name = "NAME")]
    db: Option<String>,
}

impl PlaceArgs {
    pub fn place(&self) -> Result<Place, Failure> {
        match &self.db {
            Some(name) => Ok(Place { dir: self.path.clone(), name: db_name(name)? }),
            None => split(&self.path),
        }
    }
}

/// How a command names a data directory, or one database of it.
#[derive(Debug, clap::Args)]
pub struct DirOrPlaceArgs {
    /// A data directory, or one with a slash and the name of a database in it
    #[arg(value_name = "DIR[/DB]")]
    path: PathBuf,
    /// Name of the database; the path is then the data directory alone. For names with a slash
    #[arg(long, value_name = "NAME")]
    db: Option<String>,
}

impl DirOrPlaceArgs {
    /// The directory, and the database if one was named.
    pub fn resolve(&self) -> Result<(PathBuf, Option<DbName>), Failure> {
        if let Some(name) = &self.db {
            return Ok((self.path.clone(), Some(db_name(name)?)));
        }
        if Store::is_at(&self.path) {
            return Ok((self.path.clone(), None));
        }
        match split(&self.path) {
            Ok(place) if Store::is_at(&place.dir) => Ok((place.dir, Some(place.name))),
            _ => Err(Failure::NoDataDir { path: self.path.clone() }),
        }
    }
}

pub fn db_name(name: &str) -> Result<DbName, Failure> {
    DbName::parse(name).map_err(|source| Failure::DbName { name: name.into(), source })
}

fn split(path: &Path) -> Result<Place, Failure> {
    let bad = || Failure::Place { path: path.to_owned() };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).ok_or_else(bad)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(bad)?;
    Ok(Place { dir: dir.to_owned(), name: db_name(name)? })
}

/// Opens a store that must be there: reading must not make one where a path was misspelt.
pub fn open_store(dir: &Path) -> Result<Store, Failure> {
    if !Store::is_at(dir) {
        return Err(Failure::NoDataDir { path: dir.to_owned() });
    }
    Ok(Store::open(dir)?)
}

/// Opens a database that must be there.
pub async fn open_database(store: &Store, dir: &Path, name: &DbName) -> Result<Database, Failure> {
    match store.database(name).await {
        Err(settee::StoreError::DatabaseMissing { name }) => {
            Err(Failure::NoDatabase { name: name.to_string(), dir: dir.to_owned() })
        }
        other => Ok(other?),
    }
}

/// The databases that a command is about: the one named, or all.
pub async fn databases(
    store: &Store,
    dir: &Path,
    name: Option<&DbName>,
) -> Result<Vec<Database>, Failure> {
    const NAMES_AT_A_TIME: usize = 1_000;
    if let Some(name) = name {
        return Ok(vec![open_database(store, dir, name).await?]);
    }
    let mut found: Vec<Database> = Vec::new();
    loop {
        let after = found.last().map(|database| database.name().clone());
        let names = store.names(after.as_ref(), NAMES_AT_A_TIME).await?;
        if names.is_empty() {
            return Ok(found);
        }
        for name in names {
            found.push(store.database(&name).await?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_component_is_the_database() {
        let check = |path: &str, dir: &str, name: &str| {
            let place = split(Path::new(path)).expect(path);
            assert_eq!((place.dir.to_str(), place.name.as_str()), (Some(dir), name), "{path}");
        };
        check("data/todos", "data", "todos");
        check("/var/lib/settee/todos/", "/var/lib/settee", "todos");
        check("./todos", ".", "todos");
        for bad in ["todos", "", "/", "data/Todos", "data/.."] {
            assert!(split(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
