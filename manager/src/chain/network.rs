//! The differences between network versions.
//!
//! The version is read from the node each time a message is built, because a network upgrade happens between two
//! epochs, not between two of our releases.

/// Network version "Solstice": every sector has the pledge and power of tenfold quality (FIP-0118).
pub const NV_SOLSTICE: u32 = 29;

/// The oldest network version for which we build messages.
pub const NV_OLDEST: u32 = 28;

/// A network version for which this release does not know the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("network version {version} is not supported (supported: {NV_OLDEST} to {NV_SOLSTICE})")]
pub struct Unsupported {
    /// The node's version.
    pub version: u32,
}

/// Fails for a version whose rules are unknown.
pub fn check_supported(version: u32) -> Result<(), Unsupported> {
    if (NV_OLDEST..=NV_SOLSTICE).contains(&version) { Ok(()) } else { Err(Unsupported { version }) }
}

/// The version of the built-in actors at a network version, if known.
pub fn actors_version(version: u32) -> Option<u32> {
    match version {
        25 | 26 => Some(16),
        27 => Some(17),
        28 => Some(18),
        29 => Some(19),
        _ => None,
    }
}

/// The verified size, in bytes, to pass when asking for a sector's pledge.
///
/// Since FIP-0118 every sector pledges as if it were full of verified data, even committed capacity. With 0 the node
/// would return too little, and the message would fail with exit code 19.
pub fn pledge_verified_bytes(version: u32, sector_bytes: u64, verified_bytes: u64) -> u64 {
    if version >= NV_SOLSTICE { sector_bytes } else { verified_bytes.min(sector_bytes) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_the_upgrade_are_supported_and_nothing_else() {
        let supported: Vec<u32> = (0..100).filter(|v| check_supported(*v).is_ok()).collect();
        assert_eq!(supported, [28, 29]);
        assert!(supported.iter().all(|v| actors_version(*v).is_some()));
    }

    #[test]
    fn a_sector_without_data_pledges_in_full_after_the_upgrade() {
        assert_eq!(pledge_verified_bytes(28, 2048, 0), 0);
        assert_eq!(pledge_verified_bytes(28, 2048, 4096), 2048);
        assert_eq!(pledge_verified_bytes(29, 2048, 0), 2048);
    }
}
