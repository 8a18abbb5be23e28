//! A real Prometheus with the real rules, on loopback.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use sealbus_integration_tests::cluster::{Port, Process, wait_within};
use serde_json::Value;

/// How long an alarm may take to be raised, or to end.
const LIMIT: Duration = Duration::from_secs(240);

/// A running Prometheus.
pub struct Prometheus {
    port: u16,
    process: Process,
    _port: Port,
}

impl Prometheus {
    /// Starts one that reads these ports each second. The rules are those of the repository, but they wait for nothing and
    /// look back for seconds, so that no test lasts hours.
    pub fn start(root: &Path, manager: u16, workers: &[u16]) -> anyhow::Result<Prometheus> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let rules = fs::read_to_string(repository.join("monitoring/alerts.yml"))?;
        let lines = rules.lines().filter(|line| !line.trim_start().starts_with("for: "));
        let hasty = lines.collect::<Vec<_>>().join("\n").replace("[1h]", "[10s]").replace("[10m]", "[5s]");
        ensure!(hasty.len() < rules.len() && !hasty.contains("[1h]"), "the rules have changed their form");
        fs::write(root.join("alerts.yml"), hasty)?;
        let workers: Vec<String> = workers.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [alerts.yml]\nscrape_configs:\n\
             - {{ job_name: sealbus-manager, static_configs: [{{ targets: [\"127.0.0.1:{manager}\"] }}] }}\n\
             - {{ job_name: sealbus-worker, static_configs: [{{ targets: [{}] }}] }}\n",
            workers.join(", ")
        );
        fs::write(root.join("prometheus.yml"), config)?;
        let held = Port::hold()?;
        let arguments = [
            format!("--config.file={}", root.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", root.join("tsdb").display()),
            format!("--web.listen-address=127.0.0.1:{}", held.number()),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = Process::start("prometheus", &program(), &arguments, &[], root)?;
        Ok(Prometheus { port: held.number(), process, _port: held })
    }

    /// The names of the alarms that are raised now.
    pub fn raised(&self) -> anyhow::Result<BTreeSet<String>> {
        let answer = get(self.port, "/api/v1/alerts")?;
        let alerts = answer["data"]["alerts"].as_array().context("no alerts")?;
        let raised = alerts.iter().filter(|alert| alert["state"] == "firing");
        Ok(raised.filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect())
    }

    /// Waits until each of these alarms is raised, or until none of them is.
    pub fn wait(&mut self, alarms: &[&str], raised: bool) -> anyhow::Result<()> {
        let what = format!("{alarms:?} {}", if raised { "to be raised" } else { "to end" });
        let mut now = BTreeSet::new();
        let waited = wait_within(LIMIT, &what, || {
            self.process.check_alive()?;
            // It may still be starting.
            let Ok(found) = self.raised() else { return Ok(None) };
            now = found;
            Ok(alarms.iter().all(|alarm| now.contains(*alarm) == raised).then_some(()))
        });
        waited.with_context(|| format!("raised are {now:?}"))
    }
}

/// What a page says, as JSON.
fn get(port: u16, path: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&read(port, path)?)?)
}

/// The body of a page.
pub fn read(port: u16, path: &str) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(connection, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
    ensure!(head.contains(" 200 "), "{path}: {head}");
    Ok(body.to_owned())
}

fn program() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/prometheus");
    if installed.exists() { installed } else { PathBuf::from("prometheus") }
}
