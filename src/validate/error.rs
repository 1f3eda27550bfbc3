//! Why a validator could not be made.

/// A rule that cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidateError {
    /// A pattern that no database's name can match.
    #[error(
        "database pattern {pattern:?} matches no database name: use lowercase letters, digits, \
         _$()+/- and * for any characters"
    )]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// Not a JSON Schema.
    #[error("not a JSON Schema, at {at:?}: {problem}")]
    Schema {
        /// Where in the schema, as a JSON pointer.
        at: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No name of a field.
    #[error(
        "{field:?} names no field: give members divided by dots, the first without a leading _"
    )]
    Field {
        /// What was given.
        field: String,
    },
    /// Not an address that can be asked.
    #[error("service address {url:?} is not an http or https URL")]
    Url {
        /// The address.
        url: String,
    },
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client: {problem}")]
    Client {
        /// What it says.
        problem: String,
    },
}
