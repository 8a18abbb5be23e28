//! The chain's head, and what the miners' addresses have.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_nats::metrics::{Samples, process::time_of_day};

use super::{Failure, names};
use crate::{
    chain::{Error, NodeClient, Transport, json},
    config::{Config, Miner},
    drive::address,
    errands::purse::purses,
};

/// How often balances are read. Each address costs three calls.
const BALANCES_PERIOD: Duration = Duration::from_secs(60);

/// The last head, and since when it has been there.
#[derive(Debug, Default)]
pub struct Head {
    seen: Option<(i64, Instant)>,
}

/// The balances as they were read last.
#[derive(Default)]
pub struct Purses {
    read: Option<(Instant, Samples)>,
}

impl Head {
    /// Its epoch, if it was ever seen.
    pub fn height(&self) -> Option<i64> {
        self.seen.map(|(height, _)| height)
    }

    /// Remembers the head's epoch. Without one the last head grows old.
    pub fn see(&mut self, height: Option<i64>, now: Instant) {
        if let Some(height) = height.filter(|height| self.height() != Some(*height)) {
            self.seen = Some((height, now));
        }
    }

    /// Shows how long the head has been there.
    pub fn show(&self, samples: &mut Samples) {
        if let Some((_, since)) = self.seen {
            samples.set(&names::HEAD_STILL, &[], since.elapsed().as_secs_f64());
        }
    }
}

/// Looks at the head, and says which epoch it has.
pub async fn look<T: Transport>(node: &NodeClient<T>, seen: &OnceLock<i64>) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    let head = node.chain_head().await?;
    let _ = seen.set(head.height);
    samples.set(&names::HEAD, &[], head.height as f64);
    if let Some(made) = head.blocks.iter().map(|block| block.timestamp).max() {
        samples.set(&names::HEAD_AGE, &[], time_of_day().as_secs_f64() - made as f64);
    }
    if let Some(fee) = head.base_fee() {
        samples.set(&names::BASE_FEE, &[], atto(fee));
    }
    Ok(samples)
}

impl Purses {
    /// The balances, read again if they are old.
    pub async fn look<T: Transport>(&mut self, node: &NodeClient<T>, config: &Config) -> Result<Samples, Failure> {
        if let Some((at, samples)) = &self.read
            && at.elapsed() < BALANCES_PERIOD
        {
            return Ok(samples.clone());
        }
        let mut samples = Samples::default();
        for miner in &config.miners {
            of_miner(node, miner, &mut samples).await?;
        }
        self.read = Some((Instant::now(), samples.clone()));
        Ok(samples)
    }
}

async fn of_miner<T: Transport>(node: &NodeClient<T>, miner: &Miner, samples: &mut Samples) -> Result<(), Error> {
    let (head, actor, name) = (node.chain_head().await?, address(miner.id), miner.id.to_string());
    let info = node.miner_info(&actor, &head.key).await?;
    // The texts were checked when the configuration was loaded.
    let senders = miner.all_senders().into_iter().filter_map(|text| json::parse_address(text).ok());
    let mut senders: Vec<Address> = senders.map(|(sender, _)| sender).collect();
    if senders.is_empty() {
        senders.push(info.worker);
    }
    // Several addresses may have one role, such as `control`. The poorest one is shown.
    let mut least: Vec<(&str, TokenAmount)> = Vec::new();
    for purse in purses(node, &head.key, &info, &senders).await? {
        for role in purse.roles {
            match least.iter_mut().find(|(known, _)| *known == role) {
                Some((_, balance)) => *balance = purse.balance.clone().min(balance.clone()),
                None => least.push((role, purse.balance.clone())),
            }
        }
    }
    let own = node.get_actor(&actor, &head.key).await?.map(|actor| actor.balance).unwrap_or_default();
    least.push(("miner", own));
    least.push(("available", node.available_balance(&actor, &head.key).await?));
    for (role, balance) in least {
        samples.set(&names::BALANCE, &[&name, role], atto(&balance) / 1e18);
    }
    Ok(())
}

/// An amount in attoFIL, as exactly as a metric can say it.
fn atto(amount: &TokenAmount) -> f64 {
    amount.atto().to_string().parse().unwrap_or(f64::NAN)
}
