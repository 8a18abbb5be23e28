//! The last stage of generating parameters: complete files get their final names.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use sealbus_params_dir::{
    G1_BYTES, VERIFYING_KEY_BYTES,
    files::{self, FileError, Fingerprint, PartialFile},
    marker::{MarkedFile, Marker},
    memory::Memory,
};
use storage_proofs_core::parameter_cache::CacheEntryMetadata;

use crate::circuits::ProofCircuit;

/// A file that was generated.
#[derive(Debug, serde::Serialize)]
pub struct MadeFile {
    /// The file's name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Seconds from the start of the command until the file was complete and renamed.
    pub after_secs: f64,
}

/// A file that is completely written, under its temporary name.
pub(crate) struct Finished<'c> {
    pub(crate) partial: PartialFile,
    /// The circuit, whose verifying key and metadata are also to be written.
    pub(crate) circuit: Option<&'c ProofCircuit>,
    pub(crate) sector_size: u64,
}

/// Renames complete files, and maintains the marker.
pub(crate) struct Finisher {
    pub(crate) dir: PathBuf,
    pub(crate) marker: Marker,
    pub(crate) memory: Memory,
    pub(crate) started: Instant,
    pub(crate) made: Vec<MadeFile>,
}

impl Finisher {
    pub(crate) fn run(mut self, files: Receiver<Finished<'_>>) -> Result<Self, FileError> {
        for Finished { partial, circuit, sector_size } in files {
            let path = self.finish(partial, sector_size)?;
            if let Some(circuit) = circuit {
                self.derive(circuit, sector_size, &path)?;
            }
        }
        Ok(self)
    }

    /// Whether a file exists and is unchanged since it was generated.
    pub(crate) fn is_whole(&mut self, name: &str) -> Result<bool, FileError> {
        let Some(marked) = self.marker.files.get(name) else {
            return Ok(false);
        };
        let path = self.dir.join(name);
        let Some(fingerprint) = Fingerprint::of(&path).map_err(FileError::of("look at", &path))? else {
            return Ok(false);
        };
        if fingerprint.size != marked.size {
            tracing::warn!(file = %path.display(), size = fingerprint.size, made = marked.size, "does not have the size it was made with; it is made again");
            return Ok(false);
        }
        if let Some(digest) = self.memory.recall(name, &fingerprint) {
            return Ok(digest == marked.digest);
        }
        let digest = files::digest(&path, |_| ()).map_err(FileError::of("read", &path))?;
        let whole = digest == marked.digest;
        if !whole {
            tracing::warn!(file = %path.display(), "does not have the digest it was made with; it is made again");
        }
        self.memory.remember(name, fingerprint, digest);
        Ok(whole)
    }

    /// Records a file in the marker, then renames it to its final name.
    fn finish(&mut self, partial: PartialFile, sector_size: u64) -> Result<PathBuf, FileError> {
        let name = partial.target().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let digest = files::digest(partial.path(), |_| ()).map_err(FileError::of("read", partial.path()))?;
        let size = partial.file.metadata().map_err(FileError::of("look at", partial.path()))?.len();
        self.marker.files.insert(name.clone(), MarkedFile { digest: digest.clone(), size, sector_size });
        self.marker.save()?;
        let path = partial.persist()?;
        if let Some(fingerprint) = Fingerprint::of(&path).map_err(FileError::of("look at", &path))? {
            self.memory.remember(&name, fingerprint, digest);
        }
        let after_secs = self.started.elapsed().as_secs_f64();
        tracing::info!(file = name, size, after_secs, "made");
        self.made.push(MadeFile { name, size, after_secs });
        Ok(path)
    }

    /// Writes the small files that belong to a parameter file, unless they are whole.
    pub(crate) fn derive(
        &mut self,
        circuit: &ProofCircuit,
        sector_size: u64,
        parameters: &Path,
    ) -> Result<(), FileError> {
        let verifying_key =
            verifying_key(parameters).map_err(FileError::of("read the verifying key of", parameters))?;
        let metadata = serde_json::to_vec(&CacheEntryMetadata { sector_size }).map_err(io::Error::from);
        let metadata = metadata.map_err(FileError::of("describe", parameters))?;
        for (name, bytes) in [(circuit.verifying_key_name(), verifying_key), (circuit.metadata_name(), metadata)] {
            if !self.is_whole(&name)? {
                let partial = PartialFile::create(self.dir.join(name))?;
                (&partial.file).write_all(&bytes).map_err(FileError::of("write", partial.path()))?;
                self.finish(partial, sector_size)?;
            }
        }
        Ok(())
    }
}

/// The verifying key, which is the beginning of a parameter file.
fn verifying_key(parameters: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(parameters)?;
    let mut bytes = vec![0; VERIFYING_KEY_BYTES as usize];
    file.read_exact(&mut bytes)?;
    let mut count = [0; 4];
    count.copy_from_slice(&bytes[bytes.len() - 4..]);
    file.take(u64::from(u32::from_be_bytes(count)) * G1_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
