//! The sealing worker of one machine.
//!
//! Read [`stage`] first: what each phase of sealing does with the files of a slot. Then read [`processor`]: how those
//! phases run in child processes, in the order that [`sealbus_planner::schedule`] decides. Then read [`slot`] and
//! [`journal`]: what survives a kill. [`driver`] connects them to the bus and to the state machine of
//! [`sealbus_schema::machine::worker`]. [`post`] serves proofs of spacetime, beside the slots. [`run`] is the whole
//! process: it starts from the [`config`] and sends the [`heartbeat`]. [`metrics`] are for Prometheus. [`topology`] describes the machine,
//! [`placement`] checks the configuration against it, and [`bind`] binds processors to it. [`sandbox`] decides what a
//! processor may touch. [`params`] stands apart: it checks and fetches Groth16 parameters. All output of a command goes
//! through [`out`].

pub mod bind;
pub mod broken;
pub mod causes;
pub mod cgroup;
pub mod config;
pub mod driver;
pub mod heartbeat;
pub mod identity;
pub mod journal;
pub mod metrics;
pub mod out;
pub mod params;
pub mod params_watch;
pub mod placement;
pub mod post;
pub mod processor;
pub mod run;
pub mod sandbox;
pub mod service;
pub mod slot;
pub mod stage;
pub mod store_watch;
pub mod topology;
pub mod workflows;
