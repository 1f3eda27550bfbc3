//! Whether two values are equal, in whatever order their members were written.

use std::borrow::Cow;

use super::collate;
use super::value::Json;

/// Equal as RFC 6902, section 4.6 has it: numbers by their value, members in any order.
pub(super) fn same(a: &Json<'_>, b: &Json<'_>) -> bool {
    match (a, b) {
        (Json::Object(a), Json::Object(b)) => {
            let (a, b) = (sorted(a), sorted(b));
            let pairs = a.iter().zip(&b);
            a.len() == b.len() && pairs.into_iter().all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        }
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => collate::same(a, b),
    }
}

fn sorted<'v, 'a>(members: &'v [(Cow<'a, str>, Json<'a>)]) -> Vec<&'v (Cow<'a, str>, Json<'a>)> {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    sorted
}
