//! What `_find`, `_explain` and `_index` are asked: CouchDB's `mango_opts.erl`.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::doc::{FieldPath, Selector, printable};
use crate::limits::Limits;
use crate::proto::message::WireError;
use crate::server::error::ToWire as _;
use crate::server::error::find::FindRefusal;
use crate::store::{FindError, FindRequest, NewIndex, Order, SortField, UseIndex};

/// A query with what concerns its answer only.
#[derive(Debug)]
pub(super) struct Query {
    pub request: FindRequest,
    /// The fields that each document is to have; all if there are none.
    pub fields: Vec<FieldPath>,
    pub execution_stats: bool,
    pub r: u64,
    pub stable: bool,
    pub stale: bool,
    pub update: bool,
}

/// The members of a request's body, taken out one by one.
pub(super) struct Members(BTreeMap<String, Box<RawValue>>);

impl Members {
    pub(super) fn new(members: BTreeMap<String, Box<RawValue>>) -> Self {
        Self(members)
    }

    fn raw(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.0.remove(name)
    }

    fn value(&mut self, name: &str) -> Option<Value> {
        let raw = self.raw(name)?;
        Some(serde_json::from_str(raw.get()).unwrap_or(Value::Null))
    }

    fn flag(&mut self, name: &str, default: bool) -> Result<bool, WireError> {
        match self.value(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(FindRefusal::NotBoolean { value: shown(&other) }.to_wire()),
        }
    }

    fn count(&mut self, name: &str, default: u64) -> Result<u64, WireError> {
        let Some(value) = self.value(name) else { return Ok(default) };
        let refused = || FindRefusal::NotNatural { value: shown(&value) }.to_wire();
        value.as_u64().ok_or_else(refused)
    }

    pub(super) fn positive(&mut self, name: &str, default: u64) -> Result<u64, WireError> {
        let Some(value) = self.value(name) else { return Ok(default) };
        let refused = || FindRefusal::NotPositive { value: shown(&value) }.to_wire();
        value.as_u64().filter(|count| *count > 0).ok_or_else(refused)
    }

    fn name(&mut self, name: &str) -> Result<Option<String>, WireError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Err(FindRefusal::EmptyName.to_wire()),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(FindRefusal::NotString { value: shown(&other) }.to_wire()),
        }
    }

    fn sort(&mut self, name: &str) -> Result<Option<Vec<SortField>>, WireError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        // Read apart from other values, since names of members may repeat and have an order.
        let Ok(fields) = serde_json::from_str::<Vec<Value>>(raw.get()) else {
            return Err(FindRefusal::Sort { value: printable(raw.get()) }.to_wire());
        };
        let fields = fields.iter().map(sort_field).collect::<Result<Vec<_>, _>>()?;
        if fields.iter().any(|field| field.order != fields[0].order) {
            return Err(FindError::MixedSort.to_wire());
        }
        Ok(Some(fields))
    }

    fn selector(&mut self, name: &str, limits: &Limits) -> Result<Option<Selector>, WireError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        if !raw.get().starts_with('{') {
            return Err(FindRefusal::Selector { value: printable(raw.get()) }.to_wire());
        }
        Selector::parse(raw.get(), limits).map(Some).map_err(|error| error.to_wire())
    }

    /// A list of ids of design documents.
    pub(super) fn ddocs(&mut self, name: &'static str) -> Result<Vec<String>, WireError> {
        let value =
            self.value(name).ok_or_else(|| FindRefusal::MissingKey { key: name }.to_wire())?;
        let refused = || FindRefusal::BulkDocs { value: shown(&value) }.to_wire();
        let Value::Array(ids) = &value else { return Err(refused()) };
        ids.iter().map(|id| id.as_str().map(str::to_owned).ok_or_else(refused)).collect()
    }

    pub(super) fn check_empty(self) -> Result<(), WireError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(key) => Err(FindRefusal::UnknownKey { key }.to_wire()),
        }
    }
}

fn shown(value: &Value) -> String {
    printable(&value.to_string())
}

fn sort_field(value: &Value) -> Result<SortField, WireError> {
    let refused = || FindRefusal::SortField { value: shown(value) }.to_wire();
    let (name, order) = match value {
        Value::String(name) => (name, Order::Ascending),
        Value::Object(member) if member.len() == 1 => {
            let (name, direction) = member.iter().next().ok_or_else(refused)?;
            let order = match direction.as_str() {
                Some("asc") => Order::Ascending,
                Some("desc") => Order::Descending,
                _ => return Err(refused()),
            };
            (name, order)
        }
        _ => return Err(refused()),
    };
    if name.is_empty() {
        return Err(refused());
    }
    Ok(SortField { field: FieldPath::parse(name).map_err(|error| error.to_wire())?, order })
}

