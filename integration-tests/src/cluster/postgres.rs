//! A PostgreSQL server with its own data, on loopback and with a password. It ends when its value is dropped.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::ports::Port;

/// The only user. It must give a password.
const USER: &str = "sealbus";
const PASSWORD: &str = "open/sesame: 7%";
/// The database that `initdb` creates.
const DATABASE: &str = "postgres";
/// How long the server may take to start or to end. It is generous: a limit, not a measurement.
const LIMIT: Duration = Duration::from_secs(60);

/// A running server. Dropping it stops it and removes its data.
pub struct Postgres {
    child: Child,
    port: Port,
    settings: Vec<String>,
    directory: tempfile::TempDir,
}

impl Postgres {
    /// Initialises a server's data and starts the server with further settings, each `name=value`. Debian's package
    /// `postgresql` must be installed; its own data directory is not used.
    pub fn start(settings: &[&str]) -> anyhow::Result<Postgres> {
        let directory = tempfile::tempdir()?;
        let password_file = directory.path().join("password");
        fs::write(&password_file, PASSWORD)?;
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
        if let Some((user, group)) = other_user()? {
            chown(directory.path(), Some(user), Some(group))?;
            chown(&password_file, Some(user), Some(group))?;
        }
        let data = directory.path().join("data");
        let made = command("initdb")?
            .arg("--pgdata")
            .arg(&data)
            .arg("--pwfile")
            .arg(&password_file)
            .args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .current_dir(directory.path())
            .output()
            .context("cannot start initdb: run `make tools`")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = Port::hold()?;
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let child = spawn(directory.path(), &port, &settings)?;
        let mut postgres = Postgres { child, port, settings, directory };
        postgres.wait_until_ready()?;
        Ok(postgres)
    }

    /// The database's URL, without the password.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{DATABASE}", self.port.number())
    }

    /// The file with the password.
    pub fn password_file(&self) -> PathBuf {
        self.directory.path().join("password")
    }

    /// The password itself.
    pub const fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Stops the server at once and breaks all connections.
    pub fn kill(&mut self) {
        // With SIGQUIT the server also ends its children. SIGKILL would leave a shared memory segment behind.
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

    /// Starts a killed server again, with the same data and port.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(self.directory.path(), &self.port, &self.settings)?;
        self.wait_until_ready()
    }

    /// The result of a statement, as text.
    pub fn query(&self, statement: &str) -> anyhow::Result<String> {
        let output = Command::new(binary("psql")?)
            .args([&self.url(), "--no-align", "--tuples-only", "--command", statement])
            .env("PGPASSWORD", PASSWORD)
            .output()?;
        ensure!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        let port = self.port.number().to_string();
        loop {
            let ready = Command::new(binary("pg_isready")?)
                .args(["--quiet", "--host", "127.0.0.1", "--port", &port])
                .status()
                .context("cannot start pg_isready")?;
            if ready.success() {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() >= deadline {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                bail!("the PostgreSQL server did not come up ({ended:?}): {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(directory: &Path, port: &Port, settings: &[String]) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    command("postgres")?
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-p", &port.number().to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start postgres")
}

/// A command for one of the server's programs. It runs as a user that the program accepts, because it refuses root. It
/// ends with this process, however that ends.
fn command(program: &str) -> anyhow::Result<Command> {
    let mut command = Command::new("setpriv");
    if let Some((user, group)) = other_user()? {
        command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]);
    }
    command.args(["--pdeathsig", "QUIT", "--"]).arg(binary(program)?);
    Ok(command)
}

/// If this is root: the user that the package has created, or nobody.
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

/// A program of the newest installed PostgreSQL. Debian does not put most of them in `PATH`.
fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let version = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let found = versions.filter(|path| path.join("bin").join(name).is_file()).max_by_key(version);
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut on_path = std::env::split_paths(&on_path).map(|directory| directory.join(name));
    let found = found.map(|path| path.join("bin").join(name)).or_else(|| on_path.find(|path| path.is_file()));
    found.with_context(|| format!("{name} of PostgreSQL is not installed: run `make tools`"))
}
