//! A whole Sealbus on one machine, with each part in its own process: NATS, devnet, manager, workers.
//!
//! The demo and the end-to-end tests use the programs as users do: by configuration files, command lines and signals.

mod files;
mod nats;
mod postgres;
mod process;
mod rpc;
mod scripted;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::devnet::config::WINDOW_EPOCHS;
pub use nats::{Identity, MINER, Server, config_file, seed_file, write_config};
pub use ports::Port;
pub use postgres::{Postgres, PostgresDatabase};
pub use process::{Process, children_of, nats_server, own_binary, run};
pub use rpc::call;

#[path = "../../nats/tests/support/ports.rs"]
mod ports;

/// How long a server may take to start. It is generous: a limit, not a measurement.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How far in the past a chain begins whose epochs have given times.
const EPOCHS_BEHIND: u64 = 1000;

/// The settings of a cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of slots per worker.
    pub slots: usize,
    /// The seed of the devnet's randomness.
    pub seed: u64,
    /// The real milliseconds of a devnet epoch.
    pub epoch_millis: u64,
    /// The confidence: how many epochs must be on top of something before the manager relies on it.
    pub confidence_epochs: i64,
    /// The directory with Groth16 parameters and verifying keys.
    pub params: PathBuf,
    /// The directory with the parent cache.
    pub parents: PathBuf,
    /// Whether C2 makes a scripted proof of the real replica, which manager and chain then expect. A real proof takes
    /// all cores for most of a minute.
    pub scripted_proofs: bool,
    /// Whether sectors are proven by window PoSt.
    pub proves: bool,
    /// The epochs of a deadline.
    pub window_epochs: i64,
    /// Whether the miner makes blocks. It wins nearly every epoch, once its sectors have power: with short deadlines soon.
    pub mines: bool,
    /// Whether the winning PoSts are scripted, which needs scripted proofs.
    pub scripted_winning: bool,
    /// The chain seconds of an epoch. With these the chain begins in the past, until [`Cluster::come_to_now`].
    pub block_delay_secs: Option<u64>,
}

/// A running cluster. Dropping it ends all its processes.
pub struct Cluster {
    root: PathBuf,
    settings: Settings,
    miner: String,
    nats_url: String,
    nats_port: Port,
    nats: Option<Process>,
    devnet: Option<Process>,
    manager: Option<Process>,
    standby: Option<Process>,
    worker: Option<Process>,
    /// Declared last, so that it is dropped when everything that uses it has ended.
    postgres: Option<Postgres>,
}

impl Settings {
    /// Settings with the directories that `make params` fills: `SEALBUS_PARAMS` and `SEALBUS_PARENTS`.
    pub fn from_env() -> anyhow::Result<Settings> {
        let directory = |name: &str| {
            let value = std::env::var_os(name).with_context(|| {
                format!("{name} is not set: run this through `make demo` or `make test`, which make the parameters")
            })?;
            anyhow::Ok(PathBuf::from(value))
        };
        Ok(Settings::with_parameters(directory("SEALBUS_PARAMS")?, directory("SEALBUS_PARENTS")?))
    }

    /// The usual settings, with the directories of parameters and parent cache.
    pub fn with_parameters(params: PathBuf, parents: PathBuf) -> Settings {
        Settings {
            slots: 1,
            seed: 1,
            epoch_millis: 500,
            confidence_epochs: 2,
            params,
            parents,
            scripted_proofs: false,
            proves: false,
            window_epochs: WINDOW_EPOCHS,
            mines: false,
            scripted_winning: false,
            block_delay_secs: None,
        }
    }

    /// Like [`from_env`](Self::from_env) with scripted proofs, for tests about other things. If `SEALBUS_REAL_PROOFS`
    /// is set, as by `make nightly`, the proofs are real.
    pub fn with_scripted_proofs() -> anyhow::Result<Settings> {
        let scripted_proofs = std::env::var_os("SEALBUS_REAL_PROOFS").is_none();
        Ok(Settings { scripted_proofs, ..Settings::from_env()? })
    }
}

