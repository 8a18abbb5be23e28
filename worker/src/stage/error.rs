//! Stage errors: a class, a stable code and a message.
//!
//! The codes are the schema's codes as an enum, so that a stage cannot invent one. The class is decided here, where the
//! error arises, from the kind of the I/O error or from the failed step. Nothing downstream parses the text.

use std::io;
use std::path::Path;

use sealbus_schema::error::Exit;
use sealbus_schema::{ErrorClass, ErrorCode};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $class:ident;)*) => {
        /// The stable codes of stage errors. Each code has one class.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum StageCode { $($(#[$doc])* $variant,)* }

        impl StageCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The code as sent to the manager.
            #[must_use]
            pub fn error_code(self) -> ErrorCode {
                ErrorCode::from_text(self.as_str())
            }

            /// The class of errors with this code.
            #[must_use]
            pub fn class(self) -> ErrorClass {
                match self { $(Self::$variant => ErrorClass::$class,)* }
            }
        }
    };
}

codes! {
    /// The request does not have the stage's form, or names a path that is not allowed.
    RequestInvalid = "REQUEST_INVALID", Perm;
    /// The request contains a kind of piece that this version cannot add.
    PieceUnsupported = "PIECE_UNSUPPORTED", Abort;
    /// A file of an earlier stage is missing.
    InputMissing = "INPUT_MISSING", Perm;
    /// A file of an earlier stage has the wrong size, or belongs to another sector, ticket or seed.
    InputMismatch = "INPUT_MISMATCH", Perm;
    /// The root of tree D does not follow from the pieces.
    CommDMismatch = "COMM_D_MISMATCH", Perm;
    /// The result of PC2 contradicts its own files, or challenged nodes do not open.
    CommRMismatch = "COMM_R_MISMATCH", Perm;
    /// The proof that C2 made does not verify.
    ProofInvalid = "PROOF_INVALID", Perm;
    /// Groth16 parameters or the verifying key are missing from the parameter directory.
    ParamsMissing = "PARAMS_MISSING", Crit;
    /// The proofs library returned an error that does not come from the file system.
    ProofsFailed = "PROOFS_FAILED", Perm;
    /// The proofs library panicked.
    LibraryPanic = "LIBRARY_PANIC", Perm;
    /// The disk is full, or a quota is used up.
    DiskFull = "DISK_FULL", Crit;
    /// A file operation was interrupted, or took too long.
    IoTimedOut = "IO_TIMED_OUT", Temp;
    /// Any other failure of a file operation: read-only, not permitted, broken.
    IoFailed = "IO_FAILED", Crit;
    /// The slot's directory is missing, has been replaced, or does not answer.
    SlotUnusable = "SLOT_UNUSABLE", Crit;
    /// The slot's directory, or its content, belongs to another worker.
    SlotOfAnotherWorker = "SLOT_OF_ANOTHER_WORKER", Crit;
    /// The permanent store's directory is missing or is another store. The store may not be mounted.
    StoreUnavailable = "STORE_UNAVAILABLE", Temp;
    /// The permanent store lacks the space for this sector.
    StoreFull = "STORE_FULL", Crit;
    /// The permanent store has another file under the final name.
    StoreConflict = "STORE_CONFLICT", Perm;
    /// The data read back from the permanent store differs from what was written.
    ChecksumMismatch = "CHECKSUM_MISMATCH", Temp;
    /// A sector's files in the permanent store are missing, another sector's, or do not answer a challenge.
    FilesUnprovable = "FILES_UNPROVABLE", Perm;
    /// A third-party executable that serves a stage could not be started.
    ProcessorStartFailed = "PROCESSOR_START_FAILED", Crit;
    /// The third-party executable ended before it answered.
    ProcessorDied = "PROCESSOR_DIED", Temp;
    /// The third-party executable did not become ready in time.
    ProcessorTimedOut = "PROCESSOR_TIMED_OUT", Temp;
    /// The third-party executable violated its protocol.
    ProcessorProtocol = "PROCESSOR_PROTOCOL", Perm;
    /// The third-party executable answered with an error. Its protocol has neither classes nor codes.
    ProcessorRefused = "PROCESSOR_REFUSED", Perm;
}

