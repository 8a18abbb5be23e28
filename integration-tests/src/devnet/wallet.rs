//! The node's wallet: deterministic keys, for both kinds of signatures.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bls_signatures::{PrivateKey, Serialize as _};
use fvm_shared::address::Address;
use fvm_shared::crypto::signature::{SECP_SIG_LEN, Signature};
use fvm_shared::message::Message;
use k256::ecdsa::SigningKey;
use serde_json::json;
use thiserror::Error;

use super::message::{EncodeError, SignedMessage, message_cid};
use super::randomness::blake2b256;

/// Why the wallet could not sign.
#[derive(Debug, Error)]
pub enum WalletError {
    /// The wallet has no such key.
    #[error("key not found: {0}")]
    KeyNotFound(String),
    /// A key could not be derived from its seed.
    #[error("failed to derive a key for {0}")]
    Derive(String),
    /// The signature function failed.
    #[error("failed to sign with {0}")]
    Sign(String),
    /// The message could not be encoded.
    #[error("failed to encode the message")]
    Encode(#[from] EncodeError),
}

enum Key {
    Bls(PrivateKey),
    Secp(Box<SigningKey>),
}

/// Keys by address.
#[derive(Default)]
pub struct Wallet {
    keys: BTreeMap<Vec<u8>, (Address, Key)>,
}

impl Wallet {
    /// Derives a BLS key from a seed and a label, stores it and returns its address.
    pub fn derive_bls(&mut self, seed: u64, label: &str) -> Result<Address, WalletError> {
        let key = PrivateKey::new(key_material(seed, label));
        let address =
            Address::new_bls(&key.public_key().as_bytes()).map_err(|_| WalletError::Derive(label.to_owned()))?;
        self.keys.insert(address.to_bytes(), (address, Key::Bls(key)));
        Ok(address)
    }

    /// Derives a secp256k1 key from a seed and a label, stores it and returns its address.
    pub fn derive_secp(&mut self, seed: u64, label: &str) -> Result<Address, WalletError> {
        let derive_error = || WalletError::Derive(label.to_owned());
        let key = SigningKey::from_slice(&key_material(seed, label)).map_err(|_| derive_error())?;
        let public = key.verifying_key().to_encoded_point(false);
        let address = Address::new_secp256k1(public.as_bytes()).map_err(|_| derive_error())?;
        let key = Key::Secp(Box::new(key));
        self.keys.insert(address.to_bytes(), (address, key));
        Ok(address)
    }

    /// Whether the wallet has the key for this key address.
    pub fn has(&self, address: &Address) -> bool {
        self.keys.contains_key(&address.to_bytes())
    }

    /// All key addresses.
    pub fn list(&self) -> Vec<Address> {
        self.keys.values().map(|(address, _)| *address).collect()
    }

    /// All keys, as Lotus exports them: the hexadecimal digits of a JSON object.
    pub fn exported(&self) -> Vec<(Address, String)> {
        let export = |(address, key): &(Address, Key)| {
            let (kind, bytes) = match key {
                Key::Bls(key) => ("bls", key.as_bytes()),
                Key::Secp(key) => ("secp256k1", key.to_bytes().to_vec()),
            };
            let info = json!({ "Type": kind, "PrivateKey": STANDARD.encode(bytes) });
            (*address, hex::encode(info.to_string()))
        };
        self.keys.values().map(export).collect()
    }

    /// Signs bytes with the key for this key address.
    pub fn sign(&self, address: &Address, data: &[u8]) -> Result<Signature, WalletError> {
        let not_found = || WalletError::KeyNotFound(super::address::to_text(address));
        let (_, key) = self.keys.get(&address.to_bytes()).ok_or_else(not_found)?;
        match key {
            Key::Bls(key) => Ok(Signature::new_bls(key.sign(data).as_bytes())),
            Key::Secp(key) => {
                let sign_error = |_| WalletError::Sign(super::address::to_text(address));
                let (signature, recovery) = key.sign_prehash_recoverable(&blake2b256(data)).map_err(sign_error)?;
                let mut bytes = Vec::with_capacity(SECP_SIG_LEN);
                bytes.extend_from_slice(&signature.to_bytes());
                bytes.push(recovery.to_byte());
                Ok(Signature::new_secp256k1(bytes))
            }
        }
    }

    /// Signs a message with the key for this key address.
    pub fn sign_message(&self, address: &Address, message: Message) -> Result<SignedMessage, WalletError> {
        let cid = message_cid(&message)?;
        let signature = self.sign(address, &cid.to_bytes())?;
        Ok(SignedMessage { message, signature })
    }
}

fn key_material(seed: u64, label: &str) -> [u8; 32] {
    blake2b256(format!("sealbus-devnet key {seed} {label}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_of_both_kinds_verify_and_only_for_the_signed_bytes() {
        let mut wallet = Wallet::default();
        let bls = wallet.derive_bls(1, "a").expect("derives");
        let secp = wallet.derive_secp(1, "a").expect("derives");
        for address in [bls, secp] {
            let signature = wallet.sign(&address, b"data").expect("signs");
            assert_eq!(signature.verify(b"data", &address), Ok(()));
            assert!(signature.verify(b"datb", &address).is_err());
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_keys() {
        let derive = |seed| Wallet::default().derive_bls(seed, "a").ok();
        assert_eq!(derive(1), derive(1));
        assert_ne!(derive(1), derive(2));
    }
}
