//! A PostgreSQL server, or a database on one that the tests of a run share: on loopback, with a password, ended with its
//! value.

use std::{
    fs::{self, File},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::parent_id,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::ports::Port;

/// The only user, and the password that it must give.
const USER: &str = "sealbus";
const PASSWORD: &str = "open/sesame: 7%";
/// The database that `initdb` makes.
const DATABASE: &str = "postgres";
/// How long the server may take to come up, or to end. Generous: a limit, not a measure.
const LIMIT: Duration = Duration::from_secs(60);

/// Names a run of nextest, for which each test is a process of its own.
const RUN: &str = "NEXTEST_RUN_ID";
/// In the directory of a server that is shared: its port, once it is ready.
const READY: &str = "ready";

/// A running server. Dropping it ends it and removes its data.
pub struct Postgres {
    child: Child,
    port: Port,
    settings: Vec<String>,
    directory: tempfile::TempDir,
}

/// A database of its own, with the password that it takes. Dropping it removes it.
pub struct PostgresDatabase {
    port: u16,
    name: String,
    password_file: PathBuf,
    /// The server, if nobody shares it.
    own: Option<Postgres>,
}

impl Postgres {
    /// Makes a cluster and starts it with further settings, each `name=value`. Debian's package `postgresql` must be
    /// installed; its own cluster is neither used nor needed.
    pub fn start(settings: &[&str]) -> anyhow::Result<Postgres> {
        let directory = tempfile::tempdir()?;
        make_cluster(directory.path())?;
        let port = Port::hold()?;
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let child = spawn(directory.path(), port.number(), &settings, Ends::WithUs)?;
        let mut postgres = Postgres { child, port, settings, directory };
        postgres.wait_until_ready()?;
        Ok(postgres)
    }

    /// The database's address, without the password.
    pub fn url(&self) -> String {
        url(self.port.number(), DATABASE)
    }

    /// The file with the password.
    pub fn password_file(&self) -> PathBuf {
        password_file(self.directory.path())
    }

    /// The password itself.
    pub const fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Ends the server at once, with every connection.
    pub fn kill(&mut self) {
        // SIGQUIT ends its children with it; SIGKILL would leave a shared memory segment behind.
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::QUIT);
        }
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts the server that was killed again, on the same data and port.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(self.directory.path(), self.port.number(), &self.settings, Ends::WithUs)?;
        self.wait_until_ready()
    }

    /// What a statement returns, as text.
    pub fn query(&self, statement: &str) -> anyhow::Result<String> {
        query(self.port.number(), statement)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        wait_until_ready(&mut self.child, self.directory.path(), self.port.number())
    }
}

