//! Texts with stars in them, each of which stands for any characters.

/// Whether a text is these parts with anything between them, also nothing. One part is the text
/// itself; of no parts only the empty text is made.
pub(crate) fn fits<Part: AsRef<str>>(text: &str, parts: &[Part]) -> bool {
    match parts {
        [] => text.is_empty(),
        [only] => text == only.as_ref(),
        [first, middle @ .., last] => {
            let Some(mut rest) = text.strip_prefix(first.as_ref()) else { return false };
            for part in middle {
                let Some(at) = rest.find(part.as_ref()) else { return false };
                rest = &rest[at + part.as_ref().len()..];
            }
            rest.ends_with(last.as_ref())
        }
    }
}
