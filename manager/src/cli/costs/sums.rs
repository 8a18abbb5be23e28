//! Adds up entries of the money book.

use std::collections::BTreeMap;

use fvm_shared::econ::TokenAmount;

use crate::{
    chain::params::{METHOD_PRE_COMMIT_SECTOR_BATCH2, METHOD_PROVE_COMMIT_SECTORS3, METHOD_SEND},
    money::{Entry, Purpose, Quantity},
};

/// What came and left for one reason.
#[derive(Debug, Default)]
pub struct Flow {
    /// How many entries.
    pub entries: u64,
    /// The sum of what came.
    pub came: TokenAmount,
    /// The sum of what left; not positive.
    pub left: TokenAmount,
}

/// The sums of one day, message or sector.
#[derive(Debug, Default)]
pub struct Sums {
    columns: BTreeMap<&'static str, TokenAmount>,
}

impl Flow {
    /// Adds an entry's amount.
    pub fn add(&mut self, amount: &TokenAmount) {
        self.entries += 1;
        if amount.is_negative() {
            self.left += amount;
        } else {
            self.came += amount;
        }
    }

    /// Adds another flow.
    pub fn join(&mut self, other: &Flow) {
        self.entries += other.entries;
        self.came += &other.came;
        self.left += &other.left;
    }

    /// What came, less what left.
    pub fn sum(&self) -> TokenAmount {
        &self.came + &self.left
    }
}

impl Sums {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        let amount = &entry.amount;
        let mut to = |column| *self.columns.entry(column).or_default() += amount;
        match (entry.quantity, entry.purpose) {
            // Neither came or left.
            (Quantity::Balance, Purpose::Opening | Purpose::Moved) => return,
            (Quantity::Balance, Purpose::Gas) => {
                to("gas");
                match entry.message.as_ref().map(|message| message.method) {
                    Some(METHOD_PRE_COMMIT_SECTOR_BATCH2) => to("precommit_gas"),
                    Some(METHOD_PROVE_COMMIT_SECTORS3) => to("prove_commit_gas"),
                    _ => {}
                }
            }
            (Quantity::Balance, Purpose::Fee) => to("fees"),
            (Quantity::Balance, Purpose::Penalty) => to("penalties"),
            (Quantity::Balance, Purpose::Burnt) => to("burnt"),
            (Quantity::Balance, Purpose::DepositBurnt) => {
                to("deposit_burnt");
                to("burnt");
            }
            (Quantity::Balance, Purpose::Reward) => to("rewards"),
            (Quantity::Balance, Purpose::Transfer) => to("transfers"),
            (Quantity::Balance, _) => to("other"),
            (Quantity::Deposits, Purpose::Deposit) if amount.is_positive() => to("deposit"),
            (Quantity::Deposits, Purpose::Deposit) => to("released"),
            (Quantity::Pledge, Purpose::Pledge) => to("pledge"),
            _ => {}
        }
        if entry.quantity == Quantity::Balance {
            *self.columns.entry("balance").or_default() += amount;
        }
    }

    /// Every column. `balance` is what came less what left, and so the sum of all columns about the balance. What was released
    /// of a deposit and not burnt is returned.
    pub fn columns(&self) -> BTreeMap<&'static str, TokenAmount> {
        const ALL: [&str; 16] = [
            "gas",
            "precommit_gas",
            "prove_commit_gas",
            "fees",
            "penalties",
            "burnt",
            "deposit_burnt",
            "rewards",
            "transfers",
            "other",
            "deposit",
            "released",
            "returned",
            "pledge",
            "balance",
            "vesting",
        ];
        let mut all: BTreeMap<_, _> =
            ALL.into_iter().map(|name| (name, self.columns.get(name).cloned().unwrap_or_default())).collect();
        // Both are negative.
        let returned = &all["deposit_burnt"] - &all["released"];
        all.insert("returned", returned);
        all
    }
}

/// An amount in FIL, with all its digits.
pub fn fil(amount: &TokenAmount) -> String {
    let text = amount.to_string();
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// A method's name for people. Numbers are those of miner actors.
pub fn method_name(method: u64) -> String {
    let name = match method {
        METHOD_SEND => "Send",
        3 => "ChangeWorkerAddress",
        5 => "SubmitWindowedPoSt",
        9 => "TerminateSectors",
        10 => "DeclareFaults",
        11 => "DeclareFaultsRecovered",
        16 => "WithdrawBalance",
        18 => "ChangeMultiaddrs",
        19 => "CompactPartitions",
        20 => "CompactSectorNumbers",
        21 => "ConfirmChangeWorkerAddress",
        22 => "RepayDebt",
        23 => "ChangeOwnerAddress",
        24 => "DisputeWindowedPoSt",
        METHOD_PRE_COMMIT_SECTOR_BATCH2 => "PreCommitSectorBatch2",
        30 => "ChangeBeneficiary",
        32 => "ExtendSectorExpiration2",
        METHOD_PROVE_COMMIT_SECTORS3 => "ProveCommitSectors3",
        35 => "ProveReplicaUpdates3",
        36 => "ProveCommitSectorsNI",
        37 => "UpgradeSectorQuality",
        other => return format!("method {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::MessageRef;

    fn entry(quantity: Quantity, purpose: Purpose, atto: i64) -> Entry {
        Entry::new(1000, quantity, purpose, TokenAmount::from_atto(atto))
    }

    #[test]
    fn the_columns_about_the_balance_add_up_and_what_was_released_is_returned_or_burnt() {
        use Purpose::*;
        let gas = Entry {
            message: Some(MessageRef { cid: "a".to_owned(), method: 28 }),
            ..entry(Quantity::Balance, Gas, -7)
        };
        let mut sums = Sums::default();
        for entry in [
            gas,
            entry(Quantity::Balance, Gas, -1),
            entry(Quantity::Balance, Opening, 1000),
            entry(Quantity::Balance, Moved, 50),
            entry(Quantity::Balance, Fee, -2),
            entry(Quantity::Balance, Penalty, -3),
            entry(Quantity::Balance, DepositBurnt, -4),
            entry(Quantity::Balance, Burnt, -5),
            entry(Quantity::Balance, Reward, 100),
            entry(Quantity::Balance, Transfer, -20),
            entry(Quantity::Balance, Other, -9),
            entry(Quantity::Deposits, Deposit, 10),
            entry(Quantity::Deposits, Deposit, -10),
            entry(Quantity::Pledge, Pledge, 30),
            entry(Quantity::Vesting, Vesting, 75),
        ] {
            sums.add(&entry);
        }
        let all = sums.columns();
        let atto = |name: &str| all[name].atto().to_string();
        let parts = ["gas", "fees", "penalties", "burnt", "rewards", "transfers", "other"];
        let total: TokenAmount = parts.iter().fold(TokenAmount::default(), |sum, name| sum + &all[*name]);
        assert_eq!((total.atto().to_string(), atto("balance")), ("49".to_owned(), "49".to_owned()));
        assert_eq!((atto("precommit_gas"), atto("prove_commit_gas")), ("-7".to_owned(), "0".to_owned()));
        assert_eq!((atto("deposit"), atto("returned"), atto("pledge")), ("10".into(), "6".into(), "30".into()));
    }

    #[test]
    fn an_amount_has_all_its_digits() {
        assert_eq!(fil(&TokenAmount::from_atto(-1)), "-0.000000000000000001");
        assert_eq!(fil(&TokenAmount::from_whole(3)), "3");
        assert_eq!(fil(&TokenAmount::from_nano(1_500_000_000)), "1.5");
    }
}
