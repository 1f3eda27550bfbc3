//! A JSON Schema that documents are held to.

use std::fmt;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

/// Longest reason in characters: a schema's words may quote the document.
const REASON_CHARS_MAX: usize = 300;

/// A compiled schema. A cheap handle: clones share it.
#[derive(Clone)]
pub(crate) struct Schema(Arc<jsonschema::Validator>);

/// What is wrong with a schema: where, as a JSON pointer, and what.
pub(crate) struct SchemaProblem {
    pub at: String,
    pub problem: String,
}

impl Schema {
    pub(crate) fn compile(schema: &Value) -> Result<Self, SchemaProblem> {
        let compiled = jsonschema::validator_for(schema).map_err(|error| SchemaProblem {
            at: error.instance_path().to_string(),
            problem: error.to_string(),
        })?;
        Ok(Self(Arc::new(compiled)))
    }

    /// The first thing that does not hold, in words.
    pub(crate) fn check(&self, body: &Value) -> Result<(), String> {
        match self.0.iter_errors(body).next() {
            Some(error) => Err(words(&error)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// A schema's complaint without the document's values, which do not belong in logs.
fn words(error: &jsonschema::ValidationError<'_>) -> String {
    let at = error.instance_path().to_string();
    let place = if at.is_empty() { "the document".to_owned() } else { format!("the field {at}") };
    let problem = match error.kind() {
        ValidationErrorKind::Required { property } => {
            format!("lacks the member {}", property.as_str().unwrap_or_default())
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            format!("has members that the schema does not know: {}", unexpected.join(", "))
        }
        _ => error.masked_with("its value").to_string(),
    };
    let mut text = format!("{place}: {problem}");
    if let Some((end, _)) = text.char_indices().nth(REASON_CHARS_MAX) {
        text.truncate(end);
    }
    text
}
