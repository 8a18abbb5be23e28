//! The streams, and how far the log is folded.

use sealbus_nats::{Bus, metrics::Samples, topology};

use super::{Failure, names};
use crate::store::Store;

/// Looks at the bus.
pub async fn look(bus: &Bus, store: &Store) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    // The database first, so that the lag is never less than it was.
    let folded = store.fold_state().await?.map_or(0, |fold| fold.last_sequence);
    for fill in bus.fills().await? {
        let stream = [fill.name];
        samples.set(&names::STREAM_BYTES, &stream, fill.bytes as f64);
        samples.set(&names::STREAM_MESSAGES, &stream, fill.messages as f64);
        if let Some(max) = fill.max_bytes {
            samples.set(&names::STREAM_MAX, &stream, max as f64);
        }
        if fill.name == topology::SECTORS {
            samples.set(&names::FOLD_LAG, &[], fill.last_sequence.saturating_sub(folded) as f64);
        }
    }
    if let Some(offset) = bus.clock_offset().await? {
        samples.set(&names::CLOCK, &[], offset);
    }
    Ok(samples)
}