impl Query {
    pub(super) fn read(
        members: BTreeMap<String, Box<RawValue>>,
        partition: bool,
        limits: &Limits,
    ) -> Result<Self, WireError> {
        let mut members = Members::new(members);
        let missing = || FindRefusal::MissingKey { key: "selector" }.to_wire();
        let finds_nothing = members.0.get("selector").is_some_and(|raw| is_empty_list(raw.get()));
        let selector = members.selector("selector", limits)?.ok_or_else(missing)?;
        let mut request = FindRequest::new(selector);
        request.use_index = use_index(members.value("use_index"))?;
        request.bookmark = bookmark(members.value("bookmark"))?;
        request.limit = clamp(members.count("limit", request.limit as u64)?);
        request.skip = clamp(members.count("skip", 0)?);
        request.sort = members.sort("sort")?.unwrap_or_default();
        let fields = fields(members.value("fields"))?;
        let in_partition = members.value("partition").is_some_and(|name| name != "");
        let r = members.positive("r", 1)?;
        request.conflicts = members.flag("conflicts", false)?;
        let stale = stale(members.value("stale"))?;
        let update = members.flag("update", true)?;
        let stable = members.flag("stable", false)?;
        let execution_stats = members.flag("execution_stats", false)?;
        request.allow_fallback = members.flag("allow_fallback", true)?;
        members.check_empty()?;
        if partition || in_partition {
            return Err(FindRefusal::Partition.to_wire());
        }
        request.update = update && !stale;
        if finds_nothing {
            request.limit = 0;
        }
        Ok(Self { request, fields, execution_stats, r, stable, stale, update })
    }
}

/// Whether a selector is one of these alone, with nothing in it: CouchDB then finds nothing,
/// although within another selector it lets everything pass.
fn is_empty_list(selector: &str) -> bool {
    let members = serde_json::from_str::<BTreeMap<String, Value>>(selector).unwrap_or_default();
    let is_empty =
        |name: &str| members.get(name).is_some_and(|value| *value == Value::Array(vec![]));
    members.len() == 1 && (is_empty("$or") || is_empty("$and"))
}

fn use_index(value: Option<Value>) -> Result<Option<UseIndex>, WireError> {
    let Some(value) = value else { return Ok(None) };
    let refused = || FindRefusal::IndexName { value: shown(&value) }.to_wire();
    let parts: Vec<&str> = match &value {
        Value::Null => Vec::new(),
        Value::String(name) => match name.split('/').collect::<Vec<_>>()[..] {
            ["_design", ddoc] | [ddoc] => vec![ddoc],
            ["_design", ddoc, name] | [ddoc, name] => vec![ddoc, name],
            _ => return Err(refused()),
        },
        Value::Array(parts) => {
            parts.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(refused)?
        }
        _ => return Err(refused()),
    };
    match parts[..] {
        [] => Ok(None),
        [ddoc] => Ok(Some(UseIndex { ddoc: ddoc.to_owned(), name: None })),
        [ddoc, name] => Ok(Some(UseIndex { ddoc: ddoc.to_owned(), name: Some(name.to_owned()) })),
        _ => Err(refused()),
    }
}

fn bookmark(value: Option<Value>) -> Result<String, WireError> {
    match value {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(FindRefusal::Bookmark { value: shown(&other) }.to_wire()),
    }
}

fn stale(value: Option<Value>) -> Result<bool, WireError> {
    match value {
        None | Some(Value::Bool(false)) => Ok(false),
        Some(Value::String(text)) if text == "false" => Ok(false),
        Some(Value::String(text)) if text == "ok" => Ok(true),
        Some(other) => Err(FindRefusal::NotOkOrFalse { value: shown(&other) }.to_wire()),
    }
}

fn fields(value: Option<Value>) -> Result<Vec<FieldPath>, WireError> {
    let names = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(names)) => names,
        Some(other) => return Err(FindRefusal::Fields { value: shown(&other) }.to_wire()),
    };
    let field = |name: &Value| match name {
        Value::String(name) => FieldPath::parse(name).map_err(|error| error.to_wire()),
        other => Err(FindRefusal::Field { value: shown(other) }.to_wire()),
    };
    names.iter().map(field).collect()
}

fn clamp(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Reads what `_index` is asked to make.
pub(super) fn new_index(
    members: BTreeMap<String, Box<RawValue>>,
    limits: &Limits,
) -> Result<NewIndex, WireError> {
    let mut members = Members::new(members);
    let missing = |key| FindRefusal::MissingKey { key }.to_wire();
    let index = members.raw("index").ok_or_else(|| missing("index"))?;
    match members.value("type") {
        None => {}
        Some(Value::String(name)) if name == "json" => {}
        Some(Value::String(name)) if ["text", "nouveau"].contains(&name.as_str()) => {
            return Err(FindRefusal::TextIndex { name }.to_wire());
        }
        Some(Value::String(name)) => return Err(FindRefusal::IndexType { name }.to_wire()),
        Some(other) => return Err(FindRefusal::NotString { value: shown(&other) }.to_wire()),
    }
    let (name, ddoc) = (members.name("name")?, members.name("ddoc")?);
    members.positive("w", 2)?;
    if members.flag("partitioned", false)? {
        return Err(FindRefusal::Partition.to_wire());
    }
    members.check_empty()?;
    let Ok(index) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(index.get()) else {
        return Err(FindRefusal::IndexJson { value: printable(index.get()) }.to_wire());
    };
    let mut index = Members::new(index);
    let fields = index.sort("fields")?.ok_or_else(|| missing("fields"))?;
    let partial_filter = index.selector("partial_filter_selector", limits)?;
    index.check_empty()?;
    Ok(NewIndex { fields, partial_filter, ddoc, name })
}
