//! A whole Sealbus on one machine, each part its own process: NATS, devnet, manager, workers.
//!
//! The demo and the end-to-end tests use the programs as their users do: configuration files, command lines, signals.

mod files;
mod nats;
mod process;
mod rpc;
mod scripted;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

pub use nats::Identity;
pub use process::{Process, own_binary};

/// How long one of the servers may take to come up. Generous: a limit, not a measure.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Slots of each worker.
    pub slots: usize,
    /// What the devnet's randomness comes from.
    pub seed: u64,
    /// Real milliseconds an epoch of the devnet lasts.
    pub epoch_millis: u64,
    /// How many epochs must stand on top of something before the manager counts it.
    pub confidence_epochs: i64,
    /// The directory with the Groth16 parameters and their verifying keys.
    pub params: PathBuf,
    /// The directory with the parent cache.
    pub parents: PathBuf,
}

/// A running cluster. Dropping it ends every process of it.
pub struct Cluster {
    root: PathBuf,
    settings: Settings,
    miner: String,
    nats_url: String,
    nats: Option<Process>,
    devnet: Option<Process>,
    manager: Option<Process>,
    worker: Option<Process>,
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
        Ok(Settings {
            slots: 1,
            seed: 1,
            epoch_millis: 500,
            confidence_epochs: 2,
            params: directory("SEALBUS_PARAMS")?,
            parents: directory("SEALBUS_PARENTS")?,
        })
    }
}

impl Cluster {
    /// Starts NATS and the devnet, and writes the configuration of manager and worker. `root` must be empty.
    pub fn prepare(root: &Path, settings: Settings) -> anyhow::Result<Cluster> {
        std::fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let root = root.canonicalize()?;
        let port = process::free_port()?;
        let mut cluster = Cluster {
            nats_url: format!("nats://127.0.0.1:{port}"),
            root,
            settings,
            miner: String::new(),
            nats: None,
            devnet: None,
            manager: None,
            worker: None,
        };
        nats::write_config(&cluster.root, port)?;
        cluster.start_nats()?;
        cluster.start_devnet()?;
        files::write(&cluster)?;
        Ok(cluster)
    }

    /// Everything at once.
    pub fn start(root: &Path, settings: Settings) -> anyhow::Result<Cluster> {
        let mut cluster = Cluster::prepare(root, settings)?;
        cluster.start_manager()?;
        cluster.start_worker()?;
        Ok(cluster)
    }

    /// The directory in which everything of the cluster lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The miner that the devnet made.
    pub fn miner(&self) -> &str {
        &self.miner
    }

    /// Where NATS listens.
    pub fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// The file with an identity's NKey seed.
    pub fn nkey_file(&self, identity: Identity) -> PathBuf {
        nats::seed_file(&self.root, identity)
    }

    /// Starts nats-server.
    pub fn start_nats(&mut self) -> anyhow::Result<()> {
        let config = self.root.join("nats.conf");
        let process = Process::start("nats-server", &process::nats_server(), &["-c", &text(&config)], &[], &self.root)?;
        self.nats = Some(process);
        let port = self.nats_url.rsplit(':').next().unwrap_or_default().to_owned();
        wait_for("nats-server", || Ok(std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok().then_some(())))
    }

