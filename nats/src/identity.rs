//! Our identity for the server. It is read from its file at each connection, so a renewed one needs no restart.

use std::path::{Path, PathBuf};

use async_nats::{Auth, AuthError};
use nkeys::{KeyPair, KeyPairType};

use crate::{connect::Connection, secret};

/// Where the identity is read from.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// The server requires no identity.
    None,
    /// `nkey_seed_file`.
    Nkey(PathBuf),
    /// `credentials_file`.
    Credentials(PathBuf),
}

/// Why the identity cannot be used. Never contains the file's content.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("cannot read nats.{field} = {path}", path = path.display())]
    Read {
        /// The configuration's field.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file does not contain an identity.
    #[error("nats.{field} = {path} {problem}", path = path.display())]
    Malformed {
        /// The configuration's field.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: &'static str,
    },
}

/// A file's content.
struct Keys {
    pair: KeyPair,
    jwt: Option<String>,
}

impl Identity {
    /// The configured identity. [`Connection::check`] refuses two at once.
    pub(crate) fn of(connection: &Connection) -> Identity {
        match (&connection.nkey_seed_file, &connection.credentials_file) {
            (Some(path), _) => Identity::Nkey(path.clone()),
            (None, Some(path)) => Identity::Credentials(path.clone()),
            (None, None) => Identity::None,
        }
    }

    /// Reads the file and checks it.
    pub(crate) fn check(&self) -> Result<(), IdentityError> {
        self.keys().map(drop)
    }

    /// The answer to a server's challenge.
    pub(crate) fn answer(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let mut auth = Auth::new();
        if let Some(Keys { pair, jwt }) = self.keys().map_err(|error| AuthError::new(in_words(&error)))? {
            auth.signature = Some(pair.sign(nonce).map_err(AuthError::new)?);
            // If there is a JWT, the server takes the public key from it.
            auth.nkey = jwt.is_none().then(|| pair.public_key());
            auth.jwt = jwt;
        }
        Ok(auth)
    }

    fn keys(&self) -> Result<Option<Keys>, IdentityError> {
        match self {
            Identity::None => Ok(None),
            Identity::Nkey(path) => {
                let malformed = malformed(
                    "nkey_seed_file",
                    path,
                    "does not hold the seed of a user's NKey: expected one line that begins with SU",
                );
                let text = read("nkey_seed_file", path)?;
                Ok(Some(Keys { pair: user(&text).ok_or(malformed)?, jwt: None }))
            }
            Identity::Credentials(path) => {
                let malformed = malformed(
                    "credentials_file",
                    path,
                    "does not hold a user's JWT and seed: expected a file as `nsc generate creds` writes it",
                );
                let text = read("credentials_file", path)?;
                let blocks = blocks(&text);
                let keys = match blocks.as_slice() {
                    [jwt, seed] => user(seed).map(|pair| Keys { pair, jwt: Some((*jwt).to_owned()) }),
                    _ => None,
                };
                Ok(Some(keys.ok_or(malformed)?))
            }
        }
    }
}

/// An error with its cause.
fn in_words(error: &IdentityError) -> String {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", cause.unwrap_or_default())
}

fn read(field: &'static str, path: &Path) -> Result<String, IdentityError> {
    secret::read(path).map_err(|source| IdentityError::Read { field, path: path.to_owned(), source })
}

fn malformed(field: &'static str, path: &Path, problem: &'static str) -> IdentityError {
    IdentityError::Malformed { field, path: path.to_owned(), problem }
}

fn user(seed: &str) -> Option<KeyPair> {
    KeyPair::from_seed(seed).ok().filter(|pair| pair.key_pair_type() == KeyPairType::User)
}

/// The texts between each line with BEGIN and the next with END: first the JWT, then the seed.
fn blocks(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_border = |line: &str, word: &str| line.starts_with("---") && line.contains(word);
    let between = |window: &&[&str]| is_border(window[0], "BEGIN") && is_border(window[2], "END");
    lines.windows(3).filter(between).map(|window| window[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("identity");
        std::fs::write(&path, text).expect("writes");
        (directory, path)
    }

    fn credentials(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    #[test]
    fn a_renewed_file_counts_at_the_next_challenge() {
        let seed = KeyPair::new_user().seed().expect("a seed");
        let (_directory, path) = written(&credentials("a.b.c", &seed));
        let identity = Identity::Credentials(path.clone());
        assert_eq!(identity.answer(b"nonce").expect("answers").jwt.as_deref(), Some("a.b.c"));
        std::fs::write(&path, credentials("d.e.f", &seed)).expect("writes");
        assert_eq!(identity.answer(b"nonce").expect("answers").jwt.as_deref(), Some("d.e.f"));
    }

    #[test]
    fn a_seed_signs_and_names_its_public_key() {
        let pair = KeyPair::new_user();
        let (_directory, path) = written(&format!("\u{feff}{}\n\n", pair.seed().expect("a seed")));
        let auth = Identity::Nkey(path).answer(b"nonce").expect("answers");
        assert_eq!(auth.nkey, Some(pair.public_key()));
        pair.verify(b"nonce", &auth.signature.expect("signed")).expect("its signature");
    }

    #[test]
    fn what_is_no_identity_is_told_without_what_the_file_holds() {
        let account = KeyPair::new_account().seed().expect("a seed");
        for text in ["", "SECRET", &account, &credentials("a.b.c", "SECRET"), "SU SECRET"] {
            let (_directory, path) = written(text);
            for identity in [Identity::Nkey(path.clone()), Identity::Credentials(path.clone())] {
                let said = identity.check().expect_err("refused").to_string();
                assert!(said.contains("identity does not hold"), "{said}");
                assert!(!said.contains("SECRET") && (account.is_empty() || !said.contains(&account)), "{said}");
            }
        }
        let missing = Identity::Nkey("/no/such/seed".into()).check().expect_err("missing").to_string();
        assert!(missing.contains("nats.nkey_seed_file = /no/such/seed"), "{missing}");
    }
}
