//! The documentation is complete: every error code has a page, every alarm an entry in the runbook, every metric a line in
//! its table, and every link a target.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use sealbus_nats::metrics;
use sealbus_schema::ErrorCode;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn markdown_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("reads the directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            markdown_files(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let directory = root().join("docs/errors");
    for (code, class) in ErrorCode::ALL {
        let page = directory.join(format!("{code}.md"));
        let text = fs::read_to_string(&page).unwrap_or_else(|_| panic!("{} is missing", page.display()));
        assert!(text.contains(&format!("`{class}`")), "{code}.md does not name its class `{class}`");
    }
    for entry in fs::read_dir(&directory).expect("reads the directory") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        let code = name.trim_end_matches(".md");
        let known = ErrorCode::ALL.iter().any(|(known, _)| known.as_str() == code);
        assert!(known || code == "README", "docs/errors/{name} is about no code");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut files = Vec::new();
    markdown_files(&root(), &mut files);
    assert!(files.len() > 10, "found only {files:?}");
    let mut broken = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("reads");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let resolved = file.parent().expect("a directory").join(path);
            if !resolved.exists() {
                broken.push(format!("{} -> {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn code_that_documents_name_exists() {
    let mut files = Vec::new();
    markdown_files(&root().join("docs"), &mut files);
    files.push(root().join("README.md"));
    let mut broken = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("reads");
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path =
                quoted.ends_with(".rs") && !quoted.contains(|c: char| c.is_whitespace() || c == '*' || c == '{');
            if is_path && quoted.contains('/') && !root().join(quoted).exists() {
                broken.push(format!("{}: `{quoted}`", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The alarms' names in a file of rules.
fn alarms() -> Vec<String> {
    let rules = fs::read_to_string(root().join("monitoring/alerts.yml")).expect("reads");
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(names.len() > 30, "{names:?}");
    names
}

#[test]
fn the_tables_of_metrics_are_those_of_the_programs() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).expect("reads");
    for all in [sealbus_manager::metrics::names::ALL, sealbus_worker::metrics::names::ALL, metrics::process::ALL] {
        let table = metrics::table(all);
        assert!(page.contains(&table), "docs/metrics.md lacks this table:\n{table}");
    }
}

#[test]
fn metrics_are_named_as_prometheus_asks() {
    for metrics::Metric { name, kind, .. } in
        sealbus_manager::metrics::names::ALL.iter().chain(sealbus_worker::metrics::names::ALL)
    {
        assert!(name.starts_with("sealbus_"), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == metrics::Kind::Counter, "{name}");
    }
}

#[test]
fn what_rules_and_the_dashboard_show_is_a_metric() {
    let known: Vec<&str> =
        [sealbus_manager::metrics::names::ALL, sealbus_worker::metrics::names::ALL, metrics::process::ALL]
            .iter()
            .flat_map(|all| all.iter().map(|metric| metric.name))
            .collect();
    for file in ["alerts.yml", "alerts.test.yml", "dashboard.json"] {
        let text = fs::read_to_string(root().join("monitoring").join(file)).expect("reads");
        if file.ends_with(".json") {
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        }
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("sealbus_") || word.starts_with("process_")) {
            assert!(known.contains(&word), "{file}: {word}");
        }
    }
}

#[test]
fn every_alarm_has_an_entry_in_the_runbook_with_a_command_and_a_test() {
    let runbook = fs::read_to_string(root().join("docs/runbook.md")).expect("reads");
    let tests = fs::read_to_string(root().join("monitoring/alerts.test.yml")).expect("reads");
    let rules = fs::read_to_string(root().join("monitoring/alerts.yml")).expect("reads");
    let entries: Vec<&str> = runbook.split("\n### ").skip(1).collect();
    for alarm in alarms() {
        let entry = entries.iter().find(|entry| entry.lines().next() == Some(&alarm));
        let entry = entry.unwrap_or_else(|| panic!("docs/runbook.md has no entry for {alarm}"));
        assert!(entry.contains("```sh\n"), "{alarm}: the runbook has no command");
        assert!(rules.contains(&format!("runbook_url: docs/runbook.md#{}\n", alarm.to_lowercase())), "{alarm}");
        let (_, test) = tests.split_once(&format!("name: {alarm}\n")).unwrap_or_else(|| panic!("{alarm}: no test"));
        let test = test.split("  - interval: ").next().unwrap_or_default();
        assert!(test.contains("exp_labels") && test.contains("exp_alerts: []"), "{alarm} does not fire and clear");
    }
    let strangers =
        entries.iter().filter_map(|entry| entry.lines().next()).filter(|name| !alarms().contains(&(*name).to_owned()));
    assert_eq!(strangers.collect::<Vec<_>>(), Vec::<&str>::new(), "entries of no alarm");
}

#[test]
fn the_runbook_types_commands_that_exist() {
    let runbook = fs::read_to_string(root().join("docs/runbook.md")).expect("reads");
    let commands: Vec<&str> = runbook.lines().filter(|line| line.starts_with("sealbus-manager ")).collect();
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        // What is quoted is one word.
        let mut words = Vec::new();
        for (index, part) in command.split('"').enumerate() {
            match index % 2 {
                0 => words.extend(part.split_whitespace()),
                _ => words.push(part),
            }
        }
        if let Err(error) = sealbus_manager::cli::Cli::try_parse_from(words) {
            panic!("{command}: {error}");
        }
    }
}
