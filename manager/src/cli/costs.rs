//! `costs`: the money book, added up.

mod shown;
mod sums;

use std::collections::BTreeSet;

use anyhow::bail;
use clap::{Args, ValueEnum};
use sealbus_schema::{MinerId, SectorId};
use serde_json::{Value, json};
use time::{Date, macros::format_description};

use super::{ConfigArg, known::insist_on_miner, person::Usage};
use crate::{
    money::{AllHoldings, Purpose, Quantity, add},
    store::{BookedEntry, MoneyEnd, MoneyFilter, MoneyOrder, Store},
};
use shown::{Form, Printer, Row, name};
use sums::{Flow, Sums, fil, method_name};

/// How many notes are shown.
const NOTES: usize = 20;

/// Which part of the book, and how.
#[derive(Debug, Args)]
pub struct Costs {
    #[command(flatten)]
    config: ConfigArg,
    /// Only what is about this miner.
    #[arg(long)]
    miner: Option<MinerId>,
    /// From this day on, in UTC, such as 2026-01-31.
    #[arg(long, value_parser = day)]
    from: Option<Date>,
    /// Up to and including this day.
    #[arg(long, value_parser = day)]
    to: Option<Date>,
    /// What to add up by.
    #[arg(long, value_enum, default_value_t = By::Purpose)]
    by: By,
    /// Print comma-separated values.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What to add up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// By the reason of the change.
    Purpose,
    /// By the day of the tipset, in UTC.
    Day,
    /// By message.
    Message,
    /// By sector.
    Sector,
}

/// What is noted of the entries while they are read.
#[derive(Debug, Default)]
struct Seen {
    /// What the actors have by the entries.
    held: AllHoldings,
    /// Why some entries have no better name, with their epochs. The first ones only.
    notes: BTreeSet<(i64, String)>,
}

impl Seen {
    fn note(&mut self, booked: &BookedEntry) {
        add(&mut self.held, std::slice::from_ref(&booked.entry));
        if let Some(note) = booked.entry.note.as_ref().filter(|_| self.notes.len() < NOTES) {
            self.notes.insert((booked.epoch, note.clone()));
        }
    }
}

impl By {
    /// The columns. The first ones say what was added up; the others are sums.
    const fn headings(self) -> &'static [&'static str] {
        match self {
            By::Purpose => &["OF", "PURPOSE", "ENTRIES", "CAME", "LEFT", "SUM"],
            By::Day => &["DAY", "GAS", "FEES", "PENALTIES", "BURNT", "REWARDS", "TRANSFERS", "OTHER", "BALANCE"],
            By::Message => {
                &["MESSAGE", "EPOCH", "METHOD", "GAS", "DEPOSIT", "RETURNED", "PLEDGE", "BURNT", "TRANSFERS", "BALANCE"]
            }
            By::Sector => &[
                "SECTOR",
                "PRECOMMIT GAS",
                "PROVE COMMIT GAS",
                "DEPOSIT",
                "RETURNED",
                "DEPOSIT BURNT",
                "PLEDGE",
                "BALANCE",
            ],
        }
    }
}

impl Costs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            bail!(Usage(format!("--from {from} is after --to {to}")));
        }
        let store = self.config.store().await?;
        if let Some(miner) = self.miner {
            insist_on_miner(miner, &self.config.load()?, &store).await?;
        }
        let text = |day: Option<Date>| day.map(|day| day.to_string());
        let filter = MoneyFilter { miner: self.miner, from: text(self.from), to: text(self.to) };
        let is_whole = filter.miner.is_none() && filter.from.is_none() && filter.to.is_none();
        let (end, held) = (store.money_end().await?, store.money_holdings().await?);
        let form = match (self.csv, self.json) {
            (true, _) => Form::Csv,
            (_, true) => Form::Json,
            _ => Form::Table,
        };
        let mut seen = Seen::default();
        let printer = match self.by {
            By::Purpose => by_purpose(&store, &filter, form, &mut seen).await?,
            by => by_group(&store, &filter, by, form, &mut seen).await?,
        };
        // If anything was booked meanwhile, the two cannot be compared.
        let closes = !is_whole || store.money_holdings().await? != held || seen.held == held;
        finish(form, printer, end.as_ref(), &seen.notes, closes);
        Ok(())
    }
}

/// One row for each purpose and quantity.
async fn by_purpose(store: &Store, filter: &MoneyFilter, form: Form, seen: &mut Seen) -> anyhow::Result<Printer> {
    let mut flows: Vec<((Quantity, Purpose), Flow)> = Vec::new();
    for quantity in Quantity::ALL {
        flows.extend(Purpose::ALL.map(|purpose| ((quantity, purpose), Flow::default())));
    }
    let count = |booked: BookedEntry| {
        seen.note(&booked);
        let entry = &booked.entry;
        let found = flows.iter_mut().find(|(key, _)| *key == (entry.quantity, entry.purpose));
        if let Some((_, flow)) = found {
            flow.add(&entry.amount);
        }
    };
    store.each_money(filter, MoneyOrder::Booked, count).await?;
    let mut printer = Printer::new(form, By::Purpose.headings());
    for quantity in Quantity::ALL {
        let mut total = Flow::default();
        for ((_, purpose), flow) in flows.iter().filter(|((of, _), flow)| *of == quantity && flow.entries > 0) {
            total.join(flow);
            printer.row(purpose_row(quantity, purpose.name(), flow));
        }
        if total.entries > 0 || quantity == Quantity::Balance {
            printer.row(purpose_row(quantity, "total", &total));
        }
    }
    Ok(printer)
}

