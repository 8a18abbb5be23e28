//! How long the reads of a full partition take from a store that is slow for one sector in a hundred.
//!
//! `cargo bench --workspace --profile dev --bench slow_reads` reads 2349 sectors with a real worker and the manager's own loop. The
//! readers are scripted: they take 1 or 20 ms, and 30 s for each hundredth sector, and yield 24 kB. The ideal is what the
//! readers need at least: the slowest read, or all of them divided by the readers.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

use sealbus_integration_tests::scripted::{latencies::Latencies, slow_reads::Case};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    println!("load {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    println!(
        "{:>8} {:>7} {:>8} {:>8} {:>6} {:>9} {:>8} slowest",
        "readers", "limit", "ideal", "read", "ratio", "left out", "proved"
    );
    let latencies = Latencies { usual_ms: vec![1, 20], every: 100, slow_ms: 30_000, bad: Vec::new() };
    // With a limit of 60 s the slow ones are late and right. With 10 s they are bad: the cut comes at the 30th epoch, here
    // after 90 s.
    for (readers, sector_limit_secs, epoch_millis) in [(32, 60, 30_000), (8, 60, 30_000), (32, 10, 3000)] {
        let case = Case { sectors: 2349, latencies: latencies.clone(), readers, sector_limit_secs, epoch_millis };
        let root = tempfile::tempdir()?;
        let outcome = case.run(root.path()).await?;
        let left_out: std::collections::BTreeSet<_> =
            outcome.proof.skipped.iter().map(|skipped| skipped.number).collect();
        assert_eq!(left_out, case.too_slow(), "what is too slow is left out, and nothing else");
        let is_cut = !left_out.is_empty();
        let ideal = if is_cut { 29.0 * epoch_millis as f64 / 1000.0 } else { case.ideal().as_secs_f64() };
        let read = outcome.read.as_secs_f64();
        let slowest = outcome.proof.told.slowest.map(|(number, ms)| format!("sector {number}, {ms} ms"));
        println!(
            "{readers:>8} {:>7} {ideal:>8.1} {read:>8.1} {:>6.2} {:>9} {:>8.1} {}",
            format!("{sector_limit_secs} s"),
            read / ideal,
            left_out.len(),
            outcome.proved.as_secs_f64(),
            slowest.unwrap_or_default()
        );
    }
    Ok(())
}
