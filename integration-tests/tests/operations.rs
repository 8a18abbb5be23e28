//! Follows `docs/operations.md` word for word. Every command is run as printed, in order, on the manager's host. The
//! situation that each section describes is created beforehand. The output is compared with the page, where `…` stands
//! for anything.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use sealbus_integration_tests::cluster::{Cluster, Settings, own_binary, wait_within};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(180);
/// The slot's directory on the page.
const SLOT: &str = "/nvme/slot0";
const SECTOR: &str = "f01000/1";

/// A section of the page, with its commands.
struct Section {
    heading: String,
    commands: Vec<Step>,
}

/// A command, and its output according to the page.
struct Step {
    command: String,
    prints: Vec<String>,
}

fn page() -> anyhow::Result<Vec<Section>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let mut sections: Vec<Section> = Vec::new();
    let mut inside = false;
    for line in std::fs::read_to_string(&page)?.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            sections.push(Section { heading: heading.to_owned(), commands: Vec::new() });
        }
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => {
                let section = sections.last_mut().context("a heading before the first command")?;
                match line.strip_prefix("$ ") {
                    Some(command) => {
                        section.commands.push(Step { command: command.to_owned(), prints: Vec::new() });
                    }
                    None => section.commands.last_mut().context("a command first")?.prints.push(line.to_owned()),
                }
            }
            (false, _) => {}
        }
    }
    Ok(sections)
}

/// The cluster that the page describes: a worker with one slot, whose phases fail when a section needs that.
struct Site {
    cluster: Cluster,
    store_table: String,
}

impl Site {
    fn build(root: &Path) -> anyhow::Result<Site> {
        let cluster = Cluster::prepare(root, Settings { epoch_millis: 200, ..Settings::from_env()? })?;
        for stage in ["pc1", "pc2", "c1"] {
            cluster.script_phase(stage)?;
        }
        // The store is missing from the configuration at first, and a worker soon counts as away.
        let config = std::fs::read_to_string(cluster.manager_config())?;
        let at = config.find("[[store]]").context("a store")?;
        let (rest, store) = config.split_at(at);
        std::fs::write(cluster.manager_config(), format!("{rest}[liveness]\ndead_after_secs = 5\n"))?;
        let mut site = Site { store_table: store.to_owned(), cluster };
        site.stall(true)?;
        site.cluster.start_manager()?;
        site.cluster.start_worker()?;
        Ok(site)
    }

    fn stall(&self, on: bool) -> anyhow::Result<()> {
        self.cluster.call_chain("Devnet.Fault", json!([{ "kind": "stall_inclusion", "on": on }])).map(drop)
    }

    fn wait_for(&mut self, id: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let last = std::cell::RefCell::new(Value::Null);
        let waited = wait_within(LIMIT, what, || {
            self.cluster.check_alive()?;
            let Ok(sector) = self.cluster.sector(id) else { return Ok(None) };
            let found = is_it(&sector).then_some(());
            last.replace(sector);
            Ok(found)
        });
        waited.with_context(|| format!("{id} is {:#}", last.borrow()))
    }

    fn wait_until_blocked(&mut self, id: &str, code: &str) -> anyhow::Result<()> {
        self.wait_for(id, code, |sector| sector["blocked"]["code"] == code)
    }

    fn worker(&self) -> anyhow::Result<Value> {
        Ok(self.cluster.manager_json(&["workers", "list"])?[0].clone())
    }

    fn wait_for_worker(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        wait_within(LIMIT, what, || {
            self.cluster.check_alive()?;
            Ok(is_it(&self.worker()?).then_some(()))
        })
    }

