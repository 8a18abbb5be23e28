//! Who gives an order, and the question before one that reaches far.

use std::io::{BufRead, IsTerminal};

use clap::Args;

use crate::commands::Person;

/// Who orders it, and why.
#[derive(Debug, Args)]
pub struct By {
    /// Why, for those who read the audit later.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    who: Who,
}

/// Who orders it.
#[derive(Debug, Args)]
pub struct Who {
    /// In whose name; the user who runs the command if it is not given.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    by: Option<String>,
}

/// The command line is wrong: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl By {
    pub(super) fn person(&self) -> Person {
        self.who.because(&self.why)
    }
}

impl Who {
    pub(super) fn because(&self, why: &str) -> Person {
        let environment = || ["SUDO_USER", "USER"].into_iter().find_map(|name| std::env::var(name).ok());
        let name = self.by.clone().or_else(environment).filter(|name| !name.is_empty());
        Person { name: name.unwrap_or_else(|| "unknown".to_owned()), why: why.trim().to_owned() }
    }
}

/// Asks whether to go on. Without a terminal nobody can answer, so the answer must be on the command line.
pub fn confirm(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Usage(format!("{question} There is no terminal to ask at: add --yes to go on")).into());
    }
    err!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let yes = matches!(answer.trim(), "y" | "Y" | "yes");
    if !yes {
        errln!("nothing was ordered");
    }
    Ok(yes)
}