fn purpose_row(quantity: Quantity, purpose: &str, flow: &Flow) -> Row {
    let amounts = [&flow.came, &flow.left, &flow.sum()].map(|amount| json!(fil(amount)));
    [json!(quantity.name()), json!(purpose), json!(flow.entries)].into_iter().chain(amounts).collect()
}

/// One row for each day, message or sector, and one for the total.
async fn by_group(store: &Store, filter: &MoneyFilter, by: By, form: Form, seen: &mut Seen) -> anyhow::Result<Printer> {
    let order = match by {
        By::Sector => MoneyOrder::Sector,
        By::Purpose | By::Day | By::Message => MoneyOrder::Message,
    };
    let (mut printer, mut total) = (Printer::new(form, by.headings()), Sums::default());
    let mut present: Option<(Row, Sums)> = None;
    let count = |booked: BookedEntry| {
        seen.note(&booked);
        total.add(&booked.entry);
        let key = key(by, &booked);
        match &mut present {
            Some((of, sums)) if *of == key => sums.add(&booked.entry),
            _ => {
                let mut sums = Sums::default();
                sums.add(&booked.entry);
                if let Some((key, sums)) = present.replace((key, sums)) {
                    printer.row(sums_row(by, key, &sums));
                }
            }
        }
    };
    store.each_money(filter, order, count).await?;
    if let Some((key, sums)) = present {
        printer.row(sums_row(by, key, &sums));
    }
    printer.row(sums_row(by, total_key(by), &total));
    Ok(printer)
}

/// What the entry is added up with: the first columns.
fn key(by: By, booked: &BookedEntry) -> Row {
    let BookedEntry { epoch, day, entry, .. } = booked;
    match by {
        By::Purpose | By::Day => vec![json!(day)],
        By::Message => {
            let message = entry.message.as_ref();
            let method = message.map(|message| method_name(message.method));
            vec![json!(message.map(|message| &message.cid)), json!(epoch), json!(method)]
        }
        By::Sector => {
            let sector = entry.miner.zip(entry.sector).map(|(miner, number)| SectorId { miner, number });
            let miner = entry.miner.map(|miner| miner.to_string());
            vec![json!(sector.map(|sector| sector.to_string()).or(miner))]
        }
    }
}

fn total_key(by: By) -> Row {
    let rest = if by == By::Message { vec![Value::Null; 2] } else { Vec::new() };
    std::iter::once(json!("total")).chain(rest).collect()
}

fn sums_row(by: By, key: Row, sums: &Sums) -> Row {
    let (all, known) = (sums.columns(), key.len());
    let amount = |heading: &&str| json!(all.get(name(heading).as_str()).map(fil));
    key.into_iter().chain(by.headings().iter().skip(known).map(amount)).collect()
}

/// Prints what is left, where the book ends, and whether something is wrong with it.
fn finish(form: Form, printer: Printer, end: Option<&MoneyEnd>, notes: &BTreeSet<(i64, String)>, closes: bool) {
    let notes: Vec<String> = notes.iter().map(|(epoch, note)| format!("epoch {epoch}: {note}")).collect();
    let book = json!({
        "epoch": end.map(|end| end.epoch),
        "notes": notes,
        "problem": end.and_then(|end| end.problem.as_ref()),
        "closes": closes,
    });
    printer.finish(&book);
    if form == Form::Json {
        return;
    }
    let end_words = match end {
        None => "the book has not begun: a running manager begins it".to_owned(),
        Some(end) => format!("the book ends before epoch {}", end.epoch),
    };
    match form {
        Form::Table => outln!("  {end_words}"),
        _ => errln!("{end_words}"),
    }
    for note in notes {
        errln!("note: {note}");
    }
    if let Some(problem) = end.and_then(|end| end.problem.as_ref()) {
        errln!("note: the book does not go on: {problem}");
    }
    if !closes {
        errln!("error: the entries do not add up to what the actors have at the book's end; please report this");
    }
}

fn day(text: &str) -> Result<Date, String> {
    Date::parse(text, format_description!("[year]-[month]-[day]"))
        .map_err(|_| format!("`{text}` is not a day such as 2026-01-31"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_date_of_the_calendar() {
        assert_eq!(day("2026-01-31").map(|day| day.to_string()), Ok("2026-01-31".to_owned()));
        for bad in ["", "2026-02-30", "31.1.2026", "2026-1-31", "today"] {
            assert!(day(bad).is_err_and(|error| error.contains("2026-01-31")), "{bad}");
        }
    }
}