impl Cluster {
    /// Starts NATS and the devnet, and writes the configurations of manager and worker. `root` must be empty.
    pub fn prepare(root: &Path, settings: Settings) -> anyhow::Result<Cluster> {
        std::fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let root = root.canonicalize()?;
        let port = Port::hold()?;
        let mut cluster = Cluster {
            nats_url: format!("nats://127.0.0.1:{}", port.number()),
            nats_port: port,
            root,
            settings,
            miner: String::new(),
            nats: None,
            devnet: None,
            manager: None,
            standby: None,
            worker: None,
            postgres: None,
        };
        nats::write_config(&cluster.root, &[cluster.nats_server()], &nats::ALONE, &[nats::MINER])?;
        cluster.start_nats()?;
        cluster.start_devnet()?;
        files::write(&cluster)?;
        if cluster.settings.scripted_proofs {
            cluster.replace_processor("c2")?;
        }
        if cluster.settings.scripted_winning {
            cluster.replace_processor("win_prove")?;
        }
        Ok(cluster)
    }

    /// Prepares a cluster and starts all processes.
    pub fn start(root: &Path, settings: Settings) -> anyhow::Result<Cluster> {
        let mut cluster = Cluster::prepare(root, settings)?;
        cluster.start_manager()?;
        cluster.start_worker()?;
        Ok(cluster)
    }

    /// The directory that contains the whole cluster.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The miner that the devnet has created.
    pub fn miner(&self) -> &str {
        &self.miner
    }

    /// The URL of NATS.
    pub fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// The file with an identity's NKey seed.
    pub fn nkey_file(&self, identity: Identity<'_>) -> PathBuf {
        nats::seed_file(&self.root, identity)
    }

    /// Starts nats-server.
    pub fn start_nats(&mut self) -> anyhow::Result<()> {
        let config = nats::config_file(&self.root, &self.nats_server());
        let process = Process::start("nats-server", &process::nats_server(), &["-c", &text(&config)], &[], &self.root)?;
        self.nats = Some(process);
        let port = self.nats_port.number();
        wait_for("nats-server", || Ok(std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok().then_some(())))
    }

    fn nats_server(&self) -> Server {
        Server { name: "nats".to_owned(), port: self.nats_port.number(), route_port: None }
    }

    fn start_devnet(&mut self) -> anyhow::Result<()> {
        let data = self.root.join("devnet");
        std::fs::create_dir_all(&data)?;
        let data_dir = text(&data);
        let millis = self.settings.epoch_millis.to_string();
        let seed = self.settings.seed.to_string();
        let window = self.settings.window_epochs.to_string();
        let mut arguments = vec!["--data-dir", &data_dir, "--epoch-millis", &millis, "--seed", &seed];
        if self.settings.scripted_proofs {
            arguments.extend(["--scripted-proofs", "--real-replicas"]);
        }
        if self.settings.proves {
            // The shortest period: each sector is proven after four deadlines.
            arguments.extend(["--proving", "--deadlines", "4"]);
        }
        if self.settings.mines {
            arguments.extend(["--elections", "--deadlines", "4"]);
        }
        arguments.extend(["--window-epochs", &window]);
        let delay = self.settings.block_delay_secs.map(|secs| (secs.to_string(), (EPOCHS_BEHIND * secs).to_string()));
        if let Some((delay, behind)) = &delay {
            arguments.extend(["--block-delay-secs", delay, "--genesis-secs-ago", behind]);
        }
        let env = self.proofs_env();
        let program = process::own_binary("sealbus-devnet")?;
        self.devnet = Some(Process::start("devnet", &program, &arguments, &env, &self.root)?);
        wait_for("the devnet", || Ok(data.join("rpc-addr").exists().then_some(())))?;
        let about: Value = serde_json::from_str(&std::fs::read_to_string(data.join("devnet.json"))?)?;
        let miner = about["miners"][0]["address"].as_str().or(about["miners"][0]["id"].as_str());
        let miner = miner.with_context(|| format!("devnet.json names no miner: {about}"))?;
        self.miner = miner.replacen('t', "f", 1);
        Ok(())
    }

    /// Makes the manager use a new PostgreSQL server instead of its SQLite file. Call this before the manager is
    /// started.
    pub fn use_postgres(&mut self) -> anyhow::Result<&mut Postgres> {
        let postgres = Postgres::start(&[])?;
        let config = std::fs::read_to_string(self.manager_config())?;
        let (sqlite, url) = (format!("path = \"{}/manager.db\"", text(&self.root)), postgres.url());
        anyhow::ensure!(config.contains(&sqlite), "{sqlite} is not in {config}");
        let database = format!("url = \"{url}\"\npassword_file = \"{}\"", text(&postgres.password_file()));
        std::fs::write(self.manager_config(), config.replace(&sqlite, &database))?;
        Ok(self.postgres.insert(postgres))
    }

    /// The PostgreSQL server, if there is one.
    pub fn postgres(&mut self) -> Option<&mut Postgres> {
        self.postgres.as_mut()
    }

