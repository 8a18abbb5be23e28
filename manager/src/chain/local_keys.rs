//! Keys that sign messages on this machine: the files of `chain.key_files`. A node's wallet signs for all other senders.
//!
//! A file is what `lotus wallet export` or `forest-cli wallet export` prints: the hexadecimal digits of a JSON object with the
//! kind of the key and the key in base64. The files are read for each signature. So a key can be replaced without a
//! restart, and no key stays in memory.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bls_signatures::Serialize as _;
use fvm_shared::{
    address::Address,
    crypto::signature::{SECP_SIG_LEN, Signature},
    message::Message,
};
use k256::ecdsa::SigningKey;
use sealbus_nats::secret;
use serde::Deserialize;

use super::message::{Error as MessageError, SignedMessage, signing_bytes};

/// The permissions of a key's file that are refused: any for everybody, and writing for the group. systemd lets the group read
/// the credentials that it passes on.
const REFUSED_MODE: u32 = 0o027;

/// Why a file has no usable key. No error repeats anything of the file's content.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read the key file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Others may read or change the file.
    #[error("the key file {path} has mode {mode:04o}: chmod 600 it", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The content is no exported key.
    #[error(
        "the key file {path} does not hold what `lotus wallet export` prints: {problem}",
        path = path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The configured files.
#[derive(Clone, Debug, Default)]
pub struct LocalKeys {
    files: Vec<PathBuf>,
}

/// A key with its address.
struct Key {
    address: Address,
    secret: Secret,
}

enum Secret {
    Bls(bls_signatures::PrivateKey),
    Secp256k1(Box<SigningKey>),
}

/// A key as Lotus and Forest export it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    r#type: String,
    private_key: String,
}

impl LocalKeys {
    /// The keys in these files. Nothing is read yet.
    pub fn new(files: &[PathBuf]) -> LocalKeys {
        LocalKeys { files: files.to_vec() }
    }

    /// Whether no file is configured.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The key addresses of the files, in their order, and what is wrong with the others.
    pub async fn addresses(&self) -> Vec<Result<Address, KeyFileError>> {
        self.read().await.into_iter().map(|key| key.map(|key| key.address)).collect()
    }

    /// Whether a file has the key of this address.
    pub async fn has(&self, address: &Address) -> bool {
        self.find(address).await.is_some()
    }

    /// Signs a message. `None` if no file has its sender's key.
    pub async fn sign(&self, message: &Message) -> Option<Result<SignedMessage, MessageError>> {
        let key = self.find(&message.from).await?;
        Some(signing_bytes(message).and_then(|bytes| SignedMessage::new(message.clone(), key.sign(&bytes)?)))
    }

    /// Signs bytes with a BLS key: a VRF proof of 96 bytes. `None` if no file has the key.
    pub async fn vrf(&self, address: &Address, input: &[u8]) -> Option<Vec<u8>> {
        match self.find(address).await?.secret {
            Secret::Bls(key) => Some(key.sign(input).as_bytes()),
            Secret::Secp256k1(_) => None,
        }
    }

    async fn find(&self, address: &Address) -> Option<Key> {
        self.read().await.into_iter().flatten().find(|key| key.address == *address)
    }

    async fn read(&self) -> Vec<Result<Key, KeyFileError>> {
        if self.is_empty() {
            return Vec::new();
        }
        let files = self.files.clone();
        // Files may be slow, and an address of a BLS key takes a millisecond.
        tokio::task::spawn_blocking(move || files.iter().map(|path| read(path)).collect()).await.unwrap_or_default()
    }
}

impl Key {
    fn sign(&self, bytes: &[u8]) -> Result<Signature, MessageError> {
        match &self.secret {
            Secret::Bls(key) => Ok(Signature::new_bls(key.sign(bytes).as_bytes())),
            Secret::Secp256k1(key) => {
                let digest = blake2b_simd::Params::new().hash_length(32).hash(bytes);
                let (signature, recovery) =
                    key.sign_prehash_recoverable(digest.as_bytes()).map_err(|_| MessageError::KeyUnusable)?;
                let mut signed = Vec::with_capacity(SECP_SIG_LEN);
                signed.extend_from_slice(&signature.to_bytes());
                signed.push(recovery.to_byte());
                Ok(Signature::new_secp256k1(signed))
            }
        }
    }
}

/// Whether a file has a usable key.
pub fn check(path: &Path) -> Result<(), KeyFileError> {
    read(path).map(drop)
}

