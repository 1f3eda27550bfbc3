//! Generated selectors, judged here and by `pouchdb-selector-core`, must agree.
//!
//! What is generated keeps to what the two mean alike. Each way in which they differ has a row of
//! its own in [`each_difference_is_as_described`], which asserts both answers, so that the list in
//! `docs/SELECTORS.md` cannot become untrue. `SETTEE_SELECTORS` says how many selectors,
//! `SETTEE_SEED` the first one's seed; each has a seed of its own, so that one number replays it.

#[path = "support/node.rs"]
mod node;
#[path = "support/random.rs"]
mod random;

use random::{Random, number};
use serde::Serialize;
use serde_json::{Map, Value, json};
use settee::{Document, Selector};

const SELECTORS: u64 = 5_000;
const SEED: u64 = 20_260_101;
const DOCS: usize = 8;

#[derive(Serialize)]
struct Case {
    selector: Value,
    docs: Vec<Value>,
}

/// Fields that every generated document has, none of them null.
const PRESENT: [&str; 3] = ["p", "q", "o.p"];
/// Fields that it may lack.
const MAYBE: [&str; 5] = ["m", "n", "o.m", "x.y", "l.1"];

fn one<'a>(random: &mut Random, list: &[&'a str]) -> &'a str {
    list[random.below(list.len())]
}

fn scalar(random: &mut Random) -> Value {
    match random.below(6) {
        0 => json!(random.one_in(2)),
        1 => json!(random.below(4)),
        // Never whole, which the two write differently.
        2 => json!(random.below(4) as f64 - 1.5),
        // Letters that collate as they are encoded.
        _ => json!(one(random, &["", "a", "ab", "abc", "b", "ba", "c"])),
    }
}

fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(8) {
        0 if depth > 0 => {
            Value::Array((0..random.below(3)).map(|_| value(random, depth - 1)).collect())
        }
        1 if depth > 0 => {
            let keys = ["a", "b", "c"].iter().take(random.below(4));
            Value::Object(keys.map(|&key| (key.to_owned(), value(random, depth - 1))).collect())
        }
        _ => scalar(random),
    }
}

fn doc(random: &mut Random) -> Value {
    let mut doc = Map::new();
    doc.insert("_id".into(), json!(one(random, &["a", "ab", "b", "c"])));
    for key in ["p", "q"] {
        doc.insert(key.into(), value(random, 2));
    }
    let mut inner = json!({ "p": value(random, 1) });
    if random.one_in(2) {
        inner["m"] = value(random, 1);
    }
    doc.insert("o".into(), inner);
    for key in ["m", "n"] {
        if random.one_in(2) {
            let null = random.one_in(5);
            doc.insert(key.into(), if null { Value::Null } else { value(random, 2) });
        }
    }
    if random.one_in(2) {
        doc.insert("x".into(), json!({ "y": value(random, 1) }));
    }
    if random.one_in(2) {
        doc.insert("l".into(), json!([scalar(random), scalar(random)]));
    }
    Value::Object(doc)
}

fn comparison(random: &mut Random) -> (&'static str, Value) {
    let operator = one(random, &["$eq", "$lt", "$lte", "$gt", "$gte"]);
    (operator, if random.one_in(8) { Value::Null } else { value(random, 2) })
}

/// Operators that judge elements: the arrays they look into hold scalars only.
fn of_elements(random: &mut Random) -> (&'static str, Value) {
    let (operator, argument) = comparison(random);
    let inner = json!({ operator: if argument.is_object() { json!(1) } else { argument } });
    (one(random, &["$elemMatch", "$allMatch"]), inner)
}

fn of_present(random: &mut Random) -> (&'static str, Value) {
    match random.below(5) {
        0 => ("$ne", scalar(random)),
        1 => ("$in", Value::Array((0..random.below(4)).map(|_| value(random, 1)).collect())),
        2 => ("$nin", Value::Array((0..random.below(4)).map(|_| value(random, 1)).collect())),
        _ => comparison(random),
    }
}

