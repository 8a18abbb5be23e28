//! What a stage says when it fails: a class, a stable code and a message.
//!
//! The codes are those of the schema, as an enum, so that a stage cannot make one up. The class is decided here, where
//! the error arises, from the kind of an I/O error or from the step that failed; nothing downstream reads the text.

use std::io;
use std::path::Path;

use sealbus_schema::error::Exit;
use sealbus_schema::{ErrorClass, ErrorCode};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $class:ident;)*) => {
        /// The stable codes of stage errors. Each belongs to one class.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum StageCode { $($(#[$doc])* $variant,)* }

        impl StageCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it is reported.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The code as it travels.
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
    /// The request does not have the shape of the stage, or names a path that is not allowed.
    RequestInvalid = "REQUEST_INVALID", Perm;
    /// A kind of piece that this version cannot add.
    PieceUnsupported = "PIECE_UNSUPPORTED", Abort;
    /// A file of an earlier stage is missing.
    InputMissing = "INPUT_MISSING", Perm;
    /// A file of an earlier stage has another size, or belongs to another sector, ticket or seed.
    InputMismatch = "INPUT_MISMATCH", Perm;
    /// The pieces do not give the root of tree D.
    CommDMismatch = "COMM_D_MISMATCH", Perm;
    /// The result of PC2 contradicts its own files, or does not open at challenged nodes.
    CommRMismatch = "COMM_R_MISMATCH", Perm;
    /// The proof that C2 made does not verify.
    ProofInvalid = "PROOF_INVALID", Perm;
    /// Groth16 parameters or the verifying key are not in the parameter cache.
    ParamsMissing = "PARAMS_MISSING", Crit;
    /// The proofs library answered an error that is not of the file system.
    ProofsFailed = "PROOFS_FAILED", Perm;
    /// The proofs library panicked.
    LibraryPanic = "LIBRARY_PANIC", Perm;
    /// No space or no quota left.
    DiskFull = "DISK_FULL", Crit;
    /// A file operation was interrupted, or took too long.
    IoTimedOut = "IO_TIMED_OUT", Temp;
    /// Any other failure of a file operation: read-only, not permitted, broken.
    IoFailed = "IO_FAILED", Crit;
    /// A slot's directory is not there, is another one, or does not answer.
    SlotUnusable = "SLOT_UNUSABLE", Crit;
    /// A slot's directory, or what lies in it, belongs to another worker.
    SlotOfAnotherWorker = "SLOT_OF_ANOTHER_WORKER", Crit;
    /// The permanent store's directory is not there, or is another one; the store may not be mounted.
    StoreUnavailable = "STORE_UNAVAILABLE", Temp;
    /// The permanent store lacks the space for this sector.
    StoreFull = "STORE_FULL", Crit;
    /// The permanent store has a different file under the final name.
    StoreConflict = "STORE_CONFLICT", Perm;
    /// What was read back from the permanent store is not what was written.
    ChecksumMismatch = "CHECKSUM_MISMATCH", Temp;
    /// An executable of somebody else's that does the work of a stage could not be started.
    ProcessorStartFailed = "PROCESSOR_START_FAILED", Crit;
    /// It ended before it answered.
    ProcessorDied = "PROCESSOR_DIED", Temp;
    /// It did not become ready in time.
    ProcessorTimedOut = "PROCESSOR_TIMED_OUT", Temp;
    /// It said something that is not its protocol.
    ProcessorProtocol = "PROCESSOR_PROTOCOL", Perm;
    /// It answered an error, which has no class and no code in its protocol.
    ProcessorRefused = "PROCESSOR_REFUSED", Perm;
}

/// A failed stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct StageError {
    /// The stable code; its class is [`StageCode::class`].
    pub code: StageCode,
    /// What was being done, and the chain of causes.
    pub message: String,
    /// How an executable of somebody else's ended, if it did so by itself.
    pub exit: Option<Exit>,
}

impl StageError {
    /// An error of `code`.
    pub fn new(code: StageCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), exit: None }
    }

    /// The class of the code.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        self.code.class()
    }

    /// A failed file operation, classed by its kind.
    pub fn io(operation: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(io_code(error), format!("{operation} {}: {error}", path.display()))
    }

    /// The same failure, where the file lies in the permanent store and not in the slot. What a server, a mount or its rights
    /// refuse there passes when they are mended, and no sector is to blame.
    #[must_use]
    pub fn in_store(self) -> Self {
        let code = match self.code {
            StageCode::DiskFull => StageCode::StoreFull,
            StageCode::IoFailed | StageCode::IoTimedOut => StageCode::StoreUnavailable,
            code => code,
        };
        Self { code, ..self }
    }

    /// A failed call of the proofs library. An I/O error anywhere in the chain decides the class.
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
        // ENOSPC, EDQUOT; EROFS, EACCES, EIO, ESTALE, ENOTCONN, ETIMEDOUT.
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
