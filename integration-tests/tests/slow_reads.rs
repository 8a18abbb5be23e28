//! A store that is slow for some sectors: the short form of the benchmark `slow_reads`.

use sealbus_integration_tests::scripted::{
    latencies::Latencies,
    slow_reads::{Case, Outcome},
};
use sealbus_schema::SectorNumber;

/// 200 sectors: most take 1 or 20 ms, and two of them so long.
fn case(slow_ms: u64) -> Case {
    let latencies = Latencies { usual_ms: vec![1, 20], every: 100, slow_ms, bad: Vec::new() };
    Case { sectors: 200, latencies, readers: 4, sector_limit_secs: 1, epoch_millis: 600 }
}

async fn run(case: &Case) -> anyhow::Result<Outcome> {
    let root = tempfile::tempdir()?;
    case.run(root.path()).await
}

#[tokio::test]
async fn slow_sectors_within_the_limit_are_proven_with_the_others_and_the_slowest_is_named() -> anyhow::Result<()> {
    // Epochs that are long enough for any load: nobody waits for the cut.
    let outcome = run(&Case { epoch_millis: 10_000, sector_limit_secs: 60, ..case(1500) }).await?;
    assert!(outcome.proof.skipped.is_empty(), "{:?}", outcome.proof.skipped);
    let (slowest, ms) = outcome.proof.told.slowest.expect("told");
    assert!([SectorNumber(100), SectorNumber(200)].contains(&slowest) && ms >= 1500, "{slowest} {ms}");
    Ok(())
}

#[tokio::test]
async fn sectors_that_take_longer_than_they_may_are_left_out_and_named_and_cost_no_other_sector() -> anyhow::Result<()>
{
    let outcome = run(&case(600_000)).await?;
    let skipped: Vec<_> = outcome.proof.skipped.iter().map(|skipped| skipped.number).collect();
    assert_eq!(skipped, [SectorNumber(100), SectorNumber(200)], "{:?}", outcome.proof.skipped);
    for skipped in &outcome.proof.skipped {
        assert!(
            skipped.cause.contains("took longer than") && skipped.cause.contains("reader was killed"),
            "{skipped:?}"
        );
    }
    Ok(())
}
