//! The canonical text of a selector: what it means, each meaning of the normalised form once.

use super::super::json::push_string;
use super::super::value::Json;
use super::condition::{Condition, Node, Operand};

/// The text of a whole selector.
pub(super) fn print(root: &Node) -> String {
    if root.is_always() { "{}".into() } else { node(root) }
}

fn node(part: &Node) -> String {
    match part {
        Node::And(parts) => list("$and", parts),
        Node::Or(parts) => list("$or", parts),
        Node::Field { path, condition, .. } if path.is_empty() => print_condition(condition),
        Node::Field { path, condition, .. } => object(&path.name(), &print_condition(condition)),
    }
}

fn list(operator: &str, parts: &[Node]) -> String {
    let mut texts: Vec<String> = parts.iter().map(node).collect();
    texts.sort_unstable();
    texts.dedup();
    if let [only] = &texts[..] {
        return only.clone();
    }
    object(operator, &format!("[{}]", texts.join(",")))
}

fn object(name: &str, value: &str) -> String {
    let mut text = String::from("{");
    push_string(&mut text, name);
    text.push(':');
    text.push_str(value);
    text.push('}');
    text
}

fn print_condition(condition: &Condition) -> String {
    let array = |operands: &[Operand]| Json::Array(operands.to_vec()).to_string();
    let string = |text: &str| {
        let mut quoted = String::new();
        push_string(&mut quoted, text);
        quoted
    };
    match condition {
        Condition::Exists(wanted) => object("$exists", &wanted.to_string()),
        Condition::Compare(comparison, operand) => {
            object(comparison.operator(), &operand.to_string())
        }
        Condition::In(operands) => object("$in", &array(operands)),
        Condition::NotIn(operands) => object("$nin", &array(operands)),
        Condition::All(operands) => object("$all", &array(operands)),
        Condition::Type(name) => object("$type", &string(name)),
        Condition::Size(size) => object("$size", &size.to_string()),
        Condition::Mod { divisor, remainder } => {
            object("$mod", &format!("[{divisor},{remainder}]"))
        }
        Condition::BeginsWith(prefix) => object("$beginsWith", &string(prefix)),
        Condition::Regex(pattern) => object("$regex", &string(pattern.as_str())),
        Condition::ElemMatch(inner) => object("$elemMatch", &node(inner)),
        Condition::AllMatch(inner) => object("$allMatch", &node(inner)),
        Condition::KeyMapMatch(inner) => object("$keyMapMatch", &node(inner)),
        Condition::Not(condition) => object("$not", &print_condition(condition)),
    }
}
