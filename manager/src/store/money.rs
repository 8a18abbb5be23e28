//! The money book.

use std::collections::{BTreeMap, BTreeSet};

use fvm_shared::econ::TokenAmount;
use sealbus_schema::{MinerId, SectorId, SectorNumber};
use sqlx::{
    Any, Row,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use super::{Store, StoreError, Tx, rows, sql, statements::Statement};
use crate::{
    chain::json::parse_tokens,
    money::{ActorId, AllHoldings, Entry, Executed, Holdings, MessageRef, Purpose, Quantity, add},
};

/// How many rows are read at once.
const PAGE: i64 = 2000;

/// Where the book ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoneyEnd {
    /// The epoch of the tipset before whose execution the actors have what is booked.
    pub epoch: i64,
    /// The tipset's key, as stored.
    pub tipset: String,
    /// Why the book does not go on, if something is wrong.
    pub problem: Option<String>,
}

/// Which entries to read.
#[derive(Clone, Debug, Default)]
pub struct MoneyFilter {
    /// Only those about this miner, and those of its own actor.
    pub miner: Option<MinerId>,
    /// From this day on: `2026-11-28`.
    pub from: Option<String>,
    /// Up to this day.
    pub to: Option<String>,
}

/// An order in which entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyOrder {
    /// As they were booked.
    Booked,
    /// By epoch and message.
    Message,
    /// By miner and sector.
    Sector,
}

/// An entry with its place and day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookedEntry {
    /// Its number. Later entries have higher ones.
    pub id: i64,
    /// The epoch of the tipset whose execution it is about.
    pub epoch: i64,
    /// The tipset's day.
    pub day: String,
    /// The entry.
    pub entry: Entry,
}

impl Store {
    /// Where the book ends. `None` before it has begun.
    pub async fn money_end(&self) -> Result<Option<MoneyEnd>, StoreError> {
        let row = sqlx::query("SELECT epoch, tipset, problem FROM money_end WHERE \"only\" = 1")
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read the money book's end"))?;
        let read =
            |row: AnyRow| MoneyEnd { epoch: row.get("epoch"), tipset: row.get("tipset"), problem: row.get("problem") };
        Ok(row.map(read))
    }

    /// What each actor of the book has at its end.
    pub async fn money_holdings(&self) -> Result<AllHoldings, StoreError> {
        let rows = sqlx::query("SELECT actor, balance, deposits, pledge, vesting FROM money_actors")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read what the actors have"))?;
        rows.iter().map(holdings).collect()
    }

    /// The actors of the book that are miners.
    pub async fn money_miners(&self) -> Result<BTreeSet<MinerId>, StoreError> {
        let rows = sqlx::query("SELECT DISTINCT actor FROM money WHERE purpose = 'opening' AND miner = actor")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the book's miners"))?;
        rows.iter().map(|row| actor(row).map(MinerId)).collect()
    }

    /// The last tipsets with entries below an epoch, with their keys, highest first.
    pub async fn money_tipsets_below(&self, epoch: i64) -> Result<Vec<(i64, String)>, StoreError> {
        let rows =
            sqlx::query("SELECT epoch, tipset FROM money_tipsets WHERE epoch < $1 ORDER BY epoch DESC LIMIT 100")
                .bind(epoch)
                .fetch_all(&self.pool)
                .await
                .map_err(sql("read the book's tipsets"))?;
        Ok(rows.iter().map(|row| (row.get("epoch"), row.get("tipset"))).collect())
    }

    /// The sectors of a miner whose deposits are booked as locked, with these.
    pub async fn locked_deposits(&self, miner: MinerId) -> Result<Vec<(SectorId, TokenAmount)>, StoreError> {
        let rows = sqlx::query(
            "SELECT sector, amount FROM money WHERE COALESCE(miner, '') = $1 AND quantity = 'deposits' AND sector IN ( \
                 SELECT sector FROM money WHERE COALESCE(miner, '') = $2 AND quantity = 'deposits' \
                 GROUP BY sector HAVING SUM(CASE WHEN amount LIKE '-%' THEN -1 ELSE 1 END) > 0)",
        )
        .bind(miner.to_string())
        .bind(miner.to_string())
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read the locked deposits"))?;
        let mut locked: BTreeMap<SectorId, TokenAmount> = BTreeMap::new();
        for row in rows {
            let number = SectorNumber(row.get::<i64, _>("sector") as u64);
            *locked.entry(SectorId { miner, number }).or_default() += amount(&row, "amount")?;
        }
        Ok(locked.into_iter().collect())
    }

