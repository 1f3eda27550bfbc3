//! Tokens: whoever shows one may use any database.

use settee::server::{Credentials, ServerGrant, ServerRequest};
use settee::{AccessRequest, Denied, Grant};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// The tokens that let somebody in.
#[derive(Clone)]
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    pub fn new(tokens: &[String]) -> Self {
        Self(tokens.iter().map(|token| digest(token)).collect())
    }

    pub fn judge(&self, request: AccessRequest) -> Result<Grant, Denied> {
        self.check(&request.credentials)?;
        Ok(everything(request))
    }

    pub fn judge_server(&self, request: &ServerRequest) -> Result<ServerGrant, Denied> {
        self.check(&request.credentials)?;
        Ok(everything_of_server(request))
    }

    /// A token comes by itself, or as the password of any name: CouchDB's programs know no other
    /// way. A backend that sends an event may show nothing but the token.
    fn check(&self, credentials: &Credentials) -> Result<(), Denied> {
        let token = credentials["token"].as_str().or(credentials["password"].as_str());
        let token = token.or(credentials.value().as_str());
        match token {
            Some(token) if self.contains(token) => Ok(()),
            Some(_) => Err(Denied::new("this token is not known")),
            None => Err(Denied::new("a token is needed")),
        }
    }

    /// Digests are compared, all of them and all their bytes, so that the time tells neither a
    /// token's length nor how much of it was right.
    fn contains(&self, token: &str) -> bool {
        let shown = digest(token);
        let known = self.0.iter().map(|known| known.ct_eq(&shown));
        known.fold(Choice::from(0), |found, same| found | same).into()
    }
}

/// What somebody who is let in may do: open, make, destroy and administer any database.
pub fn everything(request: AccessRequest) -> Grant {
    Grant::database(request.database).creating().destroying().administering()
}

/// The same for the server: list databases, and join, hear and say everything with events, under
/// any name. Who may do everything needs no proof of a name.
pub fn everything_of_server(request: &ServerRequest) -> ServerGrant {
    let grant = ServerGrant::known().listing();
    let grant = grant.joining("*").sending("*").sending_to_users().broadcasting();
    match request.credentials["name"].as_str() {
        Some(name) => grant.user(name),
        None => grant,
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tokens_are_known() {
        let tokens = Tokens::new(&["alpha".into(), "beta".into()]);
        assert!(tokens.contains("alpha") && tokens.contains("beta"));
        for other in ["", "alph", "alphaa", "ALPHA", "alphabeta"] {
            assert!(!tokens.contains(other), "{other}");
        }
    }
}
