//! `settee hash-password`: makes what a configuration file holds instead of a password.

use std::io::{IsTerminal as _, Write as _};

use settee::access::hash_password;

use crate::failure::Failure;

/// Hash a password for a configuration file
///
/// Asks for a password twice, or reads one line of standard input, and prints its argon2id hash for
/// `password` of `[[access.users]]`.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run() -> Result<(), Failure> {
    let reading = |source| Failure::Io { doing: "read the password".into(), source };
    let password = if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ").map_err(reading)?;
        let again = rpassword::prompt_password("Once more: ").map_err(reading)?;
        if password != again {
            return Err(Failure::Password { reason: "the two are not the same" });
        }
        password
    } else {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(reading)?;
        line.trim_end_matches(['\n', '\r']).to_owned()
    };
    let hash = hash_password(&password).map_err(|reason| Failure::Password { reason })?;
    writeln!(std::io::stdout(), "{hash}").map_err(Failure::stdout)
}