fn of_any(random: &mut Random) -> (&'static str, Value) {
    match random.below(8) {
        0 => ("$exists", json!(random.one_in(2))),
        1 => {
            let types = ["null", "boolean", "number", "string", "array", "object"];
            ("$type", json!(one(random, &types)))
        }
        2 => ("$size", json!(random.below(3))),
        3 => ("$mod", json!([1 + random.below(3), random.below(2)])),
        4 => ("$regex", json!(one(random, &["^a", "b$", "a.c", "^$", "[bc]"]))),
        5 => {
            let operands = (0..=random.below(2)).map(|_| scalar(random));
            ("$all", Value::Array(operands.collect()))
        }
        _ => comparison(random),
    }
}

/// A field and its condition.
fn field(random: &mut Random, negated: bool) -> (String, Value) {
    if random.one_in(6) {
        let (operator, argument) = of_elements(random);
        // Only there arrays are sure to hold scalars; it may be missing, so it is not negated.
        return if negated {
            ("p".into(), json!({"$eq": 1}))
        } else {
            ("l".into(), json!({ operator: argument }))
        };
    }
    let present = negated || random.one_in(2);
    let name = if present { one(random, &PRESENT) } else { one(random, &MAYBE) };
    let mut conditions = Map::new();
    for _ in 0..=random.below(2) {
        let (operator, argument) =
            if present && random.one_in(2) { of_present(random) } else { of_any(random) };
        conditions.insert(operator.into(), argument);
    }
    if conditions.len() == 1 && random.one_in(4) {
        let value = scalar(random);
        return (name.into(), value);
    }
    (name.into(), Value::Object(conditions))
}

fn fields(random: &mut Random, negated: bool) -> Map<String, Value> {
    (0..=random.below(3)).map(|_| field(random, negated)).collect()
}

/// Fields with one explicit operator each: PouchDB merges several.
fn single(random: &mut Random, negated: bool) -> Map<String, Value> {
    let first = |(name, condition): (String, Value)| {
        let first = condition.as_object().and_then(|conditions| conditions.iter().next());
        let only = match first {
            Some((operator, argument)) => json!({ operator.as_str(): argument }),
            None => json!({ "$eq": condition }),
        };
        (name, only)
    };
    fields(random, negated).into_iter().map(first).collect()
}

fn parts(random: &mut Random, negated: bool) -> Value {
    let fields = single(random, negated);
    fields.into_iter().map(|(name, condition)| json!({ name: condition })).collect()
}

fn case(seed: u64) -> Case {
    let mut random = Random(seed);
    let random = &mut random;
    let mut selector = match random.below(6) {
        0 => json!({ "$and": parts(random, false) }),
        1 => json!({ "$or": parts(random, false) }),
        2 => json!({ "$nor": parts(random, true) }),
        3 => json!({ "$not": single(random, true) }),
        _ => Value::Object(fields(random, false)),
    };
    let plain = selector.get("$and").is_none();
    if plain && random.one_in(3) {
        let (name, condition) = field(random, false);
        selector[name] = condition;
    }
    Case { selector, docs: (0..DOCS).map(|_| doc(random)).collect() }
}

fn judge_here(case: &Case) -> Vec<Value> {
    let selector = Selector::from_value(&case.selector);
    let judge = |doc: &Value| match &selector {
        Ok(selector) => json!(selector.matches(&document(doc))),
        Err(_) => json!("throws"),
    };
    case.docs.iter().map(judge).collect()
}

fn document(doc: &Value) -> Document {
    let limits = settee::Limits::default();
    let mut doc = doc.clone();
    let id = doc.as_object_mut().unwrap().remove("_id").unwrap_or(json!("id"));
    doc["_id"] = id;
    Document::parse(&doc.to_string(), &limits).expect("a document")
}