/// A failed stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct StageError {
    /// The stable code. It determines the class ([`StageCode::class`]).
    pub code: StageCode,
    /// What was being done, with all causes.
    pub message: String,
    /// How a third-party executable ended, if it ended by itself.
    pub exit: Option<Exit>,
}

impl StageError {
    /// An error with this code.
    pub fn new(code: StageCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), exit: None }
    }

    /// The error class.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        self.code.class()
    }

    /// A failed file operation. Its kind decides the code.
    pub fn io(operation: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(io_code(error), format!("{operation} {}: {error}", path.display()))
    }

    /// Converts an error on a slot's file to one on a file in the permanent store. If a server, a mount or permissions
    /// refuse access there, that passes when they are repaired, and the sector is not to blame.
    #[must_use]
    pub fn in_store(self) -> Self {
        let code = match self.code {
            StageCode::DiskFull => StageCode::StoreFull,
            StageCode::IoFailed | StageCode::IoTimedOut => StageCode::StoreUnavailable,
            code => code,
        };
        Self { code, ..self }
    }

    /// A failed call of the proofs library. An I/O error anywhere in its causes decides the code.
    pub fn library(operation: &str, error: &anyhow::Error) -> Self {
        let code =
            error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map_or(StageCode::ProofsFailed, io_code);
        Self::new(code, format!("{operation}: {error:#}"))
    }
}

fn io_code(error: &io::Error) -> StageCode {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StageCode::DiskFull,
        io::ErrorKind::Interrupted | io::ErrorKind::TimedOut | io::ErrorKind::ResourceBusy => StageCode::IoTimedOut,
        _ => StageCode::IoFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_inside_a_library_error_is_critical() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::StorageFull)).context("failed to store labels");
        let error = StageError::library("sdr", &error);
        assert_eq!((error.code, error.class()), (StageCode::DiskFull, ErrorClass::Crit));
        assert!(error.message.starts_with("sdr: failed to store labels"));
    }

    #[test]
    fn an_errno_decides_the_code() {
        for (errno, code) in
            [(28, StageCode::DiskFull), (30, StageCode::IoFailed), (13, StageCode::IoFailed), (5, StageCode::IoFailed)]
        {
            let error = StageError::io("write", Path::new("/x"), &io::Error::from_raw_os_error(errno));
            assert_eq!(error.code, code);
        }
    }

    #[test]
    fn in_the_store_the_same_errno_is_the_stores_trouble() {
        // First list: ENOSPC, EDQUOT. Second list: EROFS, EACCES, EIO, ESTALE, ENOTCONN, ETIMEDOUT.
        for errno in [28, 122] {
            let error = StageError::io("write", Path::new("/x"), &io::Error::from_raw_os_error(errno)).in_store();
            assert_eq!(error.code, StageCode::StoreFull);
        }
        for errno in [30, 13, 5, 116, 107, 110] {
            let error = StageError::io("write", Path::new("/x"), &io::Error::from_raw_os_error(errno)).in_store();
            assert_eq!((error.code, error.class()), (StageCode::StoreUnavailable, ErrorClass::Temp), "{errno}");
        }
        let conflict = StageError::new(StageCode::StoreConflict, "x").in_store();
        assert_eq!(conflict.code, StageCode::StoreConflict);
    }

    #[test]
    fn a_logical_error_of_the_library_is_for_a_person() {
        assert_eq!(StageError::library("pc2", &anyhow::anyhow!("no")).class(), ErrorClass::Perm);
    }

    #[test]
    fn codes_are_distinct_and_in_capitals() {
        let names: std::collections::BTreeSet<_> = StageCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), StageCode::ALL.len());
        assert!(
            names.iter().all(|name| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        );
    }
}
