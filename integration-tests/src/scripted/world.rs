//! A world of scripted sectors: one or three NATS servers, the devnet, a manager and any number of workers. Each is a
//! process with its own permissions, on loopback, and all share one directory.

mod files;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal};
use sealbus_manager::{
    config::Database,
    config::Liveness,
    store::{Job, Store},
};
use sealbus_nats::{Bus, Connection};
use sealbus_schema::{MinerId, SectorId, SectorNumber, Workflow, lease::Ownership};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::control::Control;
use crate::cluster::{self, Identity, Port, Process, Server, own_binary, wait_for, wait_within};

/// The settings of a world.
#[derive(Clone, Debug)]
pub struct Options {
    /// The number of workers.
    pub workers: usize,
    /// The number of slots per worker.
    pub slots: usize,
    /// The number of miners, which all workers serve.
    pub miners: u64,
    /// The number of NATS servers: 1 or 3.
    pub nats: usize,
    /// The real milliseconds of an epoch.
    pub epoch_millis: u64,
    /// The seconds between two heartbeats of a worker.
    pub heartbeat_secs: u64,
    /// The manager's polling interval in milliseconds; `None` for once per epoch.
    pub poll_millis: Option<u64>,
    /// The number of processors per phase and worker.
    pub processors: usize,
    /// The workflows that the workers serve. The manager offers any job that was begun.
    pub workflows: Vec<Workflow>,
    /// More lines of `[chain]`, and tables in it.
    pub chain_lines: String,
    /// When the manager takes sectors back from workers that are silent. With the usual limits it never happens in a test.
    pub liveness: Liveness,
    /// How sectors are proven by window PoSt; `None` if they need no proofs.
    pub proves: Option<Proves>,
    /// More arguments of the devnet.
    pub devnet_arguments: Vec<String>,
}

/// How sectors are proven.
#[derive(Clone, Copy, Debug)]
pub struct Proves {
    /// The deadlines of a proving period.
    pub deadlines: u64,
    /// The epochs of a deadline.
    pub window_epochs: i64,
    /// The first so many workers prove. All read.
    pub provers: usize,
    /// After how many seconds of silence a worker's task goes to another one.
    pub silence_secs: u64,
}

/// A running world. Dropping it ends all its processes.
pub struct World {
    root: PathBuf,
    options: Options,
    /// The miners. Most tests have one.
    pub miners: Vec<MinerId>,
    /// The NATS servers.
    pub nats: Vec<Node>,
    devnet: Option<Process>,
    manager: Option<Process>,
    /// The workers.
    pub workers: Vec<Worker>,
    runtime: Runtime,
    store: Option<Store>,
}

/// A NATS server.
pub struct Node {
    /// Its name and ports.
    pub server: Server,
    process: Option<Process>,
    /// Reserves the ports for the server while it is down.
    _ports: (Port, Option<Port>),
}

/// A worker.
pub struct Worker {
    /// Its name on the bus.
    pub name: String,
    /// Controls its processors.
    pub control: Control,
    /// Its slots' directories.
    pub slots: Vec<PathBuf>,
    process: Option<Process>,
}

impl Default for Options {
    fn default() -> Options {
        let liveness = Liveness::default();
        Options {
            workers: 1,
            slots: 1,
            miners: 1,
            nats: 1,
            epoch_millis: 100,
            heartbeat_secs: 1,
            poll_millis: None,
            processors: 1,
            workflows: vec![Workflow::Seal],
            chain_lines: String::new(),
            liveness,
            proves: None,
            devnet_arguments: Vec::new(),
        }
    }
}

impl World {
    /// Starts NATS and the devnet, and writes all configurations. `root` must be empty.
    pub fn prepare(root: &Path, options: Options) -> anyhow::Result<World> {
        std::fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        let mut nats = Vec::new();
        for index in 1..=options.nats {
            let (port, route_port) = (Port::hold()?, (options.nats > 1).then(Port::hold).transpose()?);
            let (name, route) = (format!("nats{index}"), route_port.as_ref().map(Port::number));
            let server = Server { name, port: port.number(), route_port: route };
            nats.push(Node { server, process: None, _ports: (port, route_port) });
        }
        let workers = (1..=options.workers).map(|index| Worker::new(&root, index, options.slots)).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let miners = (cluster::MINER.0..).take(options.miners as usize).map(MinerId).collect();
        let mut world =
            World { root, options, miners, nats, devnet: None, manager: None, workers, runtime, store: None };
        world.write_nats_config()?;
        for index in 0..world.nats.len() {
            world.start_nats(index)?;
        }
        world.start_devnet()?;
        files::write(&world)?;
        Ok(world)
    }

