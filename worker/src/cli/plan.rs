//! `sealbus-worker plan`: which processors to run where on a machine, the resulting throughput, and the configuration
//! for it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, bail};
use sealbus_planner::{
    machine_plan::{
        Gpus, MachinePlan, Place, Request,
        configuration::{Around, configuration},
        explain::explain,
        plan,
        times::Times,
    },
    units::{UnitError, parse_bytes},
};
use sealbus_schema::{MinerId, Phase, SectorSize, WorkerName};
use sealbus_worker::{
    out,
    slot::space::free_bytes,
    topology::{Source, load, read::read_bounded},
};

use super::topology::Described;

/// More cards than any machine has.
const GPUS_MAX: usize = 64;
/// Far more bytes than a file of times needs.
const TIMES_BYTES_MAX: u64 = 1 << 20;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArguments {
    /// 2KiB, 8MiB, 512MiB, 32GiB or 64GiB.
    #[arg(long, value_name = "SIZE")]
    sector_size: SectorSize,
    #[command(flatten)]
    described: Described,
    /// How many GPUs to use, or which (such as 0,1 or GPU-…); all of them by default. A number may exceed what the
    /// machine has.
    #[arg(long, value_name = "N|LIST", value_parser = gpus)]
    gpus: Option<Gpus>,
    /// The machine's memory, overriding its description.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// A directory for slots; repeat it for several. By default every disk that does not rotate is assumed to be free.
    #[arg(long = "slots-on", value_name = "DIR")]
    slots_on: Vec<PathBuf>,
    /// The space in each of these directories; by default their free space.
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "slots_on")]
    disk_bytes: Option<u64>,
    /// The number of slots; by default as many as increase the throughput.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=5000))]
    slots: Option<u16>,
    /// A TOML file of measured times, with lines such as pc1 = "3h"; the waits are called precommit, seed and prove.
    #[arg(long, value_name = "FILE")]
    times: Option<PathBuf>,
    /// A measured time; overrides the file.
    #[arg(long = "time", value_name = "NAME=TIME")]
    time: Vec<String>,
    /// The memory that a phase was measured to take, such as c2=62GiB.
    #[arg(long = "need", value_name = "STAGE=SIZE", value_parser = need)]
    needs: Vec<(Phase, u64)>,
    /// Producers of multicore SDR beside its main thread; 0 for PC1 on one core. By default the best of 1 to 3.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=63))]
    producers: Option<u8>,
    /// The phases of pc1, pc2 and c2 that run on this machine, such as pc1 or pc2,c2; the others run elsewhere.
    #[arg(long, value_name = "STAGES", value_delimiter = ',', value_parser = heavy)]
    only: Vec<Phase>,
    /// The machine also makes proofs of spacetime, beside c2.
    #[arg(long)]
    prove: bool,
    /// Each processor has its own cgroup ([cgroup] in the configuration), so multicore SDR sees only its cores.
    #[arg(long)]
    cgroups: bool,
    /// PC1 takes its memory from reserved huge pages.
    #[arg(long)]
    huge_pages: bool,
    /// Explain the choices.
    #[arg(long)]
    explain: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "explain")]
    json: bool,
    #[command(flatten)]
    file: FileArguments,
}

/// The parts of the configuration that are not planned.
#[derive(Debug, clap::Args)]
struct FileArguments {
    /// Write the worker's configuration.
    #[arg(long, value_name = "FILE", requires_all = ["miners", "store"])]
    write: Option<PathBuf>,
    /// Overwrite the file if it exists.
    #[arg(long, requires = "write")]
    force: bool,
    /// The miner whose sectors to seal; repeat it for several.
    #[arg(long = "miner", id = "miners", value_name = "ADDRESS")]
    miners: Vec<MinerId>,
    /// The worker's name on the bus; by default the machine's host name.
    #[arg(long)]
    name: Option<WorkerName>,
    /// The URL of NATS.
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats_url: String,
    /// The root of the permanent store.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The permanent store's name in the manager's configuration.
    #[arg(long, value_name = "NAME", default_value = "main")]
    store_name: String,
}

