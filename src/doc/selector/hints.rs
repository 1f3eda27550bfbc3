//! What a selector tells an index's chooser beside ranges.

use super::condition::{Comparison, Condition, Node};
use super::path::{FieldPath, Path};
use super::{Selector, ranges};

impl Selector {
    /// Whether every document that matches has the field, so that an index on it has all of them.
    #[must_use]
    pub fn requires(&self, field: &FieldPath) -> bool {
        requires(&self.0.root, &field.0)
    }

    /// Whether the field has one value in all documents that match, so that it does not count in
    /// their order.
    #[must_use]
    pub fn fixes(&self, field: &FieldPath) -> bool {
        let parts = ranges::conjunction(&self.0.root);
        parts.iter().any(|part| match part {
            Node::Field { path, condition, .. } => {
                *path == field.0 && matches!(condition, Condition::Compare(Comparison::Equal, _))
            }
            Node::And(_) | Node::Or(_) => false,
        })
    }

    /// The names of all fields that conditions name, sorted, each once.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.0.root.each_field(&mut |path: &Path| names.push(path.name()));
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn requires(part: &Node, field: &Path) -> bool {
    match part {
        Node::And(parts) => parts.iter().any(|part| requires(part, field)),
        Node::Or(parts) => parts.iter().all(|part| requires(part, field)),
        Node::Field { path, condition, .. } => {
            path == field && !matches!(condition, Condition::Exists(false))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn an_alternative_requires_what_all_of_it_require() {
        let field = FieldPath::parse("a.b").expect("a field");
        for (selector, required, fixed) in [
            (r#"{"a.b":1}"#, true, true),
            (r#"{"a":{"b":{"$gt":1}}}"#, true, false),
            (r#"{"a.b":{"$exists":false}}"#, false, false),
            (r#"{"$or":[{"a.b":1},{"a.b":2,"c":3}]}"#, true, false),
            (r#"{"$or":[{"a.b":1},{"c":3}]}"#, false, false),
            (r#"{"c":1,"$and":[{"a.b":1},{"d":2}]}"#, true, true),
            (r#"{"a":1}"#, false, false),
            ("{}", false, false),
        ] {
            let parsed = Selector::parse(selector, &Limits::default()).expect(selector);
            assert_eq!(parsed.requires(&field), required, "{selector}");
            assert_eq!(parsed.fixes(&field), fixed, "{selector}");
        }
        let parsed = Selector::parse(r#"{"b":1,"$or":[{"a.b":1},{"b":2}]}"#, &Limits::default());
        assert_eq!(parsed.expect("a selector").fields(), ["a.b", "b"]);
    }
}