    /// The directory that contains the whole world.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The settings of the world.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The id of the first miner's sector with this number.
    pub fn sector_id(&self, number: u64) -> SectorId {
        SectorId { miner: self.miners[0], number: SectorNumber(number) }
    }

    /// The permanent store's directory.
    pub fn store_dir(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Starts a NATS server that is down.
    pub fn start_nats(&mut self, index: usize) -> anyhow::Result<()> {
        let server = self.nats[index].server.clone();
        let config = cluster::config_file(&self.root, &server);
        let arguments = ["-c", &config.display().to_string()];
        let process = Process::start(&server.name, &cluster::nats_server(), &arguments, &[], &self.root)?;
        self.nats[index].process = Some(process);
        wait_for("nats-server", || Ok(std::net::TcpStream::connect(("127.0.0.1", server.port)).is_ok().then_some(())))
    }

    /// Kills a NATS server with SIGKILL, if it is running.
    pub fn kill_nats(&mut self, index: usize) {
        if let Some(mut process) = self.nats[index].process.take() {
            process.kill();
        }
    }

    /// Starts the manager.
    pub fn start_manager(&mut self) -> anyhow::Result<()> {
        let config = self.manager_config().display().to_string();
        let program = own_binary("sealbus-scripted-manager")?;
        self.manager = Some(Process::start("manager", &program, &[&config], &[], &self.root)?);
        Ok(())
    }

    /// Kills the manager with SIGKILL, if it is running.
    pub fn kill_manager(&mut self) {
        if let Some(mut process) = self.manager.take() {
            process.kill();
        }
    }

    /// Whether the manager is running.
    pub fn manager_runs(&self) -> bool {
        self.manager.is_some()
    }

    /// Starts a worker.
    pub fn start_worker(&mut self, index: usize) -> anyhow::Result<()> {
        let worker = &mut self.workers[index];
        let config = self.root.join(format!("{}.toml", worker.name)).display().to_string();
        let arguments = ["run", "--config", &config];
        let program = own_binary("sealbus-worker")?;
        worker.process = Some(Process::start(&worker.name, &program, &arguments, &[], &self.root.join("logs"))?);
        Ok(())
    }

    /// Starts all workers.
    pub fn start_workers(&mut self) -> anyhow::Result<()> {
        (0..self.workers.len()).try_for_each(|index| self.start_worker(index))
    }

    /// Kills a worker with SIGKILL, if it is running.
    pub fn kill_worker(&mut self, index: usize) {
        if let Some(mut process) = self.workers[index].process.take() {
            process.kill();
        }
    }

    /// Sends a signal to a worker.
    pub fn signal_worker(&self, index: usize, signal: Signal) {
        if let Some(process) = &self.workers[index].process {
            process.signal(signal);
        }
    }

    /// Starts workers that have ended by themselves, as a service manager would. Returns how many there were.
    pub fn restart_ended_workers(&mut self) -> anyhow::Result<u64> {
        let mut restarted = 0;
        for index in 0..self.workers.len() {
            if self.workers[index].process.as_mut().is_some_and(Process::has_ended) {
                self.start_worker(index)?;
                restarted += 1;
            }
        }
        Ok(restarted)
    }

    /// Fails if a process has ended that should be running. The error contains the end of its log.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        let nats = self.nats.iter_mut().filter_map(|node| node.process.as_mut());
        let workers = self.workers.iter_mut().filter_map(|worker| worker.process.as_mut());
        for process in nats.chain(workers).chain(self.manager.as_mut()).chain(self.devnet.as_mut()) {
            process.check_alive()?;
        }
        Ok(())
    }

    /// Pledges sectors of the first miner.
    pub fn pledge(&mut self, count: usize) -> anyhow::Result<()> {
        self.pledge_of(self.miners[0], count)
    }

