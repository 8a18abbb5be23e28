//! What goes wrong with messages on the chain.

use crate::sim::rng::Rng;

/// The probabilities of faults of messages, in millionths.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Another tool takes the nonce of a waiting message, per epoch.
    pub steal: u64,
    /// A message runs out of gas.
    pub gas: u64,
    /// The pool refuses a message.
    pub refuse: u64,
    /// Their random stream.
    pub rng: Rng,
}

/// What spoils messages of many sectors. The probabilities are in millionths.
#[derive(Clone, Debug)]
pub struct Spoiler {
    /// Another tool, with a key of its own, takes the number of a PreCommit that is next in the pool, per epoch.
    pub taken: u64,
    /// One of many ProveCommits fails.
    pub refused: u64,
    /// The random stream.
    pub rng: Rng,
}

impl Trouble {
    /// The faults of messages in a seed's world. One world in four has some. They have a random stream of their own, so
    /// that the other worlds stay the same.
    pub fn draw(seed: u64) -> Option<Trouble> {
        let mut rng = Rng::new(seed ^ 0x6d65_7373_6167_6573);
        let mut some = |high| if rng.chance(700_000) { rng.range(0, high) } else { 0 };
        let (steal, gas, refuse) = (some(100_000), some(200_000), some(300_000));
        (seed % 4 == 2).then_some(Trouble { steal, gas, refuse, rng })
    }
}
