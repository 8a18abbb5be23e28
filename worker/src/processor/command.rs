//! The program that is started for a processor.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::GroupConfig;
use crate::stage::foreign::Options;

/// The protocol of an executable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Version 2 of our protocol, described in `docs/processors.md`.
    #[default]
    Sealbus,
    /// The protocol of damocles. A built-in processor translates between it and ours.
    Damocles {
        /// How long the executable may take to report that it is ready.
        stable_wait: Duration,
        /// Other properties of the executable.
        options: Options,
    },
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub bin: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Program {
    /// The program for a processor of this group. `own` is the worker's executable.
    #[must_use]
    pub fn of(group: &GroupConfig, own: &Path) -> Self {
        let own = || group.wrapper.clone().unwrap_or_else(|| own.to_owned());
        let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (bin, mut args) = match (&group.bin, group.protocol) {
            (None, _) => (own(), text(&["processor", group.stage.name()])),
            (Some(bin), Protocol::Damocles { stable_wait, options }) => {
                let (bin, wait) = (bin.display().to_string(), stable_wait.as_millis().to_string());
                let name = group.stage.name();
                let mut args = text(&["processor", name, "--damocles", &bin, "--stable-wait-ms", &wait]);
                args.extend(options.arguments());
                args.push("--".to_owned());
                (own(), args)
            }
            (Some(bin), Protocol::Sealbus) => match &group.wrapper {
                Some(wrapper) => (wrapper.clone(), text(&["exec-child", "--", &bin.display().to_string()])),
                None => (bin.clone(), Vec::new()),
            },
        };
        args.extend(group.args.iter().cloned());
        Self { bin, args }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Stage;

    fn program(change: impl FnOnce(&mut GroupConfig)) -> String {
        let mut group = GroupConfig::built_in(Stage::C2, 1);
        change(&mut group);
        let Program { bin, args } = Program::of(&group, Path::new("/own"));
        format!("{} {}", bin.display(), args.join(" "))
    }

    #[test]
    fn the_executable_of_each_kind_of_group_is_started_as_it_must_be() {
        assert_eq!(program(|group| group.args.push("x".into())), "/own processor c2 x");
        let theirs = |group: &mut GroupConfig| {
            group.bin = Some("/bin/theirs".into());
            group.args.push("--gpu".into());
        };
        assert_eq!(program(theirs), "/bin/theirs --gpu");
        let wrapped = |group: &mut GroupConfig| {
            theirs(group);
            group.wrapper = Some("/worker".into());
        };
        assert_eq!(program(wrapped), "/worker exec-child -- /bin/theirs --gpu");
        let old = |group: &mut GroupConfig| {
            theirs(group);
            let (stable_wait, options) = (Duration::from_secs(5), Options::default());
            group.protocol = Protocol::Damocles { stable_wait, options };
        };
        assert_eq!(program(old), "/own processor c2 --damocles /bin/theirs --stable-wait-ms 5000 -- --gpu");
        let with_options = |group: &mut GroupConfig| {
            old(group);
            let options = Options { rows_to_discard: Some(7), own_parents: true, own_params: true };
            group.protocol = Protocol::Damocles { stable_wait: Duration::from_secs(1), options };
        };
        let expected = "/own processor c2 --damocles /bin/theirs --stable-wait-ms 1000 --rows-to-discard 7 --own-parents --own-params -- --gpu";
        assert_eq!(program(with_options), expected);
    }
}
