//! `_explain`: which index a query uses, and why no other one.

use std::ops::Bound;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::doc::selector::FieldRange;
use crate::doc::{DbName, Json, Selector};
use crate::store::find::{Reason, Way, covers};
use crate::store::index::order_name;
use crate::store::{Index, Order};

use super::request::Query;

/// What stands for a bound above all values.
const MAX: &str = "<MAX>";

/// An index as it is shown.
#[derive(serde::Serialize)]
pub(super) struct Shown {
    ddoc: Option<String>,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitioned: Option<bool>,
    def: Box<RawValue>,
}

impl Shown {
    pub(super) fn all_docs() -> Self {
        Self {
            ddoc: None,
            name: "_all_docs".to_owned(),
            kind: "special",
            partitioned: None,
            def: raw(json!({"fields": [{"_id": "asc"}]}).to_string()),
        }
    }

    pub(super) fn index(index: &Index) -> Self {
        Self {
            ddoc: Some(index.ddoc.to_string()),
            name: index.name.clone(),
            kind: "json",
            partitioned: Some(false),
            def: raw(index.definition().to_string()),
        }
    }

    fn way(way: Way<'_>) -> Self {
        match way {
            Way::AllDocs => Self::all_docs(),
            Way::Index(index) => Self::index(index),
        }
    }
}

/// An index that is not used.
#[derive(serde::Serialize)]
struct Candidate {
    index: Shown,
    analysis: Value,
}

#[derive(serde::Serialize)]
struct Explanation {
    dbname: String,
    /// None where no index has the order that is asked for.
    index: Option<Shown>,
    partitioned: bool,
    selector: Box<RawValue>,
    opts: Value,
    limit: u64,
    skip: u64,
    fields: Vec<String>,
    index_candidates: Vec<Candidate>,
    selector_hints: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    mrargs: Option<Arguments>,
    #[serde(skip_serializing_if = "Option::is_none")]
    covering: Option<bool>,
}

/// How CouchDB would read its view.
#[derive(serde::Serialize)]
struct Arguments {
    include_docs: bool,
    view_type: &'static str,
    reduce: bool,
    partition: Option<String>,
    start_key: Box<RawValue>,
    end_key: Box<RawValue>,
    direction: &'static str,
    stable: bool,
    update: bool,
    conflicts: Value,
}

/// Tells the way that was chosen, if there is one, and the others.
pub(super) fn explain(
    name: &DbName,
    query: &Query,
    chosen: Option<Way<'_>>,
    others: &[(Way<'_>, Reason)],
) -> String {
    let request = &query.request;
    let fields: Vec<String> = query.fields.iter().map(ToString::to_string).collect();
    let covering = |way: Way<'_>| match way {
        Way::AllDocs => false,
        Way::Index(index) => {
            let mut needed = request.selector.fields();
            needed.extend_from_slice(&fields);
            !fields.is_empty() && covers(index, &needed)
        }
    };
    let explanation = Explanation {
        dbname: name.to_string(),
        index: chosen.map(Shown::way),
        partitioned: false,
        selector: raw(request.selector.as_str().to_owned()),
        opts: opts(query, &fields),
        limit: request.limit as u64,
        skip: request.skip as u64,
        index_candidates: candidates(others, covering),
        selector_hints: hints(&request.selector),
        mrargs: chosen.map(|way| arguments(query, way)),
        covering: chosen.map(covering),
        fields,
    };
    serde_json::to_string(&explanation).expect("its parts serialise")
}

/// Text that was made as JSON.
fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("it was printed as JSON")
}