#[test]
fn selectors_agree_with_pouchdb() {
    if node::opted_out() {
        return;
    }
    let (first, count) = (number("SETTEE_SEED", SEED), number("SETTEE_SELECTORS", SELECTORS));
    let seeds: Vec<u64> = (0..count).map(|index| first.wrapping_add(index)).collect();
    let cases: Vec<Case> = seeds.iter().map(|seed| case(*seed)).collect();
    let answers: Vec<Vec<Value>> = node::through("select.mjs", &cases);
    assert_eq!(answers.len(), cases.len());
    let mut matched = 0;
    for ((seed, case), theirs) in seeds.iter().zip(&cases).zip(answers) {
        let ours = judge_here(case);
        for ((doc, ours), theirs) in case.docs.iter().zip(&ours).zip(&theirs) {
            assert_eq!(
                ours, theirs,
                "left is ours. {} judges {doc}\nreplay: SETTEE_SEED={seed} SETTEE_SELECTORS=1 \
                 cargo test --test pouchdb_selectors",
                case.selector
            );
        }
        matched += ours.iter().filter(|answer| **answer == json!(true)).count();
    }
    let judged = cases.len() * DOCS;
    println!("{matched} of {judged} documents match; seeds from {first}");
    assert!(count < 100 || (judged / 10..judged * 9 / 10).contains(&matched), "{matched}");
}

struct Difference {
    why: &'static str,
    selector: &'static str,
    doc: &'static str,
    ours: Value,
    theirs: Value,
}

fn differs(
    why: &'static str,
    selector: &'static str,
    doc: &'static str,
    ours: impl Into<Value>,
    theirs: impl Into<Value>,
) -> Difference {
    Difference { why, selector, doc, ours: ours.into(), theirs: theirs.into() }
}

