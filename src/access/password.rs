//! Passwords as argon2id hashes in PHC form (`$argon2id$v=19$m=…`).

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

/// Longest password that is hashed, in bytes; a longer one is wrong.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// Most memory that one verification may take, in KiB: 1 GiB.
const MEMORY_KIB_MAX: u32 = 1 << 20;

/// Hashes a password with a salt of its own, with the parameters that OWASP recommends for argon2id.
/// Takes tens of milliseconds: not for async threads.
///
/// # Errors
/// A text that says why: an empty password, or one beyond 1024 bytes.
pub fn hash_password(password: &str) -> Result<String, &'static str> {
    match password.len() {
        0 => Err("the password is empty"),
        length if length > PASSWORD_BYTES_MAX => Err("the password has more than 1024 bytes"),
        _ => match Argon2::default().hash_password(password.as_bytes()) {
            Ok(hash) => Ok(hash.to_string()),
            Err(_) => Err("the password cannot be hashed"),
        },
    }
}

/// A hash that was checked.
#[derive(Clone)]
pub(super) struct Hashed(String);

impl Hashed {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let hash = PasswordHash::new(text)
            .map_err(|_| "its password is no hash; make one with `settee hash-password`")?;
        if hash.algorithm.as_str() != "argon2id" {
            return Err("its password is not hashed with argon2id");
        }
        let memory = hash.params.get_decimal("m").unwrap_or_default();
        if hash.hash.is_none() || memory > MEMORY_KIB_MAX {
            return Err("its password's hash is not whole, or takes more than 1 GiB to verify");
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether a password is the one. Takes tens of milliseconds: not for async threads.
    pub(super) fn verify(&self, password: &str) -> bool {
        let hash = PasswordHash::new(&self.0).expect("it was checked when it was made");
        password.len() <= PASSWORD_BYTES_MAX
            && Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Hashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashed(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_alone() {
        let hash = hash_password("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
        let hashed = Hashed::parse(&hash).unwrap();
        assert!(hashed.verify("correct horse"));
        for wrong in ["", "Correct horse", "correct horse "] {
            assert!(!hashed.verify(wrong), "{wrong}");
        }
        assert_ne!(hash_password("correct horse").unwrap(), hash, "each has a salt of its own");
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let hash = hash_password("x").unwrap();
        for bad in ["", "plain text", "$argon2id$", &hash.replace("argon2id", "argon2i"), "$2b$x"] {
            assert!(Hashed::parse(bad).is_err(), "{bad}");
        }
        assert!(hash_password("").is_err() && hash_password(&"x".repeat(2_000)).is_err());
    }
}
