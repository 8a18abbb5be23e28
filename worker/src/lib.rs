//! The sealing worker of one machine.
//!
//! Read [`stage`] first: what each phase of sealing does with the files of a slot. Then [`processor`]: how those phases
//! run in child processes, in the order that [`sealbus_planner::schedule`] says. Then [`slot`] and [`journal`]: what
//! survives a kill. [`driver`] brings them together with the bus and the machine of [`sealbus_schema::machine::worker`]; what
//! it asks of a stage in each step is in [`workflows`]. [`run`] is the whole process, from its [`config`] on, with its
//! [`heartbeat`]. [`topology`] is the machine that all this is placed on,
//! [`placement`] holds the configuration against it, and [`bind`] places it. [`params`] stands apart: Groth16 parameters,
//! checked or fetched. [`out`] is the only way to stdout and stderr of a command.

pub mod bind;
pub mod causes;
pub mod cgroup;
pub mod config;
pub mod driver;
pub mod heartbeat;
pub mod identity;
pub mod journal;
pub mod out;
pub mod params;
pub mod params_watch;
pub mod placement;
pub mod processor;
pub mod run;
pub mod slot;
pub mod stage;
pub mod store_watch;
pub mod topology;
pub mod workflows;