    /// Starts the manager. Its log is `manager.log`.
    pub fn start_manager(&mut self) -> anyhow::Result<()> {
        self.manager = Some(self.spawn_manager("manager")?);
        Ok(())
    }

    /// Starts a second manager with the same configuration. Its log is `standby.log`.
    pub fn start_standby(&mut self) -> anyhow::Result<()> {
        self.standby = Some(self.spawn_manager("standby")?);
        Ok(())
    }

    fn spawn_manager(&self, name: &str) -> anyhow::Result<Process> {
        let config = text(&self.manager_config());
        let (program, arguments): (_, &[&str]) = if self.settings.scripted_proofs {
            ("sealbus-scripted-manager", &["--real-replicas", &config])
        } else {
            ("sealbus-manager", &["run", "--config", &config])
        };
        Process::start(name, &process::own_binary(program)?, arguments, &self.proofs_env(), &self.root)
    }

    /// Starts the worker.
    pub fn start_worker(&mut self) -> anyhow::Result<()> {
        let arguments = ["run", "--config", &text(&self.worker_config())];
        let program = process::own_binary("sealbus-worker")?;
        self.worker = Some(Process::start("worker", &program, &arguments, &[], &self.root)?);
        Ok(())
    }

    /// Kills the manager with SIGKILL, if it is running.
    pub fn kill_manager(&mut self) {
        if let Some(mut process) = self.manager.take() {
            process.kill();
        }
    }

    /// Suspends the manager with everything that it holds, if it is running.
    pub fn pause_manager(&self) {
        self.manager.iter().for_each(|manager| manager.signal(Signal::STOP));
    }

    /// Resumes a suspended manager.
    pub fn resume_manager(&self) {
        self.manager.iter().for_each(|manager| manager.signal(Signal::CONT));
    }

    /// Kills the second manager with SIGKILL, if it is running.
    pub fn kill_standby(&mut self) {
        if let Some(mut process) = self.standby.take() {
            process.kill();
        }
    }

    /// Kills the worker with SIGKILL, if it is running.
    pub fn kill_worker(&mut self) {
        if let Some(mut process) = self.worker.take() {
            process.kill();
        }
    }

    /// Kills nats-server with SIGKILL, if it is running.
    pub fn kill_nats(&mut self) {
        if let Some(mut process) = self.nats.take() {
            process.kill();
        }
    }

