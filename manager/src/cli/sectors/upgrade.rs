//! `sectors upgrade-quality`: proven sectors get tenfold quality (FIP-0118).

use clap::Args;

use super::{
    super::errand::Asking,
    care::{Which, carry_out},
};
use crate::care::{
    batch::Verb,
    upgrade::{check, plan},
};

/// The sectors.
#[derive(Debug, Args)]
pub struct Upgrade {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    asking: Asking,
}

impl Upgrade {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        carry_out(self.which, self.asking, (Verb::Upgrade, "sectors upgrade-quality"), |sectors, now| {
            check(now)?;
            Ok(plan(sectors, now))
        })
        .await
    }
}