fn opts(query: &Query, fields: &[String]) -> Value {
    let request = &query.request;
    let sort = request.sort.iter().map(|by| (by.field.to_string(), json!(order_name(by.order))));
    let use_index: Vec<&str> = request
        .use_index
        .iter()
        .flat_map(|named| [Some(named.ddoc.as_str()), named.name.as_deref()])
        .flatten()
        .collect();
    let bookmark = if request.bookmark.is_empty() { "nil" } else { &request.bookmark };
    json!({
        "use_index": use_index,
        "bookmark": bookmark,
        "limit": request.limit,
        "skip": request.skip,
        "sort": sort.collect::<Map<String, Value>>(),
        "fields": fields,
        "partition": "",
        "r": query.r,
        "conflicts": request.conflicts,
        "stale": if query.stale { json!("ok") } else { json!(false) },
        "update": query.update,
        "stable": query.stable,
        "execution_stats": query.execution_stats,
        "allow_fallback": request.allow_fallback,
    })
}

fn candidates(others: &[(Way<'_>, Reason)], covering: impl Fn(Way<'_>) -> bool) -> Vec<Candidate> {
    let mut others = others.to_vec();
    others.sort_by_key(|(_, reason)| !reason.is_usable());
    let candidate = |(place, (way, reason)): (usize, (Way<'_>, Reason))| {
        let covering = match way {
            Way::AllDocs => Value::Null,
            Way::Index(_) => json!(covering(way)),
        };
        let analysis = json!({
            "usable": reason.is_usable(),
            "reasons": [{"name": reason.name()}],
            "ranking": place + 1,
            "covering": covering,
        });
        Candidate { index: Shown::way(way), analysis }
    };
    others.into_iter().enumerate().map(candidate).collect()
}

fn hints(selector: &Selector) -> Value {
    let ranges = selector.ranges();
    let indexable = |name: &String| {
        let path = crate::doc::FieldPath::parse(name);
        path.is_ok_and(|path| {
            ranges.iter().any(|range| range.indexable && range.field == path.parts())
        })
    };
    let (indexable, others): (Vec<String>, Vec<String>) =
        selector.fields().into_iter().partition(indexable);
    json!([{"type": "json", "indexable_fields": indexable, "unindexable_fields": others}])
}

fn arguments(query: &Query, way: Way<'_>) -> Arguments {
    let request = &query.request;
    let ranges = request.selector.ranges();
    let (start, end) = match way {
        Way::AllDocs => {
            let range = ranges.iter().find(|range| range.field == ["_id"]);
            let (low, high) = range.map_or((None, None), ends);
            let low = low.map_or_else(|| "\"\"".to_owned(), ToString::to_string);
            (low, high.map_or_else(|| json!(MAX).to_string(), ToString::to_string))
        }
        Way::Index(index) => keys(index, &ranges),
    };
    let descending = request.order() == Order::Descending;
    let (start, end) = if descending { (end, start) } else { (start, end) };
    Arguments {
        include_docs: true,
        view_type: "map",
        reduce: false,
        partition: None,
        start_key: raw(start),
        end_key: raw(end),
        direction: if descending { "rev" } else { "fwd" },
        stable: query.stable,
        update: request.update,
        conflicts: if request.conflicts { json!(true) } else { json!("undefined") },
    }
}

fn ends<'s>(range: &FieldRange<'s>) -> (Option<&'s Json<'static>>, Option<&'s Json<'static>>) {
    let value = |bound| match bound {
        Bound::Included(value) | Bound::Excluded(value) => Some(value),
        Bound::Unbounded => None,
    };
    (value(range.lower), value(range.upper))
}

/// The first and last key, each as far as the selector tells the values of fields.
fn keys(index: &Index, ranges: &[FieldRange<'_>]) -> (String, String) {
    let of_field =
        |parts: &[String]| ranges.iter().find(|range| range.indexable && range.field == parts);
    let known = index.fields.iter().map_while(|by| of_field(by.field.parts())).map(ends);
    let known: Vec<_> = known.collect();
    let low = known.iter().map_while(|(low, _)| low.cloned());
    let mut high: Vec<Json<'static>> = known.iter().map_while(|(_, high)| high.cloned()).collect();
    high.push(Json::String(MAX.into()));
    (Json::Array(low.collect()).to_string(), Json::Array(high).to_string())
}
