//! What the wire shows of queries and indexes that are refused: CouchDB's `mango_error.erl`.

use super::{ToWire, wire};
use crate::doc::printable;
use crate::proto::message::WireError;
use crate::store::FindError;

/// Refusals of `_find`, `_explain` and `_index`. Values are shown as JSON, cut to a printable length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FindRefusal {
    /// A member that there is none of.
    UnknownKey { key: String },
    /// A member that must be there.
    MissingKey { key: &'static str },
    /// What is to be `true` or `false`.
    NotBoolean { value: String },
    /// What is to be 1 or more.
    NotPositive { value: String },
    /// What is to be 0 or more.
    NotNatural { value: String },
    /// What is to be a string.
    NotString { value: String },
    /// A name without letters.
    EmptyName,
    /// `stale` that is something else.
    NotOkOrFalse { value: String },
    /// `use_index` that names none.
    IndexName { value: String },
    /// A bookmark that is no string.
    Bookmark { value: String },
    /// A sort that is no list.
    Sort { value: String },
    /// A field of a sort or of an index.
    SortField { value: String },
    /// `fields` that is no list.
    Fields { value: String },
    /// One of `fields`.
    Field { value: String },
    /// A selector that is no object.
    Selector { value: String },
    /// A definition that is no object.
    IndexJson { value: String },
    /// A type of index that is not known.
    IndexType { name: String },
    /// A type of index that is known and not made here.
    TextIndex { name: String },
    /// Ids that are no list of names.
    BulkDocs { value: String },
    /// `limit` or `skip` of a list of indexes.
    ListParams,
    /// A partition, where there are none.
    Partition,
}

impl ToWire for FindRefusal {
    fn to_wire(&self) -> WireError {
        let refused = |error: &str, reason: std::fmt::Arguments<'_>| wire(400, error, reason);
        match self {
            Self::UnknownKey { key } => {
                let key = printable(key);
                refused("invalid_key", format_args!("Invalid key {key} for this request."))
            }
            Self::MissingKey { key } => {
                refused("missing_required_key", format_args!("Missing required key: {key}"))
            }
            Self::NotBoolean { value } => {
                refused("invalid_boolean", format_args!("Invalid boolean value: {value}"))
            }
            Self::NotPositive { value } => refused(
                "invalid_pos_integer",
                format_args!("{value} is not an integer greater than zero"),
            ),
            Self::NotNatural { value } => refused(
                "invalid_non_neg_integer",
                format_args!("{value} is not an integer greater than or equal to zero"),
            ),
            Self::NotString { value } => {
                refused("invalid_string", format_args!("Invalid string: {value}"))
            }
            Self::EmptyName => refused(
                "invalid_empty_string",
                format_args!("Index name or ddoc cannot be empty string"),
            ),
            Self::NotOkOrFalse { value } => refused(
                "invalid_ok_or_false_value",
                format_args!("Invalid value for stale: {value}; it must be \"ok\" or false"),
            ),
            Self::IndexName { value } => {
                refused("invalid_index_name", format_args!("Invalid index name: {value}"))
            }
            Self::Bookmark { value } => {
                refused("invalid_bookmark", format_args!("Invalid bookmark value: {value}"))
            }
            Self::Sort { value } => refused(
                "invalid_sort_json",
                format_args!("Sort must be an array of sort specs, not: {value}"),
            ),
            Self::SortField { value } => {
                refused("invalid_sort_field", format_args!("Invalid sort field: {value}"))
            }
            Self::Fields { value } => refused(
                "invalid_fields",
                format_args!("Fields must be an array of strings, not: {value}"),
            ),
            Self::Field { value } => {
                refused("invalid_field", format_args!("Invalid JSON for field spec: {value}"))
            }
            Self::Selector { value } => refused(
                "invalid_selector_json",
                format_args!("Selector must be a JSON object, not: {value}"),
            ),
            Self::IndexJson { value } => refused(
                "invalid_index",
                format_args!("JSON indexes must be an object, not: {value}"),
            ),
            Self::IndexType { name } => {
                let name = printable(name);
                refused("invalid_index", format_args!("Invalid type for index: {name}"))
            }
            Self::TextIndex { name } => wire(
                501,
                "not_implemented",
                format_args!(
                    "there are no indexes of type {name} here: make one of type json, and search \
                     text with $regex or $beginsWith"
                ),
            ),
            Self::BulkDocs { value } => refused(
                "invalid_bulk_docs",
                format_args!("Bulk Delete requires an array of non-null docids. Docids: {value}"),
            ),
            Self::ListParams => refused(
                "invalid_list_index_params",
                format_args!("Index parameter ranges: limit > 1, skip > 0"),
            ),
            Self::Partition => {
                refused("bad_request", format_args!("databases have no partitions here"))
            }
        }
    }
}

impl ToWire for FindError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::NoUsableIndex => wire(400, "no_usable_index", self),
            Self::IndexNotSuitable { .. } | Self::IndexNotNamed => wire(400, "invalid_index", self),
            Self::Bookmark { .. } => wire(400, "invalid_bookmark", self),
            Self::MixedSort => wire(400, "unsupported_mixed_sort", self),
            Self::DdocLanguage { .. } => wire(400, "invalid_ddoc_lang", self),
            Self::Selector(error) => error.to_wire(),
            Self::Store(error) => error.to_wire(),
        }
    }
}