/// In how values and fields are judged.
fn differences_of_values() -> Vec<Difference> {
    vec![
        differs("strings: ICU's collation", r#"{"a":{"$gt":"B"}}"#, r#"{"a":"a"}"#, false, true),
        differs("strings: ICU's collation", r#"{"a":{"$lt":"B"}}"#, r#"{"a":"b"}"#, true, false),
        differs(
            "strings: equal by collation",
            r#"{"a":"\u00e9"}"#,
            r#"{"a":"e\u0301"}"#,
            true,
            false,
        ),
        differs(
            "numbers: exact",
            r#"{"a":9007199254740993}"#,
            r#"{"a":9007199254740992}"#,
            false,
            true,
        ),
        differs(
            "numbers: 1.0 is no integer",
            r#"{"a":{"$mod":[2,1]}}"#,
            r#"{"a":1.0}"#,
            false,
            true,
        ),
        differs("missing: negations fail", r#"{"a":{"$ne":1}}"#, "{}", false, true),
        differs("missing: negations fail", r#"{"$not":{"a":1}}"#, "{}", false, true),
        differs("missing: negations fail", r#"{"$nor":[{"a":1}]}"#, "{}", false, true),
        differs(
            "null: a value like others",
            r#"{"a":{"$in":[null]}}"#,
            r#"{"a":null}"#,
            true,
            false,
        ),
        differs("null: a value like others", r#"{"a":{"$nin":[1]}}"#, r#"{"a":null}"#, true, false),
        differs(
            "null: a value like others",
            r#"{"a":{"b":null}}"#,
            r#"{"a":{"b":1}}"#,
            false,
            true,
        ),
        differs("paths: through 0 and null", r#"{"a.b":0}"#, r#"{"a":0}"#, false, true),
        differs(
            "paths: through other scalars",
            r#"{"a.b":{"$exists":false}}"#,
            r#"{"a":1}"#,
            false,
            true,
        ),
        differs("paths: length of arrays", r#"{"a.length":2}"#, r#"{"a":[1,2]}"#, false, true),
        differs("paths: missing objects", r#"{"a":{"b":{"$gt":1}}}"#, "{}", false, "throws"),
    ]
}

/// In what selectors may be, and how their parts go together.
fn differences_of_selectors() -> Vec<Difference> {
    vec![
        differs("empty: $or matches", r#"{"$or":[]}"#, "{}", true, false),
        differs("empty: $all does not", r#"{"a":{"$all":[]}}"#, r#"{"a":[]}"#, false, true),
        differs("empty: {} is a value", r#"{"a":{}}"#, r#"{"a":1}"#, false, true),
        differs("arrays are values", r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, false, true),
        differs("arrays are values", r#"{"a":{"$ne":[1]}}"#, r#"{"a":[1]}"#, false, true),
        differs(
            "$all takes the array itself",
            r#"{"a":{"$all":[[1,2]]}}"#,
            r#"{"a":[1,2]}"#,
            true,
            false,
        ),
        differs(
            "$elemMatch judges each",
            r#"{"a":{"$elemMatch":{"$gt":5}}}"#,
            r#"{"a":[{"b":1},7]}"#,
            true,
            false,
        ),
        differs(
            "$and: each part counts",
            r#"{"$and":[{"a":1},{"a":{"$gt":5}}]}"#,
            r#"{"a":1}"#,
            false,
            true,
        ),
        differs(
            "$and: each part counts",
            r#"{"$and":[{"a":{"$in":[1]}},{"a":{"$in":[1,2]}}]}"#,
            r#"{"a":2}"#,
            false,
            true,
        ),
        differs(
            "operators within fields",
            r#"{"a":{"$not":{"$gt":1}}}"#,
            r#"{"a":1}"#,
            true,
            "throws",
        ),
        differs("operators within fields", r#"{"a":{"$or":[1,2]}}"#, r#"{"a":1}"#, true, "throws"),
        differs(
            "operators of CouchDB",
            r#"{"a":{"$beginsWith":"b"}}"#,
            r#"{"a":"bc"}"#,
            true,
            "throws",
        ),
        differs(
            "operators of CouchDB",
            r#"{"a":{"$keyMapMatch":{"$eq":"b"}}}"#,
            r#"{"a":{"b":1}}"#,
            true,
            "throws",
        ),
        differs("arguments are checked", r#"{"a":{"$exists":1}}"#, r#"{"a":1}"#, "throws", true),
        differs("arguments are checked", r#"{"a":{"$size":"1"}}"#, r#"{"a":[1]}"#, "throws", false),
        differs(
            "patterns: no look-around",
            r#"{"a":{"$regex":"a(?=b)"}}"#,
            r#"{"a":"ab"}"#,
            "throws",
            true,
        ),
        differs(
            "patterns: whole characters",
            r#"{"a":{"$regex":"^.$"}}"#,
            r#"{"a":"😀"}"#,
            true,
            false,
        ),
        differs("names: backslashes go", r#"{"a\\b":1}"#, r#"{"ab":1}"#, true, false),
    ]
}

#[test]
fn each_difference_is_as_described() {
    if node::opted_out() {
        return;
    }
    // JavaScript would not tell 1.0 from 1 nor such integers apart; Rust reads the text itself.
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect(text);
    let mut rows = differences_of_values();
    rows.extend(differences_of_selectors());
    let cases: Vec<Case> = rows
        .iter()
        .map(|row| Case { selector: parse(row.selector), docs: vec![parse(row.doc)] })
        .collect();
    let answers: Vec<Vec<Value>> = node::through("select.mjs", &cases);
    for (row, theirs) in rows.iter().zip(answers) {
        let limits = settee::Limits::default();
        let ours = match Selector::parse(row.selector, &limits) {
            Ok(selector) => {
                let text = row.doc.replacen('{', r#"{"_id":"id","#, 1).replace(",}", "}");
                json!(selector.matches(&Document::parse(&text, &limits).expect(&text)))
            }
            Err(_) => json!("throws"),
        };
        let Difference { why, selector, doc, .. } = row;
        assert_eq!(ours, row.ours, "ours: {why}: {selector} {doc}");
        assert_eq!(theirs[0], row.theirs, "theirs: {why}: {selector} {doc}");
    }
}
