//! Tokens in Lotus' form: JWT, HS256, with the permissions in the claim `Allow`.

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;

use super::{error::RpcError, params::Params};
use crate::devnet::node::Node;

type HmacSha256 = Hmac<Sha256>;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// A permission. Tokens list them; none implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Reads the chain and state.
    Read,
    /// Changes the node, by pushing messages for example.
    Write,
    /// Uses the wallet's keys.
    Sign,
    /// Controls the node.
    Admin,
}

impl Permission {
    const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Sign, Self::Admin];

    /// Its name in tokens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Sign => "sign",
            Self::Admin => "admin",
        }
    }
}

/// A set of permissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// The set of these permissions.
    pub fn of(permissions: &[Permission]) -> Self {
        Self(permissions.iter().fold(0, |bits, permission| bits | 1 << *permission as u8))
    }

    /// Whether the set contains a permission.
    pub fn contains(self, permission: Permission) -> bool {
        self.0 & 1 << permission as u8 != 0
    }

    fn names(self) -> Vec<String> {
        let held = Permission::ALL.into_iter().filter(|permission| self.contains(*permission));
        held.map(|permission| permission.name().to_owned()).collect()
    }

    fn from_names(names: &[String]) -> Self {
        let held = Permission::ALL.into_iter().filter(|p| names.iter().any(|name| name == p.name()));
        Self::of(&held.collect::<Vec<_>>())
    }
}

/// The tokens that a devnet writes to its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// All permissions.
    pub admin: String,
    /// Read, write and sign, for a manager whose messages the wallet signs.
    pub sign: String,
    /// Read and write, for a manager that signs itself.
    pub write: String,
    /// Read only.
    pub read: String,
}

/// The key that tokens are signed with.
#[derive(Clone)]
pub struct Secret([u8; 32]);

#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(rename = "Allow")]
    allow: Vec<String>,
}

impl Secret {
    /// A new random key from the operating system.
    pub fn random() -> Self {
        let mut key = [0; 32];
        rand::rngs::OsRng.fill_bytes(&mut key);
        Self(key)
    }

    /// The tokens of a devnet.
    pub fn tokens(&self) -> Tokens {
        use Permission::{Read, Sign, Write};
        Tokens {
            admin: self.token(Permissions::of(&Permission::ALL)),
            sign: self.token(Permissions::of(&[Read, Write, Sign])),
            write: self.token(Permissions::of(&[Read, Write])),
            read: self.token(Permissions::of(&[Read])),
        }
    }

    /// A token with these permissions.
    pub fn token(&self, permissions: Permissions) -> String {
        // Encoding a list of strings cannot fail.
        let claims = serde_json::to_vec(&Claims { allow: permissions.names() }).unwrap_or_default();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.mac(signed.as_bytes()).map(|mac| mac.finalize().into_bytes());
        let signature = signature.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).unwrap_or_default();
        format!("{signed}.{signature}")
    }

    /// The permissions of an `Authorization` header; none if it is missing or invalid.
    pub fn permissions(&self, header: Option<&HeaderValue>) -> Option<Permissions> {
        let token = header?.to_str().ok()?.strip_prefix("Bearer ")?;
        self.verify(token.trim())
    }

    fn verify(&self, token: &str) -> Option<Permissions> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.get("alg")?.as_str()? != "HS256" {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.mac(signed.as_bytes())?.verify_slice(&signature).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        Some(Permissions::from_names(&claims.allow))
    }

    fn mac(&self, data: &[u8]) -> Option<HmacSha256> {
        let mut mac = HmacSha256::new_from_slice(&self.0).ok()?;
        mac.update(data);
        Some(mac)
    }
}

/// The permissions of a token. Its signature is not verified, because the caller has already presented a valid token.
pub fn verify(_: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let token: String = params.decode(0)?;
    let claims = token.split('.').nth(1).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
    let claims: Option<Claims> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
    let claims = claims.ok_or_else(|| RpcError::generic("JWT Verification failed: jwt: malformed token"))?;
    Ok(claims.allow.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(token: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Bearer {token}")).expect("a header")
    }

    #[test]
    fn a_token_gives_its_permissions_and_no_others() {
        let secret = Secret::random();
        let tokens = secret.tokens();
        let read = secret.permissions(Some(&header(&tokens.read))).expect("valid");
        assert!(read.contains(Permission::Read) && !read.contains(Permission::Sign));
        let sign = secret.permissions(Some(&header(&tokens.sign))).expect("valid");
        assert!(sign.contains(Permission::Sign) && !sign.contains(Permission::Admin));
    }

    #[test]
    fn missing_forged_and_unsigned_tokens_give_nothing() {
        let secret = Secret::random();
        assert_eq!(secret.permissions(None), None);
        assert_eq!(secret.permissions(Some(&HeaderValue::from_static("Bearer "))), None);
        assert_eq!(secret.permissions(Some(&HeaderValue::from_static("Basic abc"))), None);
        let foreign = Secret::random().tokens().admin;
        assert_eq!(secret.permissions(Some(&header(&foreign))), None);
        let unsigned = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
            URL_SAFE_NO_PAD.encode(r#"{"Allow":["admin"]}"#)
        );
        assert_eq!(secret.permissions(Some(&header(&unsigned))), None);
    }
}
