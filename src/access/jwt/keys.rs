//! Keys of JSON Web Tokens, each with one algorithm; those of a file are read again when it changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use crate::access::error::AccessError;
use crate::access::secret::Secret;

use super::settings::JwtKeySettings;

/// Shortest secret, in bytes: the size of the smallest digest (RFC 7518 section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Largest file of keys, in bytes.
const JWKS_BYTES_MAX: u64 = 1 << 20;

/// A key and the one algorithm that it is for.
#[derive(Clone)]
pub(super) struct Key {
    kid: Option<String>,
    pub algorithm: Algorithm,
    pub decoding: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Key {
    pub(super) fn of_settings(settings: &JwtKeySettings) -> Result<Self, AccessError> {
        let name = settings.kid.as_deref().unwrap_or(&settings.algorithm);
        let refuse = |reason: &str| AccessError::entry("key", name, reason);
        let algorithm = Algorithm::from_str(&settings.algorithm)
            .map_err(|_| refuse("its algorithm is not known"))?;
        let secret = Secret::of(settings.secret.as_ref(), settings.secret_file.as_deref())
            .map_err(|error| error.of_entry("key", name))?;
        let public = settings.public_key.clone().map(Secret::new);
        let public = Secret::of(public.as_ref(), settings.public_key_file.as_deref())
            .map_err(|error| error.of_entry("key", name))?;
        let decoding = match (algorithm.family(), secret, public) {
            (AlgorithmFamily::Hmac, Some(secret), None) => {
                if secret.expose().len() < SECRET_BYTES_MIN {
                    return Err(refuse("its secret has less than 32 bytes"));
                }
                DecodingKey::from_secret(secret.expose().as_bytes())
            }
            (AlgorithmFamily::Hmac, ..) => {
                return Err(refuse("its algorithm needs a secret, and no public key"));
            }
            (family, None, Some(pem)) => of_pem(family, pem.expose()).ok_or_else(|| {
                refuse("its public key cannot be read, or is for another algorithm")
            })?,
            _ => return Err(refuse("its algorithm needs a public key, and no secret")),
        };
        Ok(Self { kid: settings.kid.clone(), algorithm, decoding })
    }

    /// A key of a set; `None` for one that signs nothing or is of a kind that is not known.
    fn of_jwk(jwk: &Jwk) -> Option<Self> {
        if matches!(&jwk.common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature) {
            return None;
        }
        let algorithm = match jwk.common.key_algorithm {
            Some(named) => Algorithm::try_from(named).ok()?,
            None => match &jwk.algorithm {
                AlgorithmParameters::RSA(_) => Algorithm::RS256,
                AlgorithmParameters::EllipticCurve(key) => match key.curve {
                    EllipticCurve::P256 => Algorithm::ES256,
                    EllipticCurve::P384 => Algorithm::ES384,
                    _ => return None,
                },
                AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
                _ => return None,
            },
        };
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        (decoding.family() == algorithm.family()).then(|| Self {
            kid: jwk.common.key_id.clone(),
            algorithm,
            decoding,
        })
    }
}

fn of_pem(family: AlgorithmFamily, pem: &str) -> Option<DecodingKey> {
    let pem = pem.as_bytes();
    let key = match family {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
        AlgorithmFamily::Hmac => return None,
    };
    key.ok()
}

/// All keys.
#[derive(Debug)]
pub(super) struct Keys {
    fixed: Vec<Key>,
    file: Option<KeyFile>,
}

#[derive(Debug)]
struct KeyFile {
    path: PathBuf,
    read: Mutex<ReadKeys>,
}

/// Keys as they were when the file looked so.
#[derive(Debug, Clone)]
struct ReadKeys {
    look: Option<Look>,
    keys: Arc<Vec<Key>>,
}

/// What tells that a file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    modified: Option<SystemTime>,
    bytes: u64,
    number: u64,
}

impl Keys {
    pub(super) fn new(fixed: Vec<Key>, path: Option<PathBuf>) -> Result<Self, AccessError> {
        let file = path.map(|path| {
            let look = look(&path).ok();
            let keys = Arc::new(read(&path)?);
            Ok::<_, AccessError>(KeyFile { path, read: Mutex::new(ReadKeys { look, keys }) })
        });
        Ok(Self { fixed, file: file.transpose()? })
    }

    /// The keys for an algorithm, and of an id if one is named.
    pub(super) async fn of(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<Key> {
        let read = match &self.file {
            Some(file) => file.keys().await,
            None => Arc::default(),
        };
        let named = |key: &&Key| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
        let keys = self.fixed.iter().chain(read.iter());
        keys.filter(|key| key.algorithm == algorithm).filter(named).cloned().collect()
    }
}

impl KeyFile {
    fn lock(&self) -> std::sync::MutexGuard<'_, ReadKeys> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file's keys. One that has become unreadable leaves those that there were.
    async fn keys(&self) -> Arc<Vec<Key>> {
        let known = self.lock().clone();
        let path = self.path.clone();
        let looked = tokio::task::spawn_blocking(move || {
            // Before the reading: a change that comes after it is seen the next time.
            let look = look(&path).ok();
            let read = (look != known.look).then(|| read(&path));
            (look, read)
        });
        let Ok((look, Some(read))) = looked.await else { return known.keys };
        let mut current = self.lock();
        current.look = look;
        match read {
            Ok(keys) => {
                tracing::info!(path = %self.path.display(), keys = keys.len(), "keys of tokens read again");
                current.keys = Arc::new(keys);
            }
            Err(error) => tracing::error!(%error, "the old keys of tokens stay"),
        }
        Arc::clone(&current.keys)
    }
}

fn look(path: &Path) -> std::io::Result<Look> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path)?;
    Ok(Look { modified: metadata.modified().ok(), bytes: metadata.len(), number: metadata.ino() })
}

fn read(path: &Path) -> Result<Vec<Key>, AccessError> {
    let refuse = |reason: &str| AccessError::Setting {
        key: "access.jwt.jwks_file",
        reason: format!("{}: {reason}", path.display()),
    };
    let file = |source| AccessError::File { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(file)?.len() > JWKS_BYTES_MAX {
        return Err(refuse("it has more than 1 MiB"));
    }
    let text = std::fs::read(path).map_err(file)?;
    // What serde says may quote a key.
    let set: JwkSet =
        serde_json::from_slice(&text).map_err(|_| refuse("it is no JWK set (RFC 7517)"))?;
    let keys: Vec<Key> = set.keys.iter().filter_map(Key::of_jwk).collect();
    if keys.is_empty() {
        return Err(refuse("it has no key that can be used; see `alg` and `use`"));
    }
    Ok(keys)
}
