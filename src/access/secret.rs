//! Secrets: texts that are compared and used, and never printed.

use std::fmt;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use super::error::AccessError;

/// A text that nothing prints.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret that a setting gives, by itself or as a file's content; a newline at the file's
    /// end is not part of it. `None` where neither is given.
    pub(super) fn of(
        text: Option<&Self>,
        file: Option<&Path>,
    ) -> Result<Option<Self>, SecretError> {
        let secret = match (text, file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(SecretError::Twice),
            (Some(text), None) => text.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| AccessError::File { path: path.to_owned(), source })?;
                Self(text.trim_end_matches(['\n', '\r']).to_owned())
            }
        };
        if secret.0.is_empty() { Err(SecretError::Empty) } else { Ok(Some(secret)) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a setting gives no secret.
pub(super) enum SecretError {
    Twice,
    Empty,
    File(AccessError),
}

impl From<AccessError> for SecretError {
    fn from(error: AccessError) -> Self {
        Self::File(error)
    }
}

impl SecretError {
    /// The error of a setting, which has a key and another one that ends in `_file`.
    pub(super) fn of_entry(self, what: &'static str, name: &str) -> AccessError {
        let reason = match self {
            Self::File(error) => return error,
            Self::Twice => "it has two secrets, one by itself and one in a file",
            Self::Empty => "its secret is empty",
        };
        AccessError::entry(what, name, reason)
    }
}

/// Digests under a random key: for remembering what was shown without keeping it, and for
/// comparing in a time that tells nothing.
pub(super) struct Digester([u8; 32]);

/// A digest of a [`Digester`].
pub(super) type Digest = [u8; 32];

impl Digester {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the system has randomness once it has booted");
        Self(key)
    }

    /// A digest of parts; their lengths are part of it.
    pub(super) fn of(&self, parts: &[&[u8]]) -> Digest {
        let mut mac = mac(&self.0);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester(…)")
    }
}

/// HMAC-SHA256.
pub(crate) fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
