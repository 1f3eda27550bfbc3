//! What can be wrong with a selector.

use super::super::error::ParseError;

/// A selector that cannot be judged by, with what is wrong.
///
/// The texts are those of CouchDB's `mango_error.erl` where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// Text that is not JSON, or is nested too deeply.
    #[error("selector: {0}")]
    Json(ParseError),
    /// JSON, but no object.
    #[error("Selector must be a JSON object")]
    NotAnObject,
    /// Text over the bound.
    #[error("selector is {bytes} bytes long, at most {max} are allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// More conditions than the bound.
    #[error("selector has more than {max} conditions")]
    TooManyConditions {
        /// The bound.
        max: usize,
    },
    /// More regular expressions than the bound.
    #[error("selector has more than {max} regular expressions")]
    TooManyPatterns {
        /// The bound.
        max: usize,
    },
    /// An operator where a field is needed.
    #[error("One or more conditions is missing a field name.")]
    MissingField,
    /// A word with `$` that means nothing.
    #[error("Invalid operator: {operator}")]
    Operator {
        /// The word, cut to a printable length.
        operator: String,
    },
    /// An operator that is known and not there.
    #[error("Unsupported operator: {operator}")]
    Unsupported {
        /// The operator.
        operator: String,
    },
    /// An argument that the operator does not take.
    #[error("Bad argument for operator {operator}: {argument}")]
    Argument {
        /// The operator.
        operator: &'static str,
        /// The argument's JSON, cut to a printable length.
        argument: String,
    },
    /// A field's name with an empty part, or longer than 1024 bytes.
    #[error("Invalid field name: {name}")]
    FieldName {
        /// The name, cut to a printable length.
        name: String,
    },
}
