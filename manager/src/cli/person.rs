//! Who gives an order, and the confirmation of orders with wide effects.

use std::io::{BufRead, IsTerminal};

use clap::Args;

use crate::commands::Person;

/// The most characters in a name given with `--by`.
const MAX_NAME_CHARS: usize = 64;
/// The kernel's login uid of a process without a login.
const NO_LOGIN: u32 = u32::MAX;

/// Who gives the order, and why.
#[derive(Debug, Args)]
pub struct By {
    /// The reason, for those who read the audit later.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    who: Who,
}

/// Who gives the order.
#[derive(Debug, Args)]
pub struct Who {
    /// In whose name the order is given. Recorded as a claim, besides the user who runs the command.
    #[arg(long, value_parser = name)]
    by: Option<String>,
}

/// The command line is wrong: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Who runs this process, according to the operating system and `sudo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Identity {
    /// The user that the process runs as, whatever the environment says.
    user: String,
    /// The user who logged in, if the kernel knows one and it differs. Only root can change it.
    login: Option<String>,
    /// The user named by `sudo`, from the environment, so the user who runs the process can set it.
    sudo: Option<String>,
}

impl By {
    pub(super) fn person(&self) -> Person {
        self.who.because(&self.why)
    }
}

impl Who {
    pub(super) fn because(&self, why: &str) -> Person {
        Person { name: Identity::of_this_process().words(self.by.as_deref()), why: why.trim().to_owned() }
    }
}

impl Identity {
    fn of_this_process() -> Identity {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let uid = rustix::process::geteuid().as_raw();
        // The system's name service knows more users than /etc/passwd.
        let user = whoami::fallible::username().ok().as_deref().and_then(printable);
        let user = user.unwrap_or_else(|| name_of(uid, &passwd));
        let logged_in = std::fs::read_to_string("/proc/self/loginuid").ok();
        let logged_in: Option<u32> = logged_in.and_then(|text| text.trim().parse().ok());
        let login = logged_in.filter(|login| *login != NO_LOGIN && *login != uid).map(|login| name_of(login, &passwd));
        let sudo = std::env::var("SUDO_USER").ok().as_deref().and_then(printable);
        Identity { user, login, sudo }
    }

    /// In one line, beginning with what is certain.
    fn words(&self, said: Option<&str>) -> String {
        let Identity { user, login, sudo } = self;
        let mut words = match login {
            Some(login) => format!("{login} as {user}"),
            None => user.clone(),
        };
        if let Some(sudo) = sudo.as_ref().filter(|sudo| *sudo != user && Some(*sudo) != login.as_ref()) {
            words.push_str(&format!(", by sudo from {sudo}"));
        }
        if let Some(said) = said.filter(|said| said != user) {
            words.push_str(&format!(", said to be {said}"));
        }
        words
    }
}

/// A user's name from the text of a passwd file.
fn name_of(uid: u32, passwd: &str) -> String {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| printable(name))?
    };
    passwd.lines().find_map(of_line).unwrap_or_else(|| format!("uid {uid}"))
}

/// A name, if it can be shown in one line.
fn printable(name: &str) -> Option<String> {
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
    Some(name).filter(|name| !name.is_empty())
}

fn name(text: &str) -> Result<String, String> {
    match printable(text) {
        Some(name) if name == text.trim() => Ok(name),
        Some(_) => Err(format!("a name has at most {MAX_NAME_CHARS} characters, and no control characters")),
        None => Err("a name must not be empty".to_owned()),
    }
}

/// Asks for confirmation. Without a terminal the answer must be on the command line.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_certain_comes_before_what_was_said() {
        let identity = |user: &str, login: Option<&str>, sudo: Option<&str>| Identity {
            user: user.to_owned(),
            login: login.map(str::to_owned),
            sudo: sudo.map(str::to_owned),
        };
        for (who, said, words) in [
            (identity("alice", None, None), None, "alice"),
            (identity("alice", None, None), Some("alice"), "alice"),
            (identity("alice", None, None), Some("bob"), "alice, said to be bob"),
            (identity("sealbus", Some("alice"), Some("alice")), None, "alice as sealbus"),
            (identity("sealbus", Some("alice"), Some("eve")), None, "alice as sealbus, by sudo from eve"),
            (identity("sealbus", None, Some("alice")), Some("bob"), "sealbus, by sudo from alice, said to be bob"),
        ] {
            assert_eq!(who.words(said), words);
        }
    }

    #[test]
    fn a_user_is_found_by_number_and_one_without_a_name_is_a_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbad line\na\u{1b}[2Jb:x:7:7::/:/bin/sh\n";
        assert_eq!(name_of(0, passwd), "root");
        assert_eq!(name_of(7, passwd), "a[2Jb");
        assert_eq!(name_of(1000, passwd), "uid 1000");
    }

    #[test]
    fn a_name_that_is_given_is_one_short_line() {
        assert_eq!(name(" bob "), Ok("bob".to_owned()));
        for bad in ["", "  ", "a\nb", "\u{1b}[2J", &"x".repeat(65)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }
}