    /// Fails if a process has ended that should be running. The error contains the end of its log.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        let processes = [&mut self.nats, &mut self.devnet, &mut self.manager, &mut self.standby, &mut self.worker];
        for process in processes.into_iter().flatten() {
            process.check_alive()?;
        }
        Ok(())
    }

    /// Runs a command of the manager and returns its JSON output.
    pub fn manager_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let config = text(&self.manager_config());
        let mut all: Vec<&str> = arguments.to_vec();
        all.extend(["--json", "--config", &config]);
        let output = process::run(&process::own_binary("sealbus-manager")?, &all)?;
        serde_json::from_str(&output).with_context(|| format!("`{}` printed no JSON: {output}", all.join(" ")))
    }

    /// Pledges sectors.
    pub fn pledge(&self, count: usize) -> anyhow::Result<()> {
        self.manager_json(&["pledge", "--miner", &self.miner, "--count", &count.to_string()]).map(drop)
    }

    /// The sectors that the manager knows.
    pub fn sectors(&self) -> anyhow::Result<Vec<Value>> {
        match self.manager_json(&["sectors", "list"])? {
            Value::Array(sectors) => Ok(sectors),
            other => bail!("`sectors list` printed no list: {other}"),
        }
    }

    /// A sector with its history.
    pub fn sector(&self, id: &str) -> anyhow::Result<Value> {
        self.manager_json(&["sectors", "show", id])
    }

    /// Calls the devnet's node. The method includes its prefix.
    pub fn call_chain(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let data = self.root.join("devnet");
        let address = std::fs::read_to_string(data.join("rpc-addr"))?;
        let token = std::fs::read_to_string(data.join("token-admin"))?;
        rpc::call(address.trim(), token.trim(), method, params)
    }

    /// Brings a chain that began in the past to the present. From now on its timestamps are real: an epoch passes in its
    /// chain seconds, and its blocks are taken an eighth of that later.
    pub fn come_to_now(&self) -> anyhow::Result<()> {
        let delay = self.settings.block_delay_secs.context("the settings have no block_delay_secs")?;
        self.call_chain("Devnet.SetEpochMillis", json!([0]))?;
        let head = self.call_chain("Filecoin.ChainHead", json!([]))?;
        let began = head["Blocks"][0]["Timestamp"].as_u64().context("a timestamp")?;
        let since = || -> anyhow::Result<Duration> {
            let began = std::time::UNIX_EPOCH + Duration::from_secs(began);
            std::time::SystemTime::now().duration_since(began).context("the chain is ahead of its time")
        };
        let passed = since()?.as_secs() / delay;
        self.call_chain("Devnet.Advance", json!([passed]))?;
        let next = Duration::from_secs((passed + 1) * delay) + Duration::from_millis(delay * 1000 / 8);
        std::thread::sleep(next.saturating_sub(since()?));
        self.call_chain("Devnet.Advance", json!([1]))?;
        self.call_chain("Devnet.SetEpochMillis", json!([delay * 1000])).map(drop)
    }

    /// Makes the processor of a stage wait before its greeting until [`release_phase`](Self::release_phase). This takes
    /// effect at its next start; the processor itself is unchanged.
    pub fn hold_phase(&self, stage: &str) -> anyhow::Result<()> {
        std::fs::write(self.gate(stage), "")?;
        // A scripted C2 always has such a gate.
        if stage == "c2" && self.settings.scripted_proofs { Ok(()) } else { self.replace_processor(stage) }
    }

    /// Replaces a stage's processor by a script that waits while the stage is held, and then becomes the processor.
    fn replace_processor(&self, stage: &str) -> anyhow::Result<()> {
        let script = self.scripts()?.join(format!("{stage}.sh"));
        let wait = format!("while [ -e '{}' ]; do sleep 0.05; done", text(&self.gate(stage)));
        let is_scripted = match stage {
            "c2" => self.settings.scripted_proofs,
            "win_prove" => self.settings.scripted_winning,
            _ => false,
        };
        let processor = if is_scripted {
            let program = process::own_binary("sealbus-scripted-processor")?;
            format!("'{}' --real-replicas {stage} '{}'", text(&program), text(&self.scripts()?))
        } else {
            format!("'{}' processor {stage}", text(&process::own_binary("sealbus-worker")?))
        };
        std::fs::write(&script, format!("{wait}\nexec {processor}\n"))?;
        let mut config = std::fs::read_to_string(self.worker_config())?;
        config.push_str(&self.scripted_group(stage, &script)?);
        Ok(std::fs::write(self.worker_config(), config)?)
    }

    /// The table of a group that runs a script of ours, and through it our programs.
    fn scripted_group(&self, stage: &str, script: &Path) -> anyhow::Result<String> {
        let programs = process::own_binary("sealbus-worker")?.parent().map(Path::to_owned);
        Ok(format!(
            "\n[[processor]]\nstage = \"{stage}\"\nbin = \"/bin/sh\"\nargs = [{script:?}]\nreadable = [{:?}]\nwritable = [{:?}]\n",
            programs.unwrap_or_default(),
            self.scripts()?,
        ))
    }

    /// The directory of the scripts, and of the files by which tests control them.
    fn scripts(&self) -> anyhow::Result<PathBuf> {
        let dir = self.root.join("scripts");
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Lets the held processors of a stage continue.
    pub fn release_phase(&self, stage: &str) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.gate(stage))?)
    }

    fn gate(&self, stage: &str) -> PathBuf {
        self.root.join(format!("hold-{stage}"))
    }

    /// The path of the manager's configuration.
    pub fn manager_config(&self) -> PathBuf {
        self.root.join("manager.toml")
    }

    /// The path of the worker's configuration.
    pub fn worker_config(&self) -> PathBuf {
        self.root.join("worker.toml")
    }

    /// The directory of a slot, counted from 0.
    pub fn slot(&self, index: usize) -> PathBuf {
        self.root.join(format!("slot{index}"))
    }

    /// The permanent store.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    fn proofs_env(&self) -> Vec<(String, String)> {
        vec![
            ("FIL_PROOFS_PARAMETER_CACHE".to_owned(), text(&self.settings.params)),
            ("FIL_PROOFS_PARENT_CACHE".to_owned(), text(&self.settings.parents)),
        ]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Workers end first, so that their last reports still reach somebody.
        let processes = [&mut self.worker, &mut self.standby, &mut self.manager, &mut self.devnet, &mut self.nats];
        for process in processes.into_iter().flatten() {
            process.stop();
        }
    }
}

/// Repeats `ask` until it returns a value, within a generous time limit.
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    wait_within(START_LIMIT, what, ask)
}

/// Repeats `ask` until it returns a value.
pub fn wait_within<T>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what} did not come within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
