//! The list of workflows, and their names on the bus and in SQL.
//!
//! A *workflow* is a procedure applied to a sector: its states, its steps, and the messages between the two sides. A
//! *job* is one workflow applied to one sector. The generic code (bus, fold, journal, commands, simulation) knows no
//! particular workflow: it uses the enums that are generated from this list.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Calls a macro with the list of workflows, one line each: the folder, the name, and the kinds of intents for its
/// jobs.
///
/// A new workflow adds one line here, and everything else in its own folders.
#[macro_export]
macro_rules! for_each_workflow {
    ($then:ident) => {
        $then! {
            seal: Seal [Rebuild = "rebuild", Seal = "seal"];
            #[cfg(feature = "toy-workflow")] toy: Toy [#[cfg(feature = "toy-workflow")] Toy = "toy"];
        }
    };
}

macro_rules! define {
    ($($(#[$cfg:meta])* $folder:ident: $name:ident [$($(#[$kind_cfg:meta])* $kind:ident = $token:literal),*];)*) => {
        /// A workflow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs, reason = "each is described in its folder")]
        pub enum Workflow {
            $($(#[$cfg])* $name,)*
        }

        /// The kind of work that an intent asks for. A workflow has one kind for each level of urgency.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs, reason = "each is described in its workflow's folder")]
        pub enum IntentKind {
            $($($(#[$kind_cfg])* $kind,)*)*
            /// A kind of a newer version. A worker that does not know a kind leaves such intents in the queue.
            #[serde(other)]
            Unknown,
        }

        impl Workflow {
            /// Every workflow.
            pub const ALL: &'static [Workflow] = &[$($(#[$cfg])* Workflow::$name,)*];

            /// The name in SQL and in tables for people, which is also its folder's.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(#[$cfg])* Workflow::$name => stringify!($folder),)*
                }
            }

            /// The kinds of intents for its jobs, the most urgent first.
            pub const fn intents(self) -> &'static [IntentKind] {
                match self {
                    $($(#[$cfg])* Workflow::$name => &[$($(#[$kind_cfg])* IntentKind::$kind),*],)*
                }
            }
        }

        impl IntentKind {
            /// The kinds that a worker takes, the most urgent first.
            pub const ALL: &'static [IntentKind] = &[$($($(#[$kind_cfg])* IntentKind::$kind,)*)*];

            /// The kind's token in subjects.
            pub const fn name(self) -> &'static str {
                match self {
                    $($($(#[$kind_cfg])* IntentKind::$kind => $token,)*)*
                    IntentKind::Unknown => "unknown",
                }
            }

            /// The workflow whose jobs it offers. `None` for a kind of a newer version.
            pub const fn workflow(self) -> Option<Workflow> {
                match self {
                    $($($(#[$kind_cfg])* IntentKind::$kind => Some(Workflow::$name),)*)*
                    IntentKind::Unknown => None,
                }
            }
        }
    };
}
for_each_workflow!(define);

impl fmt::Display for Workflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for IntentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_intent_is_named_alike_in_its_subject_and_in_its_body_and_belongs_to_one_workflow() {
        for kind in IntentKind::ALL {
            assert_eq!(serde_json::to_string(kind).expect("json"), format!("\"{kind}\""));
            assert!(kind.workflow().is_some_and(|workflow| workflow.intents().contains(kind)), "{kind}");
        }
        let names: BTreeSet<_> = IntentKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), IntentKind::ALL.len());
    }
}
