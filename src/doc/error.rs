//! What can be wrong with a document, a name or a revision that came from outside.

/// A name, revision or document that cannot be accepted, with what is wrong.
///
/// The texts are CouchDB's where CouchDB has one, since clients show and compare them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A database name outside CouchDB's alphabet.
    #[error(
        "Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the characters \
         _, $, (, ), +, -, and / are allowed. Must begin with a letter and be at most 238 bytes."
    )]
    DbName {
        /// The name, cut to a printable length.
        name: String,
    },
    /// An empty document id.
    #[error("Document id must not be empty")]
    DocIdEmpty,
    /// A document id that begins with `_` and is neither `_design/…` nor `_local/…`.
    #[error("Only reserved document ids may start with underscore.")]
    DocIdReserved {
        /// The id, cut to a printable length.
        id: String,
    },
    /// A document id over the bound.
    #[error("Document id is {bytes} bytes long, at most {max} are allowed")]
    DocIdTooLong {
        /// Its length in UTF-8 bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A document id that is not a string, or not there where one is needed.
    #[error("Document id must be a string")]
    DocIdNotString,
    /// A revision that is not `GENERATION-HASH`.
    #[error("Invalid rev format")]
    Rev {
        /// The text, cut to a printable length.
        rev: String,
    },
    /// Text that is not JSON, with the byte where it stops being so.
    #[error("invalid UTF-8 JSON: {problem} at byte {at}")]
    Json {
        /// What is wrong.
        problem: &'static str,
        /// Offset in bytes.
        at: usize,
    },
    /// JSON nested deeper than the bound.
    #[error("JSON is nested deeper than {max} levels")]
    TooDeep {
        /// The bound.
        max: usize,
    },
    /// More members and elements than the bound.
    #[error("JSON has more than {max} members and elements")]
    TooManyMembers {
        /// The bound.
        max: usize,
    },
    /// JSON, but no object.
    #[error("Document must be a JSON object")]
    NotAnObject,
    /// A document over the size bound.
    #[error("Document is {bytes} bytes long, at most {max} are allowed")]
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A member that begins with `_` and means nothing.
    #[error("Bad special document member: {name}")]
    SpecialMember {
        /// The member, cut to a printable length.
        name: String,
    },
    /// A known `_` member whose value has the wrong shape.
    #[error("Bad value of special document member {member}: {problem}")]
    SpecialValue {
        /// The member.
        member: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A replicated write without a revision.
    #[error("Document {id} has no _rev and no _revisions, which new_edits=false needs")]
    RevMissing {
        /// The document.
        id: String,
    },
    /// An attachment that cannot be read.
    #[error("Bad attachment {name:?}: {problem}")]
    Attachment {
        /// Its name, cut to a printable length.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An attachment that is a stub, with a digest that no attachment can have.
    #[error("attachment {name:?} is a stub, and its digest is not md5-BASE64")]
    StubDigest {
        /// Its name, cut to a printable length.
        name: String,
    },
    /// An attachment digest that is not `md5-` and base64.
    #[error("Invalid digest format")]
    Digest,
    /// A stored revision tree that cannot be decoded.
    #[error("revision tree is damaged: {problem}")]
    Tree {
        /// What is wrong.
        problem: &'static str,
    },
}

/// Cuts outside text to a length that is safe to print in an error.
pub(crate) fn printable(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    if text.chars().count() <= SHOWN_CHARS {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(SHOWN_CHARS).collect();
    cut.push('…');
    cut
}
