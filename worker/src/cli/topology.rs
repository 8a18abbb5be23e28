//! `sealbus-worker topology`: the machine, as a person would draw it.

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
    /// Write what hwloc sees to a file, which `--xml` reads; of this machine also what the worker may not use.
    #[arg(long, value_name = "FILE")]
    export_xml: Option<PathBuf>,
}

/// Which machine; this one if not said.
#[derive(Debug, clap::Args)]
pub struct Described {
    /// A machine in an XML file of hwloc 2 (`lstopo FILE.xml`, or `--export-xml` of this command).
    #[arg(long, value_name = "FILE", conflicts_with = "synthetic")]
    xml: Option<PathBuf>,
    /// A machine in hwloc's synthetic description, such as "package:2 l3:8 core:8 pu:2".
    #[arg(long, value_name = "DESCRIPTION")]
    synthetic: Option<String>,
    /// Use only these processing units of it, such as 0-3,8.
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuSet>,
}

impl Described {
    /// Where the machine is described.
    pub fn source(&self) -> Source {
        match (&self.xml, &self.synthetic) {
            (Some(path), _) => Source::Xml(path.clone()),
            (None, Some(text)) => Source::Synthetic(text.clone()),
            (None, None) => Source::ThisMachine,
        }
    }

    /// The machine, without what is not to be used.
    pub fn restricted(&self, machine: Machine) -> anyhow::Result<Machine> {
        match &self.cpus {
            Some(cpus) => Ok(machine.restricted_to(cpus)?),
            None => Ok(machine),
        }
    }
}

impl TopologyArguments {
    /// Carries out the command.
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
