//! Generates all parameters of a devnet, a network where nothing is at stake.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use bellperson::SynthesisError;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sealbus_params_dir::{
    files::{self, DirLock, FileError, PartialFile},
    marker::{Marker, MarkerError},
    memory::Memory,
};
use sealbus_schema::SectorSize;
use storage_proofs_core::parameter_cache::VERSION;

use crate::circuits::{CircuitError, Kind, ProofCircuit};
use crate::finisher::{Finished, Finisher, MadeFile};
use crate::generator::{self, GenerateError, Layout, Tables};
use crate::srs::{self, SrsTrapdoor};
use crate::trapdoor::Trapdoor;

/// The default seed. Everybody knows it.
pub const DEFAULT_SEED: u64 = 0;

/// The size of the write buffer for a parameter file. Points are written in larger blocks.
const BUFFER_BYTES: usize = 1 << 20;

/// What to generate.
#[derive(Clone, Debug)]
pub struct DevnetRequest {
    /// The target directory. It is created if it does not exist.
    pub dir: PathBuf,
    /// The sector size.
    pub sector_size: SectorSize,
    /// The circuits to generate parameters for. The SRS is always generated.
    pub kinds: Vec<Kind>,
    /// The seed; `None` for the directory's own, or [`DEFAULT_SEED`] in a new directory.
    pub seed: Option<u64>,
    /// Whether to draw progress bars on stderr, if that is a terminal.
    pub progress: bool,
}

/// What was already there, and what was generated.
#[derive(Debug, serde::Serialize)]
pub struct DevnetReport {
    /// The directory.
    pub dir: PathBuf,
    /// The seed of all its files.
    pub seed: u64,
    /// Names of files that were already there and whole.
    pub kept: Vec<String>,
    /// Files that were generated, with their times.
    pub made: Vec<MadeFile>,
}

/// Why a devnet's parameters could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// A circuit is not available.
    #[error(transparent)]
    Circuit(#[from] CircuitError),
    /// Parameters could not be generated.
    #[error("cannot make {}", path.display())]
    Generate {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: GenerateError,
    },
    /// The directory contains a file with an official name that was not generated here.
    #[error("cannot make devnet parameters in {}: {name} lies there and was not made by this command, so it may be official; give another --out", dir.display())]
    ForeignFile {
        /// The directory.
        dir: PathBuf,
        /// The file's name.
        name: String,
    },
    /// The directory's parameters were generated from another seed.
    #[error("cannot make parameters from seed {asked} in {}: those there come from seed {made}; remove the directory, or give another --out", dir.display())]
    OtherSeed {
        /// The directory.
        dir: PathBuf,
        /// The seed of the existing files.
        made: u64,
        /// The requested seed.
        asked: u64,
    },
    /// The directory's marker cannot be read.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A thread panicked. Its message is on stderr.
    #[error("cannot go on: a thread panicked while it finished files; this is a bug, report it with the lines above")]
    Panicked,
}

/// Generates what is missing or broken. If everything is whole, it returns quickly.
///
/// Blocks until done. Uses rayon's global pool on all cores, and two more threads. It can run in several processes at
/// once, and can be killed at any time.
pub fn make(request: &DevnetRequest) -> Result<DevnetReport, DevnetError> {
    let started = Instant::now();
    let circuits = request
        .kinds
        .iter()
        .map(|kind| ProofCircuit::new(*kind, request.sector_size))
        .collect::<Result<Vec<_>, _>>()?;
    let _lock = DirLock::acquire(&request.dir)?;
    let marker = open_marker(request)?;
    let mut finisher =
        Finisher { dir: request.dir.clone(), memory: Memory::load(&request.dir), marker, started, made: Vec::new() };

    let mut kept = Vec::new();
    let mut missing = |name: String, finisher: &mut Finisher| -> Result<bool, DevnetError> {
        let whole = finisher.is_whole(&name)?;
        if whole {
            kept.push(name);
        }
        Ok(!whole)
    };
    let mut to_generate = Vec::new();
    let mut to_derive = Vec::new();
    for circuit in circuits {
        let parameters = missing(circuit.parameters_name(), &mut finisher)?;
        let verifying_key = missing(circuit.verifying_key_name(), &mut finisher)?;
        let metadata = missing(circuit.metadata_name(), &mut finisher)?;
        if parameters {
            to_generate.push(circuit);
        } else if verifying_key || metadata {
            to_derive.push(circuit);
        }
    }
    let srs = missing(srs::name(), &mut finisher)?;

    for circuit in &to_derive {
        finisher.derive(circuit, request.sector_size.bytes(), &request.dir.join(circuit.parameters_name()))?;
    }
    if srs || !to_generate.is_empty() {
        finisher = make_files(request, &to_generate, srs, finisher)?;
    }
    finisher.memory.save();
    Ok(DevnetReport { dir: request.dir.clone(), seed: finisher.marker.seed, kept, made: finisher.made })
}

