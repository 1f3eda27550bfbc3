//! Where a database is, and what to show to be let in.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Url;

/// A database at an address of HTTP, and the credentials for it. Printing it shows no secret.
///
/// ```
/// use settee::http_peer::Remote;
/// let remote: Remote = "https://anna:secret@couch.example/todos".parse()?;
/// assert_eq!(remote.to_string(), "https://couch.example/todos");
/// # Ok::<(), settee::http_peer::RemoteError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Remote {
    /// Without user, password and the slash at the end.
    url: String,
    headers: HeaderMap,
}

/// An address or a header that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It is no address of a database.
    #[error("{url:?} is not http://HOST/DB or https://HOST/DB: {problem}")]
    Url {
        /// The address, without what may be a password.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A header or a credential that HTTP cannot carry.
    #[error("the header {name} cannot be sent")]
    Header {
        /// Its name.
        name: String,
    },
}

/// What stays as it is in a piece of an address (RFC 3986, unreserved).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A piece of an address.
pub(super) fn encoded(piece: &str) -> String {
    utf8_percent_encode(piece, PLAIN).to_string()
}

impl FromStr for Remote {
    type Err = RemoteError;

    /// Reads `http://[USER:PASSWORD@]HOST[:PORT]/[PREFIX/]DB`; a slash in the name is `%2F`.
    fn from_str(text: &str) -> Result<Self, RemoteError> {
        // Whatever stands before an @ may be a password.
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        let bad = |problem: &str| RemoteError::Url {
            url: crate::doc::printable(shown),
            problem: problem.to_owned(),
        };
        let mut url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("its scheme must be http or https"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it must have neither a query nor a fragment"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        if path.rsplit('/').next().is_none_or(str::is_empty) {
            return Err(bad("it names no database"));
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = decoded(url.username());
        let password = url.password().map(decoded);
        // Neither can fail: an address of HTTP has a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_path(&path);
        let remote = Self { url: url.into(), headers: HeaderMap::new() };
        match (user.is_empty(), password) {
            (true, None) => Ok(remote),
            (_, password) => remote.basic(&user, password.as_deref().unwrap_or_default()),
        }
    }
}

impl Remote {
    /// Shows a name and a password (`Basic`).
    ///
    /// # Errors
    /// [`RemoteError::Header`].
    pub fn basic(self, user: &str, password: &str) -> Result<Self, RemoteError> {
        let pair = STANDARD.encode(format!("{user}:{password}"));
        self.header(AUTHORIZATION.as_str(), &format!("Basic {pair}"))
    }

    /// Shows a token (`Bearer`).
    ///
    /// # Errors
    /// [`RemoteError::Header`].
    pub fn bearer(self, token: &str) -> Result<Self, RemoteError> {
        self.header(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    /// Sends a header with every request.
    ///
    /// # Errors
    /// [`RemoteError::Header`], also for headers that belong to one connection or body.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, RemoteError> {
        let refused = || RemoteError::Header { name: crate::doc::printable(name) };
        let found = HeaderName::from_str(name).map_err(|_| refused())?;
        let own = ["connection", "content-length", "content-type", "transfer-encoding", "te"];
        if found == HOST || own.contains(&found.as_str()) {
            return Err(refused());
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| refused())?;
        value.set_sensitive(true);
        self.headers.insert(found, value);
        Ok(self)
    }

    /// Whether it shows any credentials.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION)
    }

    /// The address, without credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The headers to send, credentials included.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The address of the server, or of the prefix below which its databases are, and the database's
    /// name as the address has it.
    pub(super) fn server_and_name(&self) -> (&str, &str) {
        self.url.rsplit_once('/').unwrap_or((&self.url, ""))
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_keeps_no_secret() {
        let check = |text: &str, url: &str, authorization: Option<&str>| {
            let remote: Remote = text.parse().expect(text);
            assert_eq!(remote.to_string(), url);
            let shown = remote.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap());
            assert_eq!(shown, authorization, "{text}");
            assert!(!format!("{remote:?}").contains("secret"));
        };
        check("http://h:5984/db", "http://h:5984/db", None);
        check("https://h/prefix/db/", "https://h/prefix/db", None);
        check("http://h/a%2Fb", "http://h/a%2Fb", None);
        check("http://anna:secret@h/db", "http://h/db", Some("Basic YW5uYTpzZWNyZXQ="));
        check("http://anna:a%40b@h/db", "http://h/db", Some("Basic YW5uYTphQGI="));
        check("http://anna@h/db", "http://h/db", Some("Basic YW5uYTo="));
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_password() {
        for bad in
            ["h/db", "ws://a:secret@h/db", "http://a:secret@h", "http://h/", "http://h/db?x=1"]
        {
            let error = bad.parse::<Remote>().expect_err(bad);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let remote: Remote = "http://h/db".parse().unwrap();
        for bad in ["Host", "content-length", "a b", "Transfer-Encoding"] {
            assert!(remote.clone().header(bad, "x").is_err(), "{bad}");
        }
        assert!(remote.bearer("a\nb").is_err());
    }
}