fn read(path: &Path) -> Result<Key, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & REFUSED_MODE != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let text = secret::read(path).map_err(failed)?;
    parse(&text).map_err(|problem| KeyFileError::Content { path: path.to_owned(), problem })
}

fn parse(text: &str) -> Result<Key, &'static str> {
    let json = hex::decode(text).map_err(|_| "it is not hexadecimal")?;
    let exported: Exported =
        serde_json::from_slice(&json).map_err(|_| "it is no JSON object with Type and PrivateKey")?;
    let bytes = STANDARD.decode(&exported.private_key).map_err(|_| "PrivateKey is not base64")?;
    const NO_KEY: &str = "PrivateKey is no key of its Type";
    let (address, secret) = match exported.r#type.as_str() {
        "bls" => {
            let key = bls_signatures::PrivateKey::from_bytes(&bytes).map_err(|_| NO_KEY)?;
            (Address::new_bls(&key.public_key().as_bytes()), Secret::Bls(key))
        }
        "secp256k1" => {
            let key = SigningKey::from_slice(&bytes).map_err(|_| NO_KEY)?;
            let public = key.verifying_key().to_encoded_point(false);
            (Address::new_secp256k1(public.as_bytes()), Secret::Secp256k1(Box::new(key)))
        }
        _ => return Err("Type is neither bls nor secp256k1"),
    };
    Ok(Key { address: address.map_err(|_| NO_KEY)?, secret })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use serde_json::json;

    use super::*;
    use crate::chain::message::nonce_filler;

    fn exported(kind: &str, key: &[u8]) -> String {
        hex::encode(json!({ "Type": kind, "PrivateKey": STANDARD.encode(key) }).to_string())
    }

    fn write(directory: &Path, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, content).expect("writes");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("sets the mode");
        path
    }

    #[tokio::test]
    async fn keys_of_both_kinds_sign_and_each_signs_its_own_messages_only() {
        let directory = tempfile::tempdir().expect("directory");
        // As Lotus does it: a line break at the end.
        let bls = write(directory.path(), "bls", &(exported("bls", &[7; 32]) + "\n"), 0o600);
        let secp = write(directory.path(), "secp", &exported("secp256k1", &[5; 32]), 0o440);
        let keys = LocalKeys::new(&[bls, secp]);
        let addresses: Vec<Address> = keys.addresses().await.into_iter().map(|key| key.expect("a key")).collect();
        for from in &addresses {
            let message = nonce_filler(*from).expect("builds");
            let signed = keys.sign(&message).await.expect("has the key").expect("signs");
            assert_eq!(signed.message(), &message);
        }
        let other = Address::new_secp256k1(&[4; 65]).expect("an address");
        assert!(!keys.has(&other).await);
        let message = nonce_filler(other).expect("builds");
        assert!(keys.sign(&message).await.is_none());
    }

    #[tokio::test]
    async fn a_file_that_is_no_key_is_told_without_its_content_and_keeps_no_other_key_from_signing() {
        let directory = tempfile::tempdir().expect("directory");
        let secret = STANDARD.encode([9; 32]);
        let of_kind = |kind: &str| hex::encode(json!({ "Type": kind, "PrivateKey": secret }).to_string());
        for (content, mode, expected) in [
            (exported("bls", &[7; 32]), 0o644, "chmod 600"),
            (exported("bls", &[7; 32]), 0o620, "chmod 600"),
            (secret.clone(), 0o600, "not hexadecimal"),
            (hex::encode(&secret), 0o600, "no JSON object"),
            (of_kind("delegated"), 0o600, "neither bls nor secp256k1"),
            (exported("secp256k1", &[0; 32]), 0o600, "no key of its Type"),
            (exported("bls", &[0xff; 32]), 0o600, "no key of its Type"),
            (hex::encode(r#"{"Type":"bls","PrivateKey":"%%"}"#), 0o600, "not base64"),
            (String::new(), 0o600, "no JSON object"),
        ] {
            let bad = write(directory.path(), "bad", &content, mode);
            let good = write(directory.path(), "good", &exported("bls", &[7; 32]), 0o600);
            let found = LocalKeys::new(&[bad.clone(), good]).addresses().await;
            let error = found[0].as_ref().expect_err("no key").to_string();
            assert!(error.contains(expected) && error.contains(&bad.display().to_string()), "{error}");
            assert!(!error.contains(&secret), "{error}");
            assert!(found[1].is_ok());
        }
        let missing = LocalKeys::new(&[directory.path().join("missing")]).addresses().await;
        assert!(matches!(missing[..], [Err(KeyFileError::Read { .. })]));
    }
}
