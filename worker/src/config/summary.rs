//! A configuration in a few lines, for `sealbus-worker check`.

use std::fmt::Write;

use sealbus_schema::Phase;

use super::Config;
use crate::slot::space;

/// What the worker would run with. Looks at the slots' disks, and opens nothing.
pub fn summary(config: &Config) -> String {
    let mut text = String::new();
    let miners = config.miners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    // Writing into a string cannot fail.
    let _ = writeln!(text, "worker     {} on {}", config.name, config.host);
    let _ = writeln!(text, "seals      {} sectors of {miners}", config.sector_size);
    let _ = writeln!(text, "nats       {}", config.nats.url);
    let _ = writeln!(text, "store      {} at {}", config.store.name, config.store.path.display());
    let needed = space::needed_bytes(config.sector_size.seal_proof());
    for slot in &config.slots {
        let room = match space::free_bytes(slot) {
            Ok(free) if free < needed => format!("NO ROOM: {free} bytes free, a sector needs {needed}"),
            Ok(free) => format!("{free} bytes free, a sector needs {needed}"),
            Err(error) => format!("UNUSABLE: {error}"),
        };
        let _ = writeln!(text, "slot       {} ({room})", slot.display());
    }
    for phase in Phase::ALL {
        for group in config.processors.iter().filter(|group| group.stage == phase) {
            let bin = group.bin.as_ref().map_or("built in".to_owned(), |bin| bin.display().to_string());
            let limit = group.timeout.as_secs();
            let _ = writeln!(text, "processor  {phase} x {} ({bin}, at most {limit} s a request)", group.count);
        }
    }
    text
}
