//! Measures the generation of the 2 KiB parameters, against the proofs library's own generator.
//!
//! `cargo bench -p sealbus-devnet-params --bench params --profile dev` generates all files in an empty directory. Then
//! it generates window PoSt's again with bellperson's generator from the same trapdoor, and compares the bytes. For the
//! other circuits bellperson takes minutes. Their times are compared with known ones from two cores of an EPYC (Zen 4),
//! or measured here with `-- --winning`, `-- --update`, `-- --porep`.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

use std::fs;
use std::io::{BufWriter, Cursor};
use std::path::Path;
use std::time::Instant;

use bellperson::{Circuit, ConstraintSystem, SynthesisError, groth16};
use blstrs::{Bls12, G1Projective, G2Projective, Scalar};
use group::Group;
use sealbus_devnet_params::{
    self as params, CircuitSource, DevnetReport, DevnetRequest, Kind, ProofCircuit, SectorSize, Tables, Trapdoor,
};

const SEED: u64 = 0;

/// The library's circuit, in the form that the library's generator takes.
struct Blank(ProofCircuit);

impl Circuit<Scalar> for Blank {
    fn synthesize<CS: ConstraintSystem<Scalar>>(self, cs: &mut CS) -> Result<(), SynthesisError> {
        CircuitSource::synthesize(&self.0, cs)
    }
}

/// The time that some work took.
struct Taken {
    wall_secs: f64,
    cpu_secs: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    println!("{cores} cores, load before the start: {}", load.trim());

    let dir = tempfile::tempdir().unwrap();
    let (report, taken) = timed(|| make(dir.path()));
    println!("\nall 2 KiB files from an empty directory:");
    for file in report.made.iter().filter(|file| file.size > 1 << 16) {
        println!("  {:7.1} s {:>13} bytes {}", file.after_secs, file.size, file.name);
    }
    println!(
        "total: {:.1} s of wall clock (at most 120), {:.1} s of CPU, that is {:.1} s a core",
        taken.wall_secs,
        taken.cpu_secs,
        taken.cpu_secs / cores as f64
    );
    println!("peak memory: {} MiB (at most 6144)", peak_mib());

    let (again, taken) = timed(|| make(dir.path()));
    assert!(again.made.is_empty());
    println!("again, with all files whole: {:.3} s", taken.wall_secs);

    println!("\ncircuit by circuit, each by itself:");
    for (kind, flag, known_secs) in [
        (Kind::WindowPoSt, None, Some(8.0)),
        (Kind::WinningPoSt, Some("--winning"), Some(65.0)),
        (Kind::EmptySectorUpdate, Some("--update"), None),
        (Kind::PoRep, Some("--porep"), Some(716.0)),
    ] {
        let here = flag.is_none_or(asked);
        compare(kind, dir.path(), here, known_secs);
    }
}

fn make(dir: &Path) -> DevnetReport {
    params::make(&DevnetRequest {
        dir: dir.to_owned(),
        sector_size: SectorSize::KiB2,
        kinds: Kind::ALL.to_vec(),
        seed: Some(SEED),
        progress: false,
    })
    .unwrap()
}

/// Generates one circuit's parameters with both generators, or compares our time with a known one.
fn compare(kind: Kind, dir: &Path, here: bool, known_secs: Option<f64>) {
    let circuit = ProofCircuit::new(kind, SectorSize::KiB2).unwrap();
    let trapdoor = Trapdoor::from_seed(SEED, circuit.identifier());
    let name = circuit.parameters_name();

    let mut out = BufWriter::new(tempfile::tempfile_in(dir).unwrap());
    let ((), ours) = timed(|| params::generate(&circuit, &trapdoor, &Tables::new(), &mut out).unwrap());
    println!("  {kind}: {:.1} s here, {:.1} s of CPU", ours.wall_secs, ours.cpu_secs);

    if here {
        let (bytes, librarys) = timed(|| librarys(circuit, trapdoor));
        assert!(bytes == fs::read(dir.join(name)).unwrap(), "{kind}: other bytes than bellperson's");
        println!(
            "    bellperson's generator on this machine: {:.1} s, {:.1} s of CPU: {:.1} times as long, {:.1} times the CPU; the same bytes",
            librarys.wall_secs,
            librarys.cpu_secs,
            librarys.wall_secs / ours.wall_secs,
            librarys.cpu_secs / ours.cpu_secs
        );
    } else if let Some(known) = known_secs {
        let ratio = known / ours.wall_secs;
        println!("    bellperson's generator on two cores of an EPYC: {known:.0} s: {ratio:.1} times as long");
    } else {
        println!("    bellperson's generator was not measured; run this with its flag");
    }
}

fn librarys(circuit: ProofCircuit, trapdoor: Trapdoor) -> Vec<u8> {
    let Trapdoor { alpha, beta, gamma, delta, tau } = trapdoor;
    let (g1, g2) = (G1Projective::generator(), G2Projective::generator());
    let circuit = Blank(circuit);
    let parameters = groth16::generate_parameters::<Bls12, _>(circuit, g1, g2, alpha, beta, gamma, delta, tau);
    let mut out = Cursor::new(Vec::new());
    parameters.unwrap().write(&mut out).unwrap();
    out.into_inner()
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Taken) {
    let (started, cpu) = (Instant::now(), cpu_secs());
    let result = work();
    let wall_secs = started.elapsed().as_secs_f64();
    (result, Taken { wall_secs, cpu_secs: cpu_secs() - cpu })
}

/// CPU seconds that this process has used: fields 14 and 15 of `/proc/self/stat`, in hundredths of a second.
fn cpu_secs() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

/// The peak memory of this process in MiB.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