    /// Pledges sectors of a miner.
    pub fn pledge_of(&mut self, miner: MinerId, count: usize) -> anyhow::Result<()> {
        let (store, miner) = (self.store()?, miner.to_string());
        self.runtime.block_on(async {
            let mut tx = store.begin().await?;
            tx.add_pledge(&miner, count as u64, "test").await?;
            anyhow::Ok(tx.commit().await?)
        })
    }

    /// Pledges the first sectors and waits until they have numbers. By then the queues exist too.
    pub fn pledge_and_wait(&mut self, count: usize) -> anyhow::Result<()> {
        self.pledge(count)?;
        wait_within(Duration::from_secs(300), "the sectors' numbers", || {
            self.check_alive()?;
            Ok((self.sectors()?.len() == count).then_some(()))
        })
    }

    /// The manager's database, opened independently of the manager.
    pub fn store(&mut self) -> anyhow::Result<Store> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let store = self.runtime.block_on(Store::open(&Database::Sqlite { path: self.root.join("manager.db") }))?;
        Ok(self.store.insert(store).clone())
    }

    /// Forgets the open database, because another file takes its place.
    pub fn forget_store(&mut self) {
        self.store = None;
    }

    /// A sector, if it already has a number.
    pub fn sector(&mut self, number: u64) -> anyhow::Result<Option<Job>> {
        let (store, id) = (self.store()?, self.sector_id(number));
        Ok(self.runtime.block_on(store.sector(id))?)
    }

    /// All sectors.
    pub fn sectors(&mut self) -> anyhow::Result<Vec<Job>> {
        let store = self.store()?;
        Ok(self.runtime.block_on(store.sectors(&Default::default()))?)
    }

    /// Waits until this many sectors are active, their slots are clean, and no worker works on others.
    pub fn wait_until_proving(&mut self, count: usize, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            self.check_alive()?;
            let sectors = self.sectors()?;
            let done = sectors.iter().filter(|sector| is_over(sector)).count();
            if done == count && sectors.len() == count {
                return Ok(());
            }
            if let Some(blocked) = sectors.iter().find(|sector| sector.blocked.is_some()) {
                bail!("sector {} is blocked: {:?}", blocked.id, blocked.blocked);
            }
            if Instant::now() > deadline {
                let open = sectors.iter().filter(|sector| !is_over(sector));
                let open: Vec<_> =
                    open.take(20).map(|s| format!("{} {} {:?}", s.id, s.state.name(), s.ownership)).collect();
                bail!("{done} of {count} sectors are active after {} s; the others: {open:#?}", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Calls the devnet's node. The method includes its prefix.
    pub fn call_chain(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let data = self.root.join("devnet");
        let address = std::fs::read_to_string(data.join("rpc-addr"))?;
        let token = std::fs::read_to_string(data.join("token-admin"))?;
        cluster::call(address.trim(), token.trim(), method, params)
    }

    /// The chain's counts for the first miner.
    pub fn chain_stats(&self) -> anyhow::Result<Value> {
        let stats = self.call_chain("Devnet.Stats", json!([]))?;
        Ok(stats["miners"][self.miners[0].0.to_string()].clone())
    }

    /// Runs a function on the bus with the manager's permissions.
    pub fn on_bus<T>(&self, act: impl AsyncFnOnce(Bus) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let connection = Connection {
            url: self.nats_urls(),
            nkey_seed_file: Some(cluster::seed_file(&self.root, Identity::Manager)),
            credentials_file: None,
            ca_file: None,
            api_prefix: None,
        };
        self.runtime.block_on(async {
            let bus = connection.connect("manager").await?;
            act(bus).await
        })
    }

    /// Runs a function with a plain NATS client that has the manager's permissions.
    pub fn with_client<T>(&self, act: impl AsyncFnOnce(async_nats::Client) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let seed = std::fs::read_to_string(cluster::seed_file(&self.root, Identity::Manager))?;
        let servers: Vec<String> = self.nats_urls().split(',').map(str::to_owned).collect();
        self.runtime.block_on(async {
            let options = async_nats::ConnectOptions::with_nkey(seed).custom_inbox_prefix("_INBOX_manager");
            act(options.connect(servers).await?).await
        })
    }

    /// Runs a future to completion.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The index of the server that is the leader of a stream.
    pub fn leader_of(&self, stream: &str) -> anyhow::Result<usize> {
        let name = self.with_client(async |client| {
            let info = async_nats::jetstream::new(client).get_stream(stream).await?;
            let leader = info.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.clone());
            leader.with_context(|| format!("{stream} has no leader"))
        })?;
        self.nats.iter().position(|node| node.server.name == name).with_context(|| format!("no server {name}"))
    }

    fn nats_urls(&self) -> String {
        let urls = self.nats.iter().map(|node| format!("nats://127.0.0.1:{}", node.server.port));
        urls.collect::<Vec<_>>().join(",")
    }

    /// The manager's configuration file.
    pub fn manager_config(&self) -> PathBuf {
        self.root.join("manager.toml")
    }

    fn write_nats_config(&self) -> anyhow::Result<()> {
        let servers: Vec<Server> = self.nats.iter().map(|node| node.server.clone()).collect();
        let mut identities = vec![Identity::Manager, Identity::Operator];
        identities.extend(self.workers.iter().map(|worker| Identity::Worker(&worker.name)));
        cluster::write_config(&self.root, &servers, &identities, &self.miners)
    }

    fn start_devnet(&mut self) -> anyhow::Result<()> {
        let data = self.root.join("devnet");
        std::fs::create_dir_all(&data)?;
        let (data_text, millis) = (data.display().to_string(), self.options.epoch_millis.to_string());
        let miners = self.options.miners.to_string();
        let mut arguments =
            vec!["--scripted-proofs", "--data-dir", &data_text, "--epoch-millis", &millis, "--miners", &miners];
        let proves = self.options.proves.map(|proves| (proves.deadlines.to_string(), proves.window_epochs.to_string()));
        if let Some((deadlines, window)) = &proves {
            arguments.extend(["--proving", "--deadlines", deadlines, "--window-epochs", window]);
        }
        arguments.extend(self.options.devnet_arguments.iter().map(String::as_str));
        // Otherwise it would log a line for each message.
        let quiet = [("RUST_LOG".to_owned(), "warn".to_owned())];
        let program = own_binary("sealbus-devnet")?;
        self.devnet = Some(Process::start("devnet", &program, &arguments, &quiet, &self.root)?);
        wait_for("the devnet", || Ok(data.join("rpc-addr").exists().then_some(())))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Killed at once, because nobody reads their last reports.
        let workers = self.workers.iter_mut().filter_map(|worker| worker.process.as_mut());
        let nats = self.nats.iter_mut().filter_map(|node| node.process.as_mut());
        workers.chain(self.manager.as_mut()).chain(self.devnet.as_mut()).chain(nats).for_each(Process::kill);
    }
}

impl Worker {
    fn new(root: &Path, index: usize, slots: usize) -> Worker {
        let name = format!("w{index}");
        let slots = (0..slots).map(|slot| root.join("slots").join(&name).join(slot.to_string())).collect();
        Worker { control: Control::new(root.join("control").join(&name)), name, slots, process: None }
    }

    /// The process id, if the worker was started and has not been killed.
    pub fn pid(&self) -> Option<Pid> {
        self.process.as_ref().and_then(Process::pid)
    }

    /// The files in a slot, except those that are always there.
    pub fn left_in(&self, slot: usize) -> anyhow::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.slots[slot])?.map(|entry| Ok(entry?.file_name()));
        let names: Vec<_> = names.collect::<anyhow::Result<_>>()?;
        let mut left: Vec<String> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        left.retain(|name| !["released", "sealbus-slot.json", "slot.lock", "tmp"].contains(&name.as_str()));
        left.sort();
        Ok(left)
    }
}

/// A directory for a world. It is in memory if there is such a file system, so that thousands of journals are fast. It
/// is kept if `SEALBUS_KEEP` is set.
pub fn directory() -> anyhow::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("sealbus-").disable_cleanup(std::env::var_os("SEALBUS_KEEP").is_some());
    let dir = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    dir.context("cannot make a directory for the world")
}

/// Repeats `ask` every few milliseconds until it returns a value. For times that are printed.
pub fn wait_closely<T>(what: &str, mut ask: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what} did not come within 60 s");
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Calls [`wait_within`] with a limit of one minute.
pub fn wait<T>(what: &str, ask: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    wait_within(Duration::from_secs(60), what, ask)
}

/// Whether a sector is active and its lease closed. The latter comes a moment later, through the outbox.
pub fn is_over(sector: &Job) -> bool {
    sector.is_done() && matches!(sector.ownership, Ownership::Free { .. })
}
