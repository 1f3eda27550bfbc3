//! `_explain`: which index a query uses, and why no other one.

use std::ops::Bound;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::doc::selector::FieldRange;
use crate::doc::{DbName, Json, Selector};
use crate::store::find::{Plan, Reason, Way, covers};
use crate::store::index::order_name;
use crate::store::{Index, Order};

use super::request::Query;

/// What stands for a bound above all values.
const MAX: &str = "<MAX>";

#[derive(serde::Serialize)]
struct Explanation {
    dbname: String,
    index: Value,
    partitioned: bool,
    selector: Box<RawValue>,
    opts: Value,
    limit: u64,
    skip: u64,
    fields: Vec<String>,
    index_candidates: Vec<Value>,
    selector_hints: Value,
    mrargs: Arguments,
    covering: bool,
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

pub(super) fn explain(name: &DbName, query: &Query, plan: &Plan<'_>) -> String {
    let request = &query.request;
    let fields: Vec<String> = query.fields.iter().map(ToString::to_string).collect();
    let covering = |way: &Way<'_>| match way {
        Way::AllDocs => false,
        Way::Index(index) => {
            let mut needed = request.selector.fields();
            needed.extend_from_slice(&fields);
            !fields.is_empty() && covers(index, &needed)
        }
    };
    let explanation = Explanation {
        dbname: name.to_string(),
        index: way_json(plan.way),
        partitioned: false,
        selector: raw(request.selector.as_str().to_owned()),
        opts: opts(query, &fields),
        limit: request.limit as u64,
        skip: request.skip as u64,
        index_candidates: candidates(plan, covering),
        selector_hints: hints(&request.selector),
        mrargs: arguments(query, plan.way),
        covering: covering(&plan.way),
        fields,
    };
    serde_json::to_string(&explanation).expect("its parts serialise")
}

/// Text that was made as JSON.
fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("it was printed as JSON")
}

pub(super) fn all_docs_json() -> Value {
    json!({
        "ddoc": null,
        "name": "_all_docs",
        "type": "special",
        "def": {"fields": [{"_id": "asc"}]},
    })
}

pub(super) fn index_json(index: &Index) -> Value {
    let def: Value = serde_json::from_str(&index.definition().to_string()).unwrap_or_default();
    json!({
        "ddoc": index.ddoc.as_str(),
        "name": index.name,
        "type": "json",
        "partitioned": false,
        "def": def,
    })
}

fn way_json(way: Way<'_>) -> Value {
    match way {
        Way::AllDocs => all_docs_json(),
        Way::Index(index) => index_json(index),
    }
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

fn candidates(plan: &Plan<'_>, covering: impl Fn(&Way<'_>) -> bool) -> Vec<Value> {
    let mut others: Vec<(&Way<'_>, Reason)> =
        plan.others.iter().map(|(way, r)| (way, *r)).collect();
    others.sort_by_key(|(_, reason)| !reason.is_usable());
    let candidate = |(place, (way, reason)): (usize, (&Way<'_>, Reason))| {
        let covering = match way {
            Way::AllDocs => Value::Null,
            Way::Index(_) => json!(covering(way)),
        };
        json!({
            "index": way_json(*way),
            "analysis": {
                "usable": reason.is_usable(),
                "reasons": [{"name": reason.name()}],
                "ranking": place + 1,
                "covering": covering,
            },
        })
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
