//! Identity files, which say what a directory is, whatever its path.
//!
//! If a disk is not mounted, an empty directory is at its path, and two stores may be mounted in each other's place.
//! So the root of each permanent store and each slot has a file with a random id, made once. Before anything is written
//! or read there, this id is compared with the one that is remembered elsewhere.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::id::{MinerId, WorkerName};

/// The file in the root of a permanent store.
pub const STORE_FILE: &str = "sealbus-store.json";
/// The file in a slot.
pub const SLOT_FILE: &str = "sealbus-slot.json";
/// The largest identity file. A longer file is not ours.
pub const MAX_FILE_BYTES: usize = 64 * 1024;
/// The format version that this release writes and reads.
pub const FORMAT: u32 = 1;

/// The identity of a permanent store, in the file at its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreIdentity {
    /// Random, drawn when the file was made.
    pub id: String,
    /// The store's name in the configurations.
    pub name: String,
    /// The Filecoin network of its sectors; empty if it was not known.
    #[serde(default)]
    pub network: String,
    /// The miners that it was made for.
    #[serde(default)]
    pub miners: Vec<MinerId>,
    /// When it was made, by the clock of the host that made it. For people.
    #[serde(default)]
    pub made_at: String,
}

/// The identity of a slot, in the file in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotIdentity {
    /// Random, drawn when the file was made.
    pub id: String,
    /// The worker that owns the slot.
    pub worker: WorkerName,
    /// The slot's path when it was made. For people.
    #[serde(default)]
    pub path: String,
    /// The id of the slot that this one replaces, after a person gave that slot up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// When it was made, in seconds since 1970 by the clock of the host. For people.
    #[serde(default)]
    pub made_at_unix_secs: u64,
}

/// A store's id, as the manager remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownStore {
    /// The store's name.
    pub name: String,
    /// Its id.
    pub id: String,
}

/// Why a file does not identify its directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is not a JSON object of ours.
    #[error("is not an identity file of Sealbus, or is damaged: {0}")]
    Foreign(String),
    /// It is longer than any of ours.
    #[error("is longer than {MAX_FILE_BYTES} bytes, so it is not an identity file of Sealbus")]
    TooLong,
    /// It has another format version.
    #[error("has format {0}, this version reads {FORMAT}: use the version that wrote it, or a newer one")]
    Format(u32),
    /// It is a slot's file in a store, or the other way round.
    #[error("says that the directory is a {found}, not a {expected}")]
    Kind {
        /// The kind in the file.
        found: String,
        /// The expected kind.
        expected: &'static str,
    },
}

/// What an identity file can be about.
pub trait Identity: Serialize + DeserializeOwned {
    /// The name of the kind in the file.
    const KIND: &'static str;
    /// The file's name.
    const FILE: &'static str;
}

impl Identity for StoreIdentity {
    const KIND: &'static str = "store";
    const FILE: &'static str = STORE_FILE;
}

impl Identity for SlotIdentity {
    const KIND: &'static str = "slot";
    const FILE: &'static str = SLOT_FILE;
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    kind: String,
}

#[derive(Serialize)]
struct File<'a, T> {
    #[serde(flatten)]
    head: Head,
    #[serde(flatten)]
    identity: &'a T,
}

/// Parses a file's content.
pub fn parse<T: Identity>(bytes: &[u8]) -> Result<T, IdentityError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(IdentityError::TooLong);
    }
    let foreign = |error: serde_json::Error| IdentityError::Foreign(error.to_string());
    let head: Head = serde_json::from_slice(bytes).map_err(foreign)?;
    if head.kind != T::KIND {
        let found = head.kind.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(IdentityError::Kind { found, expected: T::KIND });
    }
    if head.format != FORMAT {
        return Err(IdentityError::Format(head.format));
    }
    serde_json::from_slice(bytes).map_err(foreign)
}

/// The content of the identity's file.
pub fn render<T: Identity>(identity: &T) -> Result<Vec<u8>, IdentityError> {
    let head = Head { format: FORMAT, kind: T::KIND.to_owned() };
    let mut bytes = serde_json::to_vec_pretty(&File { head, identity })
        .map_err(|error| IdentityError::Foreign(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// An id made of random bytes.
pub fn id_of(random: [u8; 16]) -> String {
    hex::encode(random)
}

/// The remembered id of a store, if there is one.
pub fn known_id<'a>(known: &'a [KnownStore], name: &str) -> Option<&'a str> {
    known.iter().find(|store| store.name == name).map(|store| store.id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> StoreIdentity {
        StoreIdentity {
            id: id_of([7; 16]),
            name: "main".to_owned(),
            network: "calibrationnet".to_owned(),
            miners: vec![MinerId(1000)],
            made_at: "2026-11-27T12:00:00Z".to_owned(),
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_survives_fields_of_a_newer_version() {
        let written = render(&store()).expect("renders");
        assert_eq!(parse::<StoreIdentity>(&written), Ok(store()));
        let text = String::from_utf8(written).expect("text");
        assert!(text.contains("\"format\": 1") && text.contains("\"kind\": \"store\""), "{text}");
        let newer = text.replacen('{', "{ \"colour\": \"red\",", 1);
        assert_eq!(parse::<StoreIdentity>(newer.as_bytes()), Ok(store()));
    }

    #[test]
    fn whatever_else_lies_there_is_refused_with_its_reason() {
        let good = String::from_utf8(render(&store()).expect("renders")).expect("text");
        let refused = |text: &str| parse::<StoreIdentity>(text.as_bytes()).expect_err("refused");
        assert!(matches!(refused(""), IdentityError::Foreign(_)));
        assert!(matches!(refused(&good[..good.len() / 2]), IdentityError::Foreign(_)), "cut off");
        assert_eq!(refused(&good.replace("\"format\": 1", "\"format\": 2")), IdentityError::Format(2));
        assert!(matches!(refused(&good.replace("\"store\"", "\"slot\"")), IdentityError::Kind { .. }));
        assert_eq!(refused(&" ".repeat(MAX_FILE_BYTES + 1)), IdentityError::TooLong);
        assert!(parse::<SlotIdentity>(good.as_bytes()).is_err());
    }
}