/// The directory's marker. Also checks that all parameters in the directory are ours and have this seed.
fn open_marker(request: &DevnetRequest) -> Result<Marker, DevnetError> {
    let dir = &request.dir;
    let marker = Marker::load(dir)?;
    let known = marker.as_ref().map(|marker| &marker.files);
    let prefix = format!("v{VERSION}-");
    for entry in std::fs::read_dir(dir).map_err(FileError::of("list", dir))? {
        let name = entry.map_err(FileError::of("list", dir))?.file_name().to_string_lossy().into_owned();
        // Without a marker, even a partly written file may be somebody else's, for example an official download.
        let ours = known.is_some_and(|files: &BTreeMap<_, _>| files.contains_key(&name) || files::is_partial(&name));
        if name.starts_with(&prefix) && !ours {
            return Err(DevnetError::ForeignFile { dir: dir.clone(), name });
        }
    }
    match (marker, request.seed) {
        (Some(marker), Some(asked)) if marker.seed != asked => {
            Err(DevnetError::OtherSeed { dir: dir.clone(), made: marker.seed, asked })
        }
        (Some(marker), _) => Ok(marker),
        (None, seed) => {
            // Written before any file, so that there is never a file without a marker.
            let marker = Marker::new(dir, seed.unwrap_or(DEFAULT_SEED));
            marker.save()?;
            Ok(marker)
        }
    }
}

/// A pipeline of three stages: one thread synthesizes circuits, this thread computes points on all cores, and another
/// thread hashes and renames finished files.
fn make_files(
    request: &DevnetRequest,
    circuits: &[ProofCircuit],
    srs: bool,
    finisher: Finisher,
) -> Result<Finisher, DevnetError> {
    let seed = finisher.marker.seed;
    let bars = Bars::new(request.progress);
    let trapdoors: Vec<_> = circuits.iter().map(|circuit| Trapdoor::from_seed(seed, circuit.identifier())).collect();
    std::thread::scope(|scope| {
        // There is room for all circuits, because an evaluation is small: three scalars per variable.
        let (layouts, layout) = sync_channel(2 * circuits.len());
        let trapdoors = &trapdoors;
        scope.spawn(move || {
            for (circuit, trapdoor) in circuits.iter().zip(trapdoors) {
                if !generator::lay_out(circuit, trapdoor, &layouts) {
                    break;
                }
            }
        });
        let (finished, to_finish) = sync_channel::<Finished<'_>>(circuits.len() + 1);
        let finishing = scope.spawn(move || finisher.run(to_finish));

        let made = make_points(request, circuits, trapdoors, srs.then_some(seed), &layout, &bars, |file| {
            // If the finisher has stopped, its error is returned below.
            finished.send(file).is_ok()
        });
        drop((finished, layout));
        let finisher = finishing.join().map_err(|_| DevnetError::Panicked)?;
        made.and(finisher.map_err(DevnetError::from))
    })
}

fn make_points<'c>(
    request: &DevnetRequest,
    circuits: &'c [ProofCircuit],
    trapdoors: &[Trapdoor],
    srs_seed: Option<u64>,
    layout: &Receiver<Result<Layout, SynthesisError>>,
    bars: &Bars,
    finish: impl Fn(Finished<'c>) -> bool,
) -> Result<(), DevnetError> {
    let tables = Tables::new();
    if let Some(seed) = srs_seed {
        let partial = PartialFile::create(request.dir.join(srs::name()))?;
        let written =
            buffered(&partial, |out| Ok(srs::write(&SrsTrapdoor::from_seed(seed), srs::MAX_PROOFS, &tables, out)?));
        written.map_err(|source| DevnetError::Generate { path: partial.target().to_owned(), source })?;
        finish(Finished { partial, circuit: None, sector_size: 0 });
    }
    for (circuit, trapdoor) in circuits.iter().zip(trapdoors) {
        let bar = bars.add(&circuit.kind().to_string());
        let partial = PartialFile::create(request.dir.join(circuit.parameters_name()))?;
        let written = buffered(&partial, |out| generator::write(layout, trapdoor, &tables, out, &bar));
        written.map_err(|source| DevnetError::Generate { path: partial.target().to_owned(), source })?;
        bar.finish();
        let going_on = finish(Finished { partial, circuit: Some(circuit), sector_size: request.sector_size.bytes() });
        if !going_on {
            return Ok(());
        }
    }
    Ok(())
}

fn buffered(
    partial: &PartialFile,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), GenerateError>,
) -> Result<(), GenerateError> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, &partial.file);
    write(&mut out)?;
    Ok(out.flush()?)
}

/// One bar for each circuit, on stderr if that is a terminal.
struct Bars {
    bars: Option<MultiProgress>,
    style: ProgressStyle,
}

impl Bars {
    fn new(draw: bool) -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:>20} {wide_bar} {human_pos}/{human_len} points {elapsed:>4} (left: {eta})",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bars: draw.then(MultiProgress::new), style }
    }

    fn add(&self, name: &str) -> ProgressBar {
        let Some(bars) = &self.bars else {
            return ProgressBar::hidden();
        };
        let bar = bars.add(ProgressBar::new(0)).with_style(self.style.clone()).with_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

impl fmt::Display for DevnetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.made {
            writeln!(f, "made {} ({} bytes, after {:.1} s)", file.name, file.size, file.after_secs)?;
        }
        write!(
            f,
            "{}: {} files made, {} whole already; seed {}",
            self.dir.display(),
            self.made.len(),
            self.kept.len(),
            self.seed
        )
    }
}