    /// Creates the situation that a section describes.
    fn before(&mut self, heading: &str) -> anyhow::Result<()> {
        match heading {
            "What waits for a person" => {
                self.cluster.fail_phase("pc1", "crit", "DISK_FULL", "cannot write a layer: No space left on device")?;
                self.cluster.pledge(1)?;
                self.wait_until_blocked(SECTOR, "DISK_FULL")
            }
            "The cause was outside: mend it and go on" => {
                self.cluster.mend_phase("pc1")?;
                self.cluster.fail_phase("pc2", "perm", "COMM_R_MISMATCH", "node 7 does not open against CommR")
            }
            "A phase left bad files: go back" => {
                self.wait_until_blocked(SECTOR, "COMM_R_MISMATCH")?;
                self.cluster.fail_phase("pc1", "perm", "LIBRARY_PANIC", "index out of bounds")?;
                self.cluster.mend_phase("pc2")
            }
            "The machine is to blame: another worker" => self.wait_until_blocked(SECTOR, "LIBRARY_PANIC"),
            "The worker is away" => {
                // There is only one worker, so it takes the sector again, and fails again.
                self.wait_for(SECTOR, "another attempt", |sector| sector["attempt"] == 2)?;
                self.wait_until_blocked(SECTOR, "LIBRARY_PANIC")?;
                self.cluster.kill_worker();
                self.wait_for_worker("a worker that is away", |worker| worker["presence"] == "away")
            }
            "The chain or the manager refused" => {
                self.cluster.mend_phase("pc1")?;
                self.cluster.fail_phase("c1", "perm", "INPUT_MISSING", "cache/p_aux is missing")?;
                self.cluster.start_worker()?;
                self.stall(false)?;
                self.wait_until_blocked(SECTOR, "FILES_UNPROVABLE")?;
                let mut config = std::fs::read_to_string(self.cluster.manager_config())?;
                config.push_str(&self.store_table);
                std::fs::write(self.cluster.manager_config(), config)?;
                self.cluster.kill_manager();
                self.cluster.start_manager()
            }
            "Nothing can be saved: give up" => self.wait_until_blocked(SECTOR, "INPUT_MISSING"),
            "A slot that nobody can go on with" => {
                self.wait_for(SECTOR, "its end", |sector| sector["state"] == "aborted")?;
                self.cluster.fail_phase("pc1", "perm", "PROOFS_FAILED", "a test")?;
                self.cluster.pledge(1)?;
                self.wait_until_blocked("f01000/2", "PROOFS_FAILED")?;
                self.cluster.kill_worker();
                std::fs::write(self.cluster.slot(0).join("journal"), "rubbish")?;
                self.cluster.start_worker()?;
                self.wait_for_worker("an unreadable slot", |worker| worker["slots"][0]["unreadable"] == true)
            }
            "Drain a machine" => {
                self.wait_for("f01000/2", "another attempt", |sector| sector["attempt"] == 2)?;
                self.wait_until_blocked("f01000/2", "PROOFS_FAILED")
            }
            "NATS was lost" => {
                self.cluster.kill_manager();
                self.cluster.kill_worker();
                self.cluster.kill_nats();
                std::fs::remove_dir_all(self.cluster.root().join("nats"))?;
                self.cluster.start_nats()
            }
            "Slots after the loss of NATS" => {
                self.cluster.start_manager()?;
                self.cluster.start_worker()?;
                self.wait_for_worker("the slot that goes on", |worker| {
                    worker["slots"][0]["blocked"]["code"] == "PROOFS_FAILED"
                })
            }
            // No new attempt has begun.
            "Who ordered what" => self.wait_for("f01000/2", "the attempt of before", |sector| sector["attempt"] == 2),
            _ => Ok(()),
        }
    }

    /// Runs a command of the page and compares its output.
    fn follow(&mut self, step: &Step) -> anyhow::Result<()> {
        let slot = self.cluster.slot(0).display().to_string();
        let own = own_binary("sealbus-manager")?;
        let path = std::env::join_paths(
            [own.parent().context("a directory")?.to_path_buf()]
                .into_iter()
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()))
                .collect::<Vec<PathBuf>>(),
        )?;
        let output = Command::new("timeout")
            .args(["60", "sh", "-c", &format!("{{ {}; }} 2>&1", step.command.replace(SLOT, &slot))])
            .env("PATH", &path)
            .env("SEALBUS_MANAGER_CONFIG", self.cluster.manager_config())
            .env_remove("SUDO_USER")
            .stdin(Stdio::null())
            .output()?;
        let mut printed = String::from_utf8_lossy(&output.stdout).replace(&slot, SLOT);
        if step.command.contains("audit list") {
            // The page calls the person alice; here it is the user who runs the test.
            let audit = self.cluster.manager_json(&["audit", "list"])?;
            let person = audit[0]["actor"].as_str().context("a person")?;
            printed = printed.replace(&format!(" {person} "), " alice ");
        }
        let fails = step.prints.iter().any(|line| line.starts_with("error:"));
        ensure!(output.status.success() != fails, "`{}` ended with {}:\n{printed}", step.command, output.status);
        let mut lines = printed.lines();
        for wanted in &step.prints {
            if !lines.any(|line| reads_like(line, wanted)) {
                bail!("`{}` does not print, in this order,\n{wanted}\nbut\n{printed}", step.command);
            }
        }
        Ok(())
    }
}

/// Whether a line matches the page, where `…` stands for anything. Column widths are ignored.
fn reads_like(line: &str, wanted: &str) -> bool {
    let tidy = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, wanted) = (&tidy(line), &tidy(wanted));
    let mut parts = wanted.split('…');
    let Some(rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    let mut rest = rest;
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn a_line_of_the_page_may_leave_words_out() {
    assert!(reads_like("a b c d", "a … c …"));
    assert!(reads_like("a b", "a b"));
    assert!(!reads_like("a b", "a"));
    assert!(!reads_like("a b c", "a … d"));
    assert!(!reads_like("xa b", "a …"));
}

#[test]
fn every_kind_of_blocked_sector_is_resolved_as_the_page_says() -> anyhow::Result<()> {
    let sections = page()?;
    let commands: usize = sections.iter().map(|section| section.commands.len()).sum();
    ensure!(commands >= 12, "only {commands} commands on the page");
    let directory = tempfile::tempdir()?;
    let mut site = Site::build(directory.path())?;
    for section in sections.iter().filter(|section| !section.commands.is_empty()) {
        let heading = &section.heading;
        site.before(heading).with_context(|| format!("before \"{heading}\""))?;
        for step in &section.commands {
            site.follow(step).with_context(|| format!("in \"{heading}\""))?;
        }
    }
    Ok(())
}