impl PostgresDatabase {
    /// A new database. Tests that nextest runs share a server, which the first of them starts and which ends with the run;
    /// otherwise it has a server of its own. Nothing on it survives a power failure.
    pub fn make() -> anyhow::Result<PostgresDatabase> {
        let Ok(run) = std::env::var(RUN) else { return PostgresDatabase::with_server(&["fsync=off"]) };
        let directory = std::env::temp_dir().join(format!("sealbus-postgres-{run}"));
        let port = shared_server(&directory)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let name = format!("test_{}_{}", std::process::id(), now.as_nanos());
        query(port, &format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        Ok(PostgresDatabase { port, name, password_file: password_file(&directory), own: None })
    }

    /// The database of a server that nobody shares, with further settings.
    pub fn with_server(settings: &[&str]) -> anyhow::Result<PostgresDatabase> {
        let server = Postgres::start(settings)?;
        let (port, password_file) = (server.port.number(), server.password_file());
        Ok(PostgresDatabase { port, name: DATABASE.to_owned(), password_file, own: Some(server) })
    }

    /// Its address, without the password.
    pub fn url(&self) -> String {
        url(self.port, &self.name)
    }

    /// The file with the password.
    pub fn password_file(&self) -> PathBuf {
        self.password_file.clone()
    }

    /// The password itself.
    pub const fn password(&self) -> &'static str {
        PASSWORD
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        if self.own.is_none() {
            let _ = query(self.port, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

/// The port of the server in this directory, which the first to ask starts.
fn shared_server(directory: &Path) -> anyhow::Result<u16> {
    fs::create_dir_all(directory)?;
    let lock = File::create(directory.with_extension("lock"))?;
    lock.lock()?;
    let ready = directory.join(READY);
    if let Ok(port) = fs::read_to_string(&ready) {
        return port.parse().context("a port");
    }
    make_cluster(directory)?;
    // Later tests cannot take the port: the server listens on it.
    let port = Port::hold()?;
    let mut child = spawn(directory, port.number(), &["fsync=off".to_owned()], Ends::WithTheRun)?;
    wait_until_ready(&mut child, directory, port.number())?;
    fs::write(ready, port.number().to_string())?;
    Ok(port.number())
}

/// Makes the files of a server: `data`, and the password beside it.
fn make_cluster(directory: &Path) -> anyhow::Result<()> {
    let password_file = password_file(directory);
    fs::write(&password_file, PASSWORD)?;
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
    if let Some((user, group)) = other_user()? {
        chown(directory, Some(user), Some(group))?;
        chown(&password_file, Some(user), Some(group))?;
    }
    let made = command("initdb", Ends::WithUs)?
        .arg("--pgdata")
        .arg(directory.join("data"))
        .arg("--pwfile")
        .arg(&password_file)
        .args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"])
        .current_dir(directory)
        .output()
        .context("cannot start initdb: run `make tools`")?;
    ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

fn password_file(directory: &Path) -> PathBuf {
    directory.join("password")
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{database}")
}

fn query(port: u16, statement: &str) -> anyhow::Result<String> {
    let output = Command::new(binary("psql")?)
        .args([&url(port, DATABASE), "--no-align", "--tuples-only", "--command", statement])
        .env("PGPASSWORD", PASSWORD)
        .output()?;
    ensure!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn wait_until_ready(child: &mut Child, directory: &Path, port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let ready = Command::new(binary("pg_isready")?)
            .args(["--quiet", "--host", "127.0.0.1", "--port", &port.to_string()])
            .status()
            .context("cannot start pg_isready")?;
        if ready.success() {
            return Ok(());
        }
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() >= deadline {
            let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
            bail!("the PostgreSQL server did not come up ({ended:?}): {log}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// When a program ends, whatever ends whoever started it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// With this process.
    WithUs,
    /// With the process that runs the tests, our parent.
    WithTheRun,
}

fn spawn(directory: &Path, port: u16, settings: &[String], ends: Ends) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    let child = command("postgres", ends)?
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start postgres")?;
    if ends == Ends::WithTheRun {
        let when_over = "tail --pid=\"$1\" -f /dev/null; kill -QUIT \"$2\"; tail --pid=\"$2\" -f /dev/null; rm -rf \"$3\" \"$3.lock\"";
        Command::new("setsid")
            .args(["sh", "-c", when_over, "sh", &parent_id().to_string(), &child.id().to_string()])
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start what ends postgres")?;
    }
    Ok(child)
}

/// A program of the server, as a user that it accepts: it refuses root.
fn command(program: &str, ends: Ends) -> anyhow::Result<Command> {
    let mut command = Command::new("setpriv");
    if let Some((user, group)) = other_user()? {
        command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]);
    }
    match ends {
        Ends::WithUs => command.args(["--pdeathsig", "QUIT", "--"]),
        // In a session of its own: the signals that end a test are not meant for it.
        Ends::WithTheRun => command.args(["--", "setsid"]),
    };
    command.arg(binary(program)?);
    Ok(command)
}

/// For root: the user that the package made, or nobody.
fn other_user() -> anyhow::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let entry = |name: &str| {
        let fields: Vec<&str> =
            users.lines().map(|line| line.split(':').collect()).find(|f: &Vec<&str>| f[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    entry("postgres").or_else(|| entry("nobody")).context("neither postgres nor nobody is a user here").map(Some)
}

/// A program of the newest PostgreSQL: Debian keeps most of them off the path.
fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let version = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let found = versions.filter(|path| path.join("bin").join(name).is_file()).max_by_key(version);
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut on_path = std::env::split_paths(&on_path).map(|directory| directory.join(name));
    let found = found.map(|path| path.join("bin").join(name)).or_else(|| on_path.find(|path| path.is_file()));
    found.with_context(|| format!("{name} of PostgreSQL is not installed: run `make tools`"))
}