impl PlanArguments {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        let source = self.described.source();
        let machine = self.described.restricted(load(source.clone())?)?;
        let request = self.request(&source)?;
        let plan = plan(&machine, &request)?;
        // The written file must not depend on the output format.
        let printed = match self.json {
            true => out::json(&serde_json::to_string_pretty(&plan)?),
            false => out::print(&explain(&plan, self.explain)),
        };
        if let Some(path) = &self.file.write {
            self.file.write(path, &plan)?;
        }
        Ok(printed?)
    }

    fn request(&self, source: &Source) -> anyhow::Result<Request> {
        if self.prove && !self.only.is_empty() && !self.only.contains(&Phase::C2) {
            bail!("--prove: the proofs take c2's place, and --only leaves c2 out: add it, or plan without --prove");
        }
        let mut times = Times::assumed(self.sector_size);
        if let Some(path) = &self.times {
            give_file(&mut times, path)?;
        }
        for pair in &self.time {
            times.give_pair(pair).with_context(|| format!("--time {pair}"))?;
        }
        Ok(Request {
            gpus: self.gpus.clone().unwrap_or(Gpus::All),
            places: self.places(source)?,
            slots: self.slots.map(usize::from),
            times,
            memory_bytes: self.memory,
            needs: self.needs.iter().copied().collect(),
            producers: self.producers.map(usize::from),
            huge_pages: self.huge_pages,
            cgroups: self.cgroups,
            only: self.only.iter().copied().collect(),
            posts: self.prove,
            ..Request::new(self.sector_size)
        })
    }

    /// The directories with their space. Directories on one file system share its space.
    fn places(&self, source: &Source) -> anyhow::Result<Vec<Place>> {
        let told = |path: &PathBuf| Place { path: path.clone(), bytes: self.disk_bytes };
        if self.disk_bytes.is_some() || *source != Source::ThisMachine {
            return Ok(self.slots_on.iter().map(told).collect());
        }
        let mut found = Vec::new();
        let mut sharing: BTreeMap<u64, u64> = BTreeMap::new();
        for path in &self.slots_on {
            let failed = || format!("--slots-on {}: create it, or give --disk-bytes", path.display());
            let absolute = path.canonicalize().with_context(failed)?;
            let device = fs::metadata(&absolute).with_context(failed)?.dev();
            *sharing.entry(device).or_default() += 1;
            found.push((device, free_bytes(&absolute).with_context(failed)?, absolute));
        }
        let place =
            |(device, free, path)| Place { path, bytes: Some(free / sharing.get(&device).copied().unwrap_or(1)) };
        Ok(found.into_iter().map(place).collect())
    }
}

impl FileArguments {
    fn write(&self, path: &Path, plan: &MachinePlan) -> anyhow::Result<()> {
        if plan.slots.is_empty() {
            bail!(
                "--write: a machine without slots is no worker; --only c2 plans one that workers' executables hand c2 to"
            );
        }
        let store = self.store.as_deref().context("--write needs --store: the permanent store's root")?;
        let around = Around {
            name: self.name()?,
            miners: self.miners.clone(),
            nats_url: self.nats_url.clone(),
            store_name: self.store_name.clone(),
            store_path: std::path::absolute(store)?,
        };
        write_whole(path, &configuration(plan, &around), self.force)?;
        out::note(format_args!(
            "wrote {path}; `sealbus-worker check --config {path}` tells whether it can be used",
            path = path.display()
        ));
        Ok(())
    }

    fn name(&self) -> anyhow::Result<WorkerName> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let allowed = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
        let name: String = host.trim().chars().map(allowed).take(64).collect();
        name.parse().context("the host name is not valid as a worker's name: give --name")
    }
}

/// Writes a file as a whole or not at all. An existing file is replaced only with `force`.
fn write_whole(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let absolute = std::path::absolute(path)?;
    let dir = absolute.parent().unwrap_or(Path::new("/"));
    let failed = || format!("cannot write {}", path.display());
    if !force && path.exists() {
        bail!("{} is there already: use --force to overwrite it, or another name", path.display());
    }
    // Renaming over a device would replace the device, as root even /dev/null.
    if fs::symlink_metadata(&absolute).is_ok_and(|there| !there.is_file()) {
        bail!("{} is no plain file: name another one, or leave --write out to see the plan", path.display());
    }
    let mut file = tempfile::NamedTempFile::new_in(dir).with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    let kept = if force { file.persist(&absolute) } else { file.persist_noclobber(&absolute) };
    kept.map_err(|error| error.error).with_context(failed)?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(failed)
}

fn give_file(times: &mut Times, path: &Path) -> anyhow::Result<()> {
    let failed = || format!("--times {}", path.display());
    let bytes = read_bounded(path, TIMES_BYTES_MAX).with_context(failed)?;
    let text = String::from_utf8(bytes).with_context(failed)?;
    let given: BTreeMap<String, String> = toml::from_str(&text).with_context(failed)?;
    for (name, time) in given {
        times.give(&name, &time).with_context(failed)?;
    }
    Ok(())
}

fn gpus(text: &str) -> Result<Gpus, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        let count = usize::from_str(text).ok().filter(|count| *count <= GPUS_MAX);
        return count.map(Gpus::Count).ok_or_else(|| format!("at most {GPUS_MAX} are planned for"));
    }
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().any(String::is_empty) {
        true => Err("write a number, or ids such as 0,1 or GPU-…; 0 for none".to_owned()),
        false => Ok(Gpus::Named(names)),
    }
}

fn size(text: &str) -> Result<u64, UnitError> {
    parse_bytes(text)
}

fn heavy(text: &str) -> Result<Phase, String> {
    match text.trim().parse() {
        Ok(phase @ (Phase::Pc1 | Phase::Pc2 | Phase::C2)) => Ok(phase),
        _ => Err(format!("{text:?} is none of pc1, pc2 and c2")),
    }
}

fn need(text: &str) -> Result<(Phase, u64), String> {
    let (stage, bytes) = text.split_once('=').ok_or("write STAGE=SIZE, such as c2=62GiB")?;
    let stage: Phase = stage.parse().map_err(|error| format!("{error}"))?;
    match parse_bytes(bytes).map_err(|error| error.to_string())? {
        0 => Err("must be more than 0".to_owned()),
        bytes => Ok((stage, bytes)),
    }
}
