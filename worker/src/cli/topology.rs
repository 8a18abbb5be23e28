//! `sealbus-worker topology`: draws the machine's topology.

use std::{fs, path::PathBuf};

use anyhow::Context;
use sealbus_planner::machine::{CpuSet, Machine, draw};
use sealbus_worker::{
    out,
    topology::{self, Source, load},
};

/// Arguments of `topology`.
#[derive(Debug, clap::Args)]
pub struct TopologyArguments {
    #[command(flatten)]
    described: Described,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write what hwloc sees to a file that `--xml` reads. For this machine it includes what the worker may not use.
    #[arg(long, value_name = "FILE")]
    export_xml: Option<PathBuf>,
}

/// The machine to look at; by default this one.
#[derive(Debug, clap::Args)]
pub struct Described {
    /// A machine in an XML file of hwloc 2 (from `lstopo FILE.xml`, or from `--export-xml`).
    #[arg(long, value_name = "FILE", conflicts_with = "synthetic")]
    xml: Option<PathBuf>,
    /// A machine in hwloc's synthetic description, such as "package:2 l3:8 core:8 pu:2".
    #[arg(long, value_name = "DESCRIPTION")]
    synthetic: Option<String>,
    /// Use only these processing units of the machine, such as 0-3,8.
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuSet>,
}

impl Described {
    /// Where the description of the machine comes from.
    pub fn source(&self) -> Source {
        match (&self.xml, &self.synthetic) {
            (Some(path), _) => Source::Xml(path.clone()),
            (None, Some(text)) => Source::Synthetic(text.clone()),
            (None, None) => Source::ThisMachine,
        }
    }

    /// The machine, restricted to `--cpus` if given.
    pub fn restricted(&self, machine: Machine) -> anyhow::Result<Machine> {
        match &self.cpus {
            Some(cpus) => Ok(machine.restricted_to(cpus)?),
            None => Ok(machine),
        }
    }
}

impl TopologyArguments {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        let source = self.described.source();
        let opened = topology::open(&source)?;
        let machine = self.described.restricted(load::describe_opened(&source, &opened)?)?;
        if let Some(path) = &self.export_xml {
            fs::write(path, opened.to_xml()?).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(match self.json {
            true => out::json(&serde_json::to_string_pretty(&machine)?),
            false => out::print(&draw(&machine)),
        }?)
    }
}
