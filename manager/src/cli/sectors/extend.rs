//! `sectors extend`: proven sectors go on for longer.

use clap::{ArgGroup, Args};

use super::{
    super::{errand::Asking, person::Usage},
    care::{Which, carry_out},
};
use crate::care::{
    batch::Verb,
    extend::{DAYS_MAX, Until, plan},
};

/// The sectors, and until when.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("until").required(true))]
pub struct Extend {
    #[command(flatten)]
    which: Which,
    /// Until so many days from now, at most 1278.
    #[arg(long, group = "until", value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
    days: Option<u32>,
    /// For so many days more than each sector has.
    #[arg(long, group = "until", value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
    more_days: Option<u32>,
    /// Until this epoch.
    #[arg(long, group = "until", value_name = "EPOCH")]
    epoch: Option<i64>,
    #[command(flatten)]
    asking: Asking,
}

impl Extend {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (field, until) = match (self.days, self.more_days, self.epoch) {
            (Some(days), ..) => ("--days", Until::Days(days)),
            (_, Some(days), _) => ("--more-days", Until::More(days)),
            (.., epoch) => ("--epoch", Until::Epoch(epoch.unwrap_or_default())),
        };
        carry_out(self.which, self.asking, (Verb::Extend, "sectors extend"), |sectors, now| {
            until.check(now).map_err(|error| Usage(format!("{field}: {error}")))?;
            Ok(plan(sectors, until, now))
        })
        .await
    }
}
