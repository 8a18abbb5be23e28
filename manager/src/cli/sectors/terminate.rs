//! `sectors terminate`: proven sectors end before their time.

use clap::Args;

use super::{
    super::errand::Asking,
    care::{Which, carry_out},
};
use crate::care::{batch::Verb, terminate::plan};

/// The sectors.
#[derive(Debug, Args)]
pub struct Terminate {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    asking: Asking,
}

impl Terminate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        carry_out(self.which, self.asking, (Verb::Terminate, "sectors terminate"), |sectors, now| {
            Ok(plan(sectors, now))
        })
        .await
    }
}
