//! The return value of a batch message: which of its sectors succeeded.
//!
//! Exit code 0 in the receipt only says that the message as a whole took effect. Even this return value is not final: a
//! sector counts as proven once the chain's state has it.

use fvm_ipld_encoding::tuple::{Deserialize_tuple, Serialize_tuple, serde_tuple};

use super::exit::ExitCode;

/// The return value of `ProveCommitSectors3` and similar methods (`BatchReturn`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct BatchReturn {
    /// The number of sectors that succeeded.
    pub success_count: u32,
    /// The failures, in ascending order.
    pub fail_codes: Vec<FailCode>,
}

/// One failure of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct FailCode {
    /// Index into the message's sectors.
    pub idx: u32,
    /// The sector's exit code.
    pub code: u32,
}

/// Why a return value does not fit its message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the CBOR of a batch return.
    #[error("the return value is not that of a batch")]
    Decode(#[from] fvm_ipld_encoding::Error),
    /// It is about another number of sectors.
    #[error("the return value is of {got} sectors, the message had {sent}")]
    Size {
        /// Sectors in the return value.
        got: u64,
        /// Sectors in the message.
        sent: usize,
    },
    /// The positions of failures are not ascending, or beyond the message.
    #[error("the return value names position {idx} out of order or range")]
    Position {
        /// The position.
        idx: u32,
    },
}

impl BatchReturn {
    /// Decodes the return value of a message with `sent` sectors: one exit code per sector, in the order of the
    /// message.
    pub fn decode(bytes: &[u8], sent: usize) -> Result<Vec<ExitCode>, Error> {
        let batch: Self = fvm_ipld_encoding::from_slice(bytes)?;
        let got = u64::from(batch.success_count) + batch.fail_codes.len() as u64;
        if got != sent as u64 {
            return Err(Error::Size { got, sent });
        }
        let mut codes = vec![ExitCode::Ok; sent];
        let mut next = 0;
        for FailCode { idx, code } in batch.fail_codes {
            if idx < next {
                return Err(Error::Position { idx });
            }
            *codes.get_mut(idx as usize).ok_or(Error::Position { idx })? = ExitCode::from(code);
            next = idx.saturating_add(1);
        }
        Ok(codes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_golden_bytes_are_two_successes_around_a_failure() {
        let bytes = hex::decode("820281820110").unwrap();
        let codes = BatchReturn::decode(&bytes, 3).unwrap();
        assert_eq!(codes, [ExitCode::Ok, ExitCode::IllegalArgument, ExitCode::Ok]);
        let batch = BatchReturn { success_count: 2, fail_codes: vec![FailCode { idx: 1, code: 16 }] };
        assert_eq!(fvm_ipld_encoding::to_vec(&batch).unwrap(), bytes);
    }

    #[test]
    fn what_does_not_fit_the_message_is_refused() {
        let bytes = hex::decode("820281820110").unwrap();
        assert!(matches!(BatchReturn::decode(&bytes, 2), Err(Error::Size { got: 3, sent: 2 })));
        assert!(matches!(BatchReturn::decode(&[], 1), Err(Error::Decode(_))));
        let encode = |batch: &BatchReturn| fvm_ipld_encoding::to_vec(batch).unwrap();
        let fail = |idx| FailCode { idx, code: 16 };
        let twice = BatchReturn { success_count: 0, fail_codes: vec![fail(1), fail(1)] };
        assert!(matches!(BatchReturn::decode(&encode(&twice), 2), Err(Error::Position { idx: 1 })));
        let beyond = BatchReturn { success_count: 0, fail_codes: vec![fail(5)] };
        assert!(matches!(BatchReturn::decode(&encode(&beyond), 1), Err(Error::Position { idx: 5 })));
        let huge = BatchReturn { success_count: u32::MAX, fail_codes: vec![] };
        assert!(matches!(BatchReturn::decode(&encode(&huge), 1), Err(Error::Size { .. })));
    }
}