    /// Calls `show` with the entries one after the other. They are read in pages, so that no transaction is open while
    /// `show` waits for whoever reads its output.
    pub async fn each_money(
        &self,
        filter: &MoneyFilter,
        order_of: MoneyOrder,
        mut show: impl FnMut(BookedEntry),
    ) -> Result<(), StoreError> {
        let (order, after) = match order_of {
            MoneyOrder::Booked => ("money.id", "money.id > $7"),
            MoneyOrder::Message => (
                "money.epoch, COALESCE(message, ''), money.id",
                "(money.epoch, COALESCE(message, ''), money.id) > ($7, $8, $9)",
            ),
            MoneyOrder::Sector => (
                "COALESCE(miner, ''), COALESCE(sector, -1), money.id",
                "(COALESCE(miner, ''), COALESCE(sector, -1), money.id) > ($7, $8, $9)",
            ),
        };
        let text = format!(
            "SELECT money.id, money.epoch, day, actor, quantity, purpose, amount, miner, sector, message, method, note \
             FROM money JOIN money_tipsets ON money_tipsets.epoch = money.epoch \
             WHERE ($1 = '' OR miner = $2 OR actor = $3) AND day >= $4 AND day <= $5 AND money.id <= $6 AND {after} \
             ORDER BY {order} LIMIT {PAGE}"
        );
        let miner = filter.miner.map(|miner| miner.to_string()).unwrap_or_default();
        let last = sqlx::query("SELECT COALESCE(MAX(id), 0) AS last FROM money")
            .fetch_one(&self.pool)
            .await
            .map_err(sql("read the money book"))?
            .get::<i64, _>("last");
        let mut shown: Option<BookedEntry> = None;
        loop {
            let query = sqlx::query(&text)
                .bind(&miner)
                .bind(&miner)
                .bind(&miner)
                .bind(filter.from.as_deref().unwrap_or(""))
                .bind(filter.to.as_deref().unwrap_or("9999-12-31"))
                .bind(last);
            let rows = place(query, order_of, shown.as_ref())
                .fetch_all(&self.pool)
                .await
                .map_err(sql("read the money book"))?;
            let is_last = (rows.len() as i64) < PAGE;
            for row in &rows {
                let entry = booked(row)?;
                show(entry.clone());
                shown = Some(entry);
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Binds the place in the order behind which reading goes on.
fn place<'q>(
    query: Query<'q, Any, AnyArguments<'q>>,
    order: MoneyOrder,
    after: Option<&BookedEntry>,
) -> Query<'q, Any, AnyArguments<'q>> {
    let id = after.map_or(0, |after| after.id);
    match order {
        MoneyOrder::Booked => query.bind(id),
        MoneyOrder::Message => {
            let message = after.and_then(|after| after.entry.message.as_ref());
            let cid = message.map(|message| message.cid.clone()).unwrap_or_default();
            query.bind(after.map_or(i64::MIN, |after| after.epoch)).bind(cid).bind(id)
        }
        MoneyOrder::Sector => {
            let entry = after.map(|after| &after.entry);
            let miner = entry.and_then(|entry| entry.miner).map(|miner| miner.to_string()).unwrap_or_default();
            let sector = entry.map_or(-2, |entry| entry.sector.map_or(-1, |number| number.0 as i64));
            query.bind(miner).bind(sector).bind(id)
        }
    }
}

impl Tx {
    /// Books entries about a tipset's execution.
    pub async fn book_money(&mut self, executed: &Executed, entries: &[Entry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        sqlx::query("INSERT INTO money_tipsets (epoch, tipset, day) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(executed.epoch)
            .bind(&executed.tipset)
            .bind(&executed.day)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("book a tipset"))?;
        let places = self.places;
        let statements = rows::chunks(entries).map(move |entries| {
            let into = "INSERT INTO money (epoch, actor, quantity, purpose, amount, miner, sector, message, method, note) \
                        VALUES ";
            let statement = Statement::of_rows(places, into, (entries.len(), 10), "");
            entries.iter().fold(statement, |statement, entry| bind(statement, executed.epoch, entry))
        });
        self.execute_each("book money", Box::new(statements)).await?;
        self.change_holdings(entries).await
    }

    /// Records where the book ends.
    pub async fn end_money(&mut self, end: &MoneyEnd) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO money_end (\"only\", epoch, tipset, problem) VALUES (1, $1, $2, $3) ON CONFLICT (\"only\") \
             DO UPDATE SET epoch = excluded.epoch, tipset = excluded.tipset, problem = excluded.problem",
        )
        .bind(end.epoch)
        .bind(&end.tipset)
        .bind(&end.problem)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record the money book's end"))?;
        Ok(())
    }

    /// Withdraws what is booked for tipsets above an epoch, because the chain no longer has them. The actors then have what
    /// they had before. `None` withdraws the whole book, which then begins anew.
    pub async fn withdraw_money(&mut self, above: Option<i64>) -> Result<(), StoreError> {
        let above = above.unwrap_or(i64::MIN);
        loop {
            let rows = sqlx::query(
                "DELETE FROM money WHERE id IN (SELECT id FROM money WHERE epoch > $1 ORDER BY id LIMIT 1000) \
                 RETURNING actor, quantity, purpose, amount, miner, sector, message, method, note",
            )
            .bind(above)
            .fetch_all(&mut *self.inner)
            .await
            .map_err(sql("withdraw entries"))?;
            if rows.is_empty() {
                break;
            }
            let back = |row: &AnyRow| entry(row).map(|entry| Entry { amount: -entry.amount, ..entry });
            let back: Vec<Entry> = rows.iter().map(back).collect::<Result<_, _>>()?;
            self.change_holdings(&back).await?;
        }
        sqlx::query("DELETE FROM money_tipsets WHERE epoch > $1")
            .bind(above)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("withdraw entries"))?;
        for text in [
            // An actor whose opening is withdrawn is no longer in the book.
            "DELETE FROM money_actors WHERE actor NOT IN (SELECT actor FROM money WHERE purpose = 'opening')",
            "DELETE FROM money_end WHERE NOT EXISTS (SELECT 1 FROM money)",
        ] {
            sqlx::query(text).execute(&mut *self.inner).await.map_err(sql("withdraw entries"))?;
        }
        Ok(())
    }

    /// Adds entries to what their actors have.
    async fn change_holdings(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut changes = AllHoldings::new();
        add(&mut changes, entries);
        for (actor, change) in changes {
            let had =
                sqlx::query("SELECT actor, balance, deposits, pledge, vesting FROM money_actors WHERE actor = $1")
                    .bind(name(actor))
                    .fetch_optional(&mut *self.inner)
                    .await
                    .map_err(sql("read what an actor has"))?;
            let had = had.as_ref().map(holdings).transpose()?.map(|(_, had)| had).unwrap_or_default();
            let has = Quantity::ALL.map(|quantity| (had.of(quantity) + change.of(quantity)).atto().to_string());
            let query = sqlx::query(
                "INSERT INTO money_actors (actor, balance, deposits, pledge, vesting) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (actor) DO UPDATE SET balance = excluded.balance, deposits = excluded.deposits, \
                 pledge = excluded.pledge, vesting = excluded.vesting",
            )
            .bind(name(actor));
            let query = has.into_iter().fold(query, |query, amount| query.bind(amount));
            query.execute(&mut *self.inner).await.map_err(sql("record what an actor has"))?;
        }
        Ok(())
    }
}

fn bind<'q>(statement: Statement<'q>, epoch: i64, entry: &'q Entry) -> Statement<'q> {
    statement
        .bind(epoch)
        .bind(name(entry.actor))
        .bind(entry.quantity.name())
        .bind(entry.purpose.name())
        .bind(entry.amount.atto().to_string())
        .bind(entry.miner.map(|miner| miner.to_string()))
        .bind(entry.sector.map(|sector| sector.0 as i64))
        .bind(entry.message.as_ref().map(|message| message.cid.as_str()))
        .bind(entry.message.as_ref().map(|message| message.method as i64))
        .bind(entry.note.as_deref())
}

/// An actor's id address. Those of miners are written alike.
fn name(actor: ActorId) -> String {
    MinerId(actor).to_string()
}

fn bad(problem: String) -> StoreError {
    StoreError::BadRow { what: "the money book".to_owned(), problem }
}

fn amount(row: &AnyRow, column: &str) -> Result<TokenAmount, StoreError> {
    parse_tokens(&row.get::<String, _>(column)).map_err(bad)
}

fn actor(row: &AnyRow) -> Result<ActorId, StoreError> {
    let text: String = row.get("actor");
    text.parse::<MinerId>().map(|id| id.0).map_err(|error| bad(format!("actor {text}: {error}")))
}

fn holdings(row: &AnyRow) -> Result<(ActorId, Holdings), StoreError> {
    let mut holdings = Holdings::default();
    for quantity in Quantity::ALL {
        *holdings.of_mut(quantity) = amount(row, quantity.name())?;
    }
    Ok((actor(row)?, holdings))
}

fn entry(row: &AnyRow) -> Result<Entry, StoreError> {
    let (quantity, purpose): (String, String) = (row.get("quantity"), row.get("purpose"));
    let miner: Option<String> = row.get("miner");
    let miner = miner.map(|text| text.parse().map_err(|error| bad(format!("miner {text}: {error}")))).transpose()?;
    let message = row.get::<Option<String>, _>("message").zip(row.get::<Option<i64>, _>("method"));
    Ok(Entry {
        actor: actor(row)?,
        quantity: Quantity::of_name(&quantity).ok_or_else(|| bad(format!("quantity {quantity}")))?,
        purpose: Purpose::of_name(&purpose).ok_or_else(|| bad(format!("purpose {purpose}")))?,
        amount: amount(row, "amount")?,
        miner,
        sector: row.get::<Option<i64>, _>("sector").map(|number| SectorNumber(number as u64)),
        message: message.map(|(cid, method)| MessageRef { cid, method: method as u64 }),
        note: row.get("note"),
    })
}

fn booked(row: &AnyRow) -> Result<BookedEntry, StoreError> {
    Ok(BookedEntry { id: row.get("id"), epoch: row.get("epoch"), day: row.get("day"), entry: entry(row)? })
}
