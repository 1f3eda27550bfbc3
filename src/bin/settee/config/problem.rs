//! What is wrong with a file, in words: with its line, a suggestion, and without any value, since a
//! value may be a secret.

/// Less alike than this, two names are no slip of one another.
const ALIKE_MIN: f64 = 0.6;

/// An error of the TOML parser for people.
pub fn told(error: &toml::de::Error, text: &str) -> String {
    let message = words(error.message());
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or_default();
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        None => message,
    }
}

/// The parser's message without values and with a suggestion.
pub fn words(message: &str) -> String {
    let message = message.replace('\n', " ");
    for start in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(start) {
            let (found, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, "another"));
            let kind = found.split(['`', '"']).next().unwrap_or_default().trim();
            return format!("{start}{kind}, expected {expected}");
        }
    }
    match unknown(&message) {
        Some((found, known)) => match suggestion(found, &known) {
            Some(meant) => {
                let what = message.split('`').next().unwrap_or_default();
                format!("{what}`{found}`; did you mean `{meant}`?")
            }
            None => message,
        },
        None => message,
    }
}

/// The name that is not known, and those that are, of a message of serde's.
pub fn unknown(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest =
        message.strip_prefix("unknown field `").or(message.strip_prefix("unknown variant `"))?;
    let (found, rest) = rest.split_once('`')?;
    Some((found, rest.split('`').skip(1).step_by(2).collect()))
}

/// What was meant, perhaps.
pub fn suggestion<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |name: &&str| strsim::normalized_damerau_levenshtein(found, name);
    let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(best) >= ALIKE_MIN).then_some(*best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out_and_names_suggested() {
        let check = |message: &str, expected: &str| assert_eq!(words(message), expected);
        check(
            r#"invalid type: string "hunter2", expected a sequence"#,
            "invalid type: string, expected a sequence",
        );
        check(
            r#"invalid type: string "a, expected b", expected u64"#,
            "invalid type: string, expected u64",
        );
        check("invalid value: integer `-3`, expected u32", "invalid value: integer, expected u32");
        check("invalid type: map, expected a string", "invalid type: map, expected a string");
        check(
            "unknown field `conections_max`, expected one of `open`, `connections_max`",
            "unknown field `conections_max`; did you mean `connections_max`?",
        );
        check(
            "unknown variant `reed`, expected `read` or `write`",
            "unknown variant `reed`; did you mean `read`?",
        );
        let far = "unknown field `zzz`, expected `listen`";
        check(far, far);
    }
}
