//! Documents of one type: values of the program's own types instead of JSON.
//!
//! A database holds documents of many types, told apart by one member, [`Shape::FIELD`], which is
//! `type` if nothing else is said. A [`Collection`] is those of one type. It is a view and nothing of
//! its own: the documents are ordinary ones, replicate as such, and may be read and written beside it.
//!
//! The hard case is a document that another version of the program wrote. Members that the type does
//! not know, and attachments, stay when a value is replaced; what cannot be read as the type is an
//! error of that document alone, in streams too.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use serde::{Deserialize, Serialize};
//! use settee::{DbName, Shape, Store};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Todo {
//!     title: String,
//!     done: bool,
//! }
//!
//! impl Shape for Todo {
//!     const TYPE: &'static str = "todo";
//! }
//!
//! let store = Store::memory();
//! let todos = store.open_or_create(&DbName::parse("todos")?).await?.collection::<Todo>();
//! todos.put("milk", &Todo { title: "Buy milk".into(), done: false }).await?;
//! let milk = todos.update("milk", |todo| todo.done = true).await?;
//! assert!(milk.value.done && milk.rev().generation() == 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod collection;
mod entry;
mod error;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use collection::{Collection, TypedChange};
pub use entry::Entry;
pub use error::TypedError;

use crate::store::Database;

/// A type whose values are kept as documents.
///
/// It serialises to a JSON object without members that begin with `_`. The member [`Shape::FIELD`]
/// is written for it, and is among the members that it is read from.
pub trait Shape: Serialize + DeserializeOwned + Send {
    /// What its documents have as [`Shape::FIELD`].
    const TYPE: &'static str;
    /// The member that tells types apart, at the top of a document.
    const FIELD: &'static str = "type";
}

impl Database {
    /// The documents of one type.
    #[must_use]
    pub fn collection<T: Shape>(&self) -> Collection<T> {
        Collection::new(self.clone())
    }
}