    fn start_devnet(&mut self) -> anyhow::Result<()> {
        let data = self.root.join("devnet");
        std::fs::create_dir_all(&data)?;
        let millis = self.settings.epoch_millis.to_string();
        let seed = self.settings.seed.to_string();
        let arguments = ["--data-dir", &text(&data), "--epoch-millis", &millis, "--seed", &seed];
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

    /// Starts the manager.
    pub fn start_manager(&mut self) -> anyhow::Result<()> {
        let arguments = ["run", "--config", &text(&self.manager_config())];
        let program = process::own_binary("sealbus-manager")?;
        self.manager = Some(Process::start("manager", &program, &arguments, &self.proofs_env(), &self.root)?);
        Ok(())
    }

    /// Starts the worker.
    pub fn start_worker(&mut self) -> anyhow::Result<()> {
        let arguments = ["run", "--config", &text(&self.worker_config())];
        let program = process::own_binary("sealbus-worker")?;
        self.worker = Some(Process::start("worker", &program, &arguments, &[], &self.root)?);
        Ok(())
    }

    /// Ends the manager with SIGKILL, if it runs.
    pub fn kill_manager(&mut self) {
        if let Some(mut process) = self.manager.take() {
            process.kill();
        }
    }

    /// Ends the worker with SIGKILL, if it runs.
    pub fn kill_worker(&mut self) {
        if let Some(mut process) = self.worker.take() {
            process.kill();
        }
    }

    /// Ends nats-server with SIGKILL, if it runs.
    pub fn kill_nats(&mut self) {
        if let Some(mut process) = self.nats.take() {
            process.kill();
        }
    }

    /// An error if a process that should run has ended by itself, with the end of its log.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        for process in [&mut self.nats, &mut self.devnet, &mut self.manager, &mut self.worker].into_iter().flatten() {
            process.check_alive()?;
        }
        Ok(())
    }

    /// Asks the manager's command line for JSON.
    pub fn manager_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let config = text(&self.manager_config());
        let mut all: Vec<&str> = arguments.to_vec();
        all.extend(["--json", "--config", &config]);
        let output = process::run(&process::own_binary("sealbus-manager")?, &all)?;
        serde_json::from_str(&output).with_context(|| format!("`{}` printed no JSON: {output}", all.join(" ")))
    }

    /// Asks for sectors.
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

    /// One sector with its history.
    pub fn sector(&self, id: &str) -> anyhow::Result<Value> {
        self.manager_json(&["sectors", "show", id])
    }

    /// Calls the devnet's node, with the prefix in the method.
    pub fn call_chain(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let data = self.root.join("devnet");
        let address = std::fs::read_to_string(data.join("rpc-addr"))?;
        let token = std::fs::read_to_string(data.join("token-admin"))?;
        rpc::call(address.trim(), token.trim(), method, params)
    }

    /// Makes the worker's processor of a stage wait before it greets, from its next start on, until
    /// [`release_phase`](Self::release_phase). The processor itself is the real one.
    pub fn hold_phase(&self, stage: &str) -> anyhow::Result<()> {
        let gate = self.gate(stage);
        std::fs::write(&gate, "")?;
        let script = self.root.join(format!("hold-{stage}.sh"));
        let worker = process::own_binary("sealbus-worker")?;
        let wait = format!("while [ -e '{}' ]; do sleep 0.05; done", text(&gate));
        std::fs::write(&script, format!("{wait}\nexec '{}' processor {stage}\n", text(&worker)))?;
        let mut config = std::fs::read_to_string(self.worker_config())?;
        config.push_str(&format!(
            "\n[[processor]]\nstage = \"{stage}\"\nbin = \"/bin/sh\"\nargs = [\"{}\"]\n",
            text(&script)
        ));
        Ok(std::fs::write(self.worker_config(), config)?)
    }

    /// Lets the processors of a stage go on.
    pub fn release_phase(&self, stage: &str) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.gate(stage))?)
    }

    fn gate(&self, stage: &str) -> PathBuf {
        self.root.join(format!("hold-{stage}"))
    }

    /// Where the manager's configuration lies.
    pub fn manager_config(&self) -> PathBuf {
        self.root.join("manager.toml")
    }

    /// Where the worker's configuration lies.
    pub fn worker_config(&self) -> PathBuf {
        self.root.join("worker.toml")
    }

    /// The directory of a slot, from 0.
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
        // Workers first: what they still report should reach somebody.
        for process in [&mut self.worker, &mut self.manager, &mut self.devnet, &mut self.nats].into_iter().flatten() {
            process.stop();
        }
    }
}

/// Asks until the answer is there, within a generous limit.
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    wait_within(START_LIMIT, what, ask)
}

/// Asks until the answer is there.
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
