//! What CouchDB's own tests say of selectors: `mango_selector.erl` and `src/mango/test`.
//!
//! A row has a selector and documents that match it, then documents that do not. `x` rows are also
//! judged under `$not`, which must then tell the opposite.

use settee::{Document, Limits, Selector};

fn parse(text: &str) -> Selector {
    Selector::parse(text, &Limits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn matches(selector: &str, body: &str) -> bool {
    let text = body.replacen('{', r#"{"_id":"foo","_rev":"1-bar","#, 1).replace(",}", "}");
    let document = Document::parse(&text, &Limits::default())
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    parse(selector).matches(&document)
}

#[track_caller]
fn check(selector: &str, matching: &[&str], others: &[&str]) {
    for body in matching {
        assert!(matches(selector, body), "{selector} must match {body}");
    }
    for body in others {
        assert!(!matches(selector, body), "{selector} must not match {body}");
    }
}

/// The same for conditions of a field `x` and values of it.
#[track_caller]
fn check_x(condition: &str, matching: &[&str], others: &[&str]) {
    let bodies =
        |values: &[&str]| values.iter().map(|v| format!(r#"{{"x":{v}}}"#)).collect::<Vec<_>>();
    let (matching, others) = (bodies(matching), bodies(others));
    let matching: Vec<&str> = matching.iter().map(String::as_str).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    check(&format!(r#"{{"x":{condition}}}"#), &matching, &others);
    check(&format!(r#"{{"x":{{"$not":{condition}}}}}"#), &others, &matching);
}

#[test]
fn comparisons() {
    check(
        r#"{"user_id":11,"_id":"foo","_rev":"1-bar"}"#,
        &[r#"{"user_id":11}"#],
        &[r#"{"user_id":"11"}"#, r#"{"user_id":1234}"#],
    );
    check_x(r#"{"$lt":5}"#, &["4"], &["5", "6"]);
    check_x(r#"{"$lt":"hello"}"#, &["\"held\""], &["\"hello\"", "\"help\""]);
    check_x(r#"{"$lt":[1,2,3]}"#, &["[1,2,2]", "[1,2]"], &["[1,2,3]", "[1,2,4]", "[1,3]"]);
    check_x(r#"{"$lte":5}"#, &["4", "5"], &["6"]);
    check_x(r#"{"$lte":[1,2,3]}"#, &["[1,2,2]", "[1,2]", "[1,2,3]"], &["[1,2,4]", "[1,3]"]);
    check_x(r#"{"$gt":5}"#, &["6"], &["4", "5"]);
    check_x(r#"{"$gt":[1,2,3]}"#, &["[1,2,4]", "[1,3]"], &["[1,2,2]", "[1,2]", "[1,2,3]"]);
    check_x(r#"{"$gte":5}"#, &["5", "6"], &["4"]);
    check_x(r#"{"$gte":"hello"}"#, &["\"hello\"", "\"help\""], &["\"held\""]);
    check_x(r#"{"$eq":5}"#, &["5"], &["6"]);
    check_x(
        r#"{"$eq":[1,[2,3,4],5]}"#,
        &["[1,[2,3,4],5]"],
        &["[1,[2,3,4]]", "[1,[2,3,4],5,6]", "[1,[2,7,4],5]"],
    );
    check_x(
        r#"{"$eq":{"a":{"b":{"c":7}}}}"#,
        &[r#"{"a":{"b":{"c":7}}}"#],
        &[r#"{"a":{"b":{"c":8}}}"#, r#"{"a":{"b":{"d":7}}}"#, r#"{"a":{"d":{"c":7}}}"#],
    );
    check_x(r#"{"$ne":5}"#, &["6"], &["5"]);
    check_x(r#"{"$ne":"hello"}"#, &["\"help\""], &["\"hello\""]);
    check(r#"{"x":{"$ne":5}}"#, &[], &["{}"]);
    check(r#"{"$not":{"x":5}}"#, &[], &["{}"]);
}

#[test]
fn types_stand_in_one_order_and_null_is_not_missing() {
    let (null, text, none) = (r#"{"t":null}"#, r#"{"t":"@a"}"#, "{}");
    check(r#"{"t":null}"#, &[null], &[text, none]);
    check(r#"{"t":{"$ne":"other"}}"#, &[null, text], &[none]);
    check(r#"{"t":{"$lte":null}}"#, &[null], &[text, none]);
    check(r#"{"t":{"$lt":1}}"#, &[null], &[text, none]);
    check(r#"{"t":{"$gte":null}}"#, &[null, text], &[none]);
    check(r#"{"t":{"$and":[{"$lte":"@z"},{"$ne":null}]}}"#, &[text], &[null, none]);
    check(r#"{"t":{"$exists":false}}"#, &[none], &[null, text]);
    check(
        r#"{"name":{"$gte":0}}"#,
        &[r#"{"name":"Jimi"}"#, r#"{"name":{"forename":"Eddie"}}"#, r#"{"name":1}"#],
        &[r#"{"name":null}"#, "{}"],
    );
    check(
        r#"{"name.forename":{"$exists":true}}"#,
        &[r#"{"name":{"forename":"Eddie"}}"#],
        &[r#"{"name":"Jimi"}"#, r#"{"name":1}"#, r#"{"forename":"Sam"}"#],
    );
}

#[test]
fn strings_are_in_unicode_collation() {
    let below = ["a", "-", "_", "#", "1"].map(|text| format!(r#"{{"o":"{text}"}}"#));
    let above = ["A", "aa", "B"].map(|text| format!(r#"{{"o":"{text}"}}"#));
    check(
        r#"{"o":{"$lte":"a"}}"#,
        &below.each_ref().map(String::as_str),
        &above.each_ref().map(String::as_str),
    );
    check(
        r#"{"o":{"$gt":"a"}}"#,
        &above.each_ref().map(String::as_str),
        &below.each_ref().map(String::as_str),
    );
}

#[test]
fn membership() {
    check_x(r#"{"$in":[]}"#, &[], &["0", "true", "\"foo\""]);
    check_x(r#"{"$nin":[]}"#, &["0", "true", "\"foo\""], &[]);
    let among = [
        "42",
        "false",
        "\"bar\"",
        r#"{"b":2}"#,
        "[0,42]",
        "[0,false]",
        "[0,\"bar\"]",
        r#"[0,{"b":2}]"#,
        r#"[0,[["nested"],"list"]]"#,
    ];
    let not_among = ["43", "true", "\"bars\"", r#"{"b":2,"c":3}"#, r#"[["nested"],"list"]"#];
    let operands = r#"[42,false,"bar",[["nested"],"list"],{"b":2}]"#;
    check_x(&format!(r#"{{"$in":{operands}}}"#), &among, &not_among);
    check_x(&format!(r#"{{"$nin":{operands}}}"#), &not_among, &among);
    check_x(r#"{"$all":[]}"#, &[], &["[]", "[42]", "{}", "\"foo\""]);
    check_x(r#"{"$all":[1,2,3,4]}"#, &["[3,2,4,1]", "[0,4,3,5,2,1,6]"], &["[3,2,4]", "[]"]);
    check_x(
        r#"{"$all":[[1,2,3,4]]}"#,
        &["[1,2,3,4]", "[5,[1,2,3,4],6]"],
        &["[4,3,2,1]", "[1,3,4]", "[]", "[5,[1,3,4],6]", "[5,[1,3,2,4],6]"],
    );
    check_x(r#"{"$all":["hello"]}"#, &[r#"["hello"]"#, r#"[0,"hello",1]"#], &["\"hello\"", "[]"]);
    check_x(r#"{"$all":[{"a":1}]}"#, &[r#"[{"a":1}]"#], &[r#"[{"a":1,"b":2}]"#]);
}

#[test]
fn existence_and_its_negation() {
    check_x(r#"{"x":{"$exists":true}}"#, &[r#"{"x":0}"#], &[r#"{"y":0}"#, "{}"]);
    check_x(r#"{"x":{"$exists":false}}"#, &[r#"{"y":0}"#, "{}"], &[r#"{"x":0}"#]);
    check(r#"{"x":{"$not":{"$exists":true,"$eq":0}}}"#, &["{}", r#"{"x":1}"#], &[r#"{"x":0}"#]);
}

#[test]
fn types_texts_and_numbers() {
    check_x(r#"{"$type":"null"}"#, &["null"], &["false", "{}"]);
    check_x(r#"{"$type":"boolean"}"#, &["true", "false"], &["0"]);
    check_x(r#"{"$type":"number"}"#, &["42", "3.14", "0"], &["true", "[1]", "\"1\""]);
    check_x(r#"{"$type":"string"}"#, &["\"\"", "\"hello\""], &["[]"]);
    check_x(r#"{"$type":"array"}"#, &["[]", "[1,2]"], &["{}", "\"hi\""]);
    check_x(r#"{"$type":"object"}"#, &["{}", r#"{"a":1}"#], &["[]", "null"]);
    check_x(r#"{"$type":"thing"}"#, &[], &["1", "null"]);
    check_x(r#"{"$regex":"^[0-9a-f]+$"}"#, &["\"3a0df5e\""], &["\"\"", "\"3a0gf5e\"", "42"]);
    check(
        r#"{"l.state":{"$regex":"(?i)new.*"}}"#,
        &[r#"{"l":{"state":"New York"}}"#],
        &["{}", r#"{"l":{"state":1}}"#],
    );
    check_x(
        r#"{"$beginsWith":"foo"}"#,
        &["\"foo\"", "\"food\"", "\"fool me once\""],
        &["\"more food\"", "\"fo\"", "42"],
    );
    check_x(r#"{"$beginsWith":"J"}"#, &["\"Jones\""], &["\"jones\""]);
    check_x(r#"{"$mod":[28,1]}"#, &["1", "29", "57"], &["58", "\"57\""]);
    check_x(r#"{"$size":3}"#, &["[0,0,0]"], &["3", "\"fun\"", "[0,0]", "[0,0,0,0]"]);
}

#[test]
fn elements_and_names() {
    check_x(r#"{"$elemMatch":{"$eq":0}}"#, &["[0]", "[0,1]"], &["[]", "[1]"]);
    check_x(r#"{"$allMatch":{"$eq":0}}"#, &["[0]"], &["[]", "[1]", "[0,1]"]);
    check_x(r#"{"$elemMatch":{"$ne":0}}"#, &["[1]", "[0,1]"], &["[]", "[0]"]);
    check_x(r#"{"$elemMatch":{"$gte":80,"$lt":85}}"#, &["[82,90]"], &["[79,85]", "82"]);
    check_x(
        r#"{"$elemMatch":{"foo":{"$gte":1},"bam":true}}"#,
        &[r#"[{"foo":2,"bam":true}]"#],
        &[r#"[{"foo":1,"bar":2}]"#, r#"[{"foo":1},{"bam":true}]"#],
    );
    check_x(
        r#"{"$allMatch":{"foo":{"$mod":[2,1]},"bar":{"$mod":[2,0]}}}"#,
        &[r#"[{"foo":1,"bar":2},{"foo":3,"bar":4}]"#],
        &[r#"[{"foo":1,"bar":2},{"foo":4,"bar":4}]"#],
    );
    check_x(
        r#"{"$keyMapMatch":{"$regex":"^[a-z]+$"}}"#,
        &[r#"{"hello":0}"#, r#"{"a":1,"b":2}"#, r#"{"a":1,"b4":2}"#],
        &[r#"{"b4":2}"#, "{}", "[\"a\"]"],
    );
}

#[test]
fn objects_and_fields() {
    let docs = ["{}", r#"{"x":{}}"#, r#"{"x":{"a":1}}"#, r#"{"x":{"a":1,"b":2}}"#, r#"{"x":[]}"#];
    let [none, empty, one, two, array] = docs;
    check("{}", &docs, &[]);
    check(r#"{"x":{}}"#, &[empty], &[none, one, two, array]);
    check(r#"{"$not":{"x":{}}}"#, &[one, two, array], &[none, empty]);
    check(r#"{"x":{"a":1}}"#, &[one, two], &[none, empty, array]);
    check(r#"{"x":{"a":1,"b":2}}"#, &[two], &[none, empty, one, array]);
    check(r#"{"x.b":2}"#, &[two], &[none, empty, one, array]);
}

#[test]
fn combinations() {
    let [six, two, nine, none] = [r#"{"x":6}"#, r#"{"x":2}"#, r#"{"x":9}"#, "{}"];
    for always in [
        r#"{"$and":[]}"#,
        r#"{"$or":[]}"#,
        r#"{"$nor":[]}"#,
        r#"{"$not":{"$and":[]}}"#,
        r#"{"$not":{"$or":[]}}"#,
    ] {
        check(&format!(r#"{{"x":{always}}}"#), &[six, none], &[]);
    }
    check(r#"{"x":{"$and":[{"$gt":3},{"$lt":7}]}}"#, &[six], &[two, nine, none]);
    check(r#"{"x":{"$not":{"$and":[{"$gt":3},{"$lt":7}]}}}"#, &[two, nine], &[six, none]);
    check(r#"{"x":{"$or":[{"$lt":3},{"$gt":7}]}}"#, &[two, nine], &[six, none]);
    check(r#"{"x":{"$not":{"$or":[{"$lt":3},{"$gt":7}]}}}"#, &[six], &[two, nine, none]);
    check(r#"{"x":{"$nor":[{"$lt":3},{"$gt":7}]}}"#, &[six], &[two, nine, none]);
    check(r#"{"x":6,"$or":[],"$and":[]}"#, &[six], &[two, none]);
    check(r#"{"x":6,"y":{"$in":[]}}"#, &[], &[r#"{"x":6,"y":1}"#]);
    check(r#"{"x":6,"$and":[{"y":{"$all":[]}}]}"#, &[], &[r#"{"x":6,"y":[]}"#]);
}
