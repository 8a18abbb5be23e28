//! Facts: the manager's answers in the sector's log.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{error::ErrorReport, id::Token, identity::KnownStore, phase::Phase, workflows};

/// An answer of the manager. The last one of each kind counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The lease that it is meant for.
    #[serde(default)]
    pub token: Token,
    /// How many orders to resubmit had been given when the fact was written. For an order to resubmit, its own number.
    /// See [`Fact::counts_for`].
    #[serde(default)]
    pub serial: u32,
    /// Its content.
    #[serde(flatten)]
    pub body: FactBody,
}

/// The facts that jobs of every workflow have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CommonFact {
    /// The attempt is worthless: drop it and clean the slot.
    Abandon {
        /// The cause.
        error: ErrorReport,
    },
    /// A person resubmits the job: continue.
    Resubmit {
        /// The phase to go back to. `None`: continue where the job is. This never moves a job forward.
        #[serde(default)]
        from: Option<Phase>,
    },
}

/// A fact of a newer version. It has no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewerFact {
    /// The name of its kind.
    pub kind: String,
}

/// A fact's kind, which is the last token of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FactKind(pub &'static str);

/// What each workflow must say about its facts.
pub trait WorkflowFact {
    /// Every kind. Kinds are unique among all workflows.
    const KINDS: &'static [FactKind];

    /// The fact's kind.
    fn kind(&self) -> FactKind;

    /// Adds the known permanent stores, if the owner is about to write into one.
    fn note_stores(&mut self, _known: &[KnownStore]) {}

    /// The known permanent stores that it names.
    fn known_stores(&self) -> &[KnownStore] {
        &[]
    }

    /// Whether an order to resubmit leaves it in force.
    fn outlives_resubmit(&self) -> bool {
        false
    }
}

macro_rules! define_fact_body {
    ($($(#[$cfg:meta])* $folder:ident: $name:ident $kinds:tt;)*) => {
        /// A fact's content. Kinds are unique among all workflows.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(untagged)]
        #[allow(missing_docs, reason = "each workflow's facts are described in its folder")]
        pub enum FactBody {
            /// A fact of every workflow.
            Common(CommonFact),
            $($(#[$cfg])* $name(workflows::$folder::Fact),)*
            /// A fact of a newer version.
            Newer(NewerFact),
        }

        impl FactBody {
            fn kinds() -> impl Iterator<Item = FactKind> {
                let kinds = CommonFact::KINDS.iter();
                $($(#[$cfg])* let kinds = kinds.chain(<workflows::$folder::Fact as WorkflowFact>::KINDS);)*
                kinds.copied()
            }

            /// The fact's kind. `None` for one of a newer version.
            pub fn kind(&self) -> Option<FactKind> {
                Some(match self {
                    FactBody::Common(fact) => fact.kind(),
                    $($(#[$cfg])* FactBody::$name(fact) => fact.kind(),)*
                    FactBody::Newer(_) => return None,
                })
            }

            /// Adds the known permanent stores, if the owner is about to write into one.
            pub fn note_stores(&mut self, known: &[KnownStore]) {
                match self {
                    $($(#[$cfg])* FactBody::$name(fact) => fact.note_stores(known),)*
                    FactBody::Common(_) | FactBody::Newer(_) => {}
                }
            }

            /// The known permanent stores that it names; empty if it names none.
            pub fn known_stores(&self) -> &[KnownStore] {
                match self {
                    $($(#[$cfg])* FactBody::$name(fact) => fact.known_stores(),)*
                    FactBody::Common(_) | FactBody::Newer(_) => &[],
                }
            }

            /// Whether it stays in force although an order to resubmit was carried out after it was written.
            fn outlives_resubmit(&self) -> bool {
                match self {
                    FactBody::Common(CommonFact::Abandon { .. }) => true,
                    $($(#[$cfg])* FactBody::$name(fact) => fact.outlives_resubmit(),)*
                    FactBody::Common(CommonFact::Resubmit { .. }) | FactBody::Newer(_) => false,
                }
            }
        }

        $($(#[$cfg])* impl From<workflows::$folder::Fact> for FactBody {
            fn from(fact: workflows::$folder::Fact) -> FactBody {
                FactBody::$name(fact)
            }
        })*
    };
}
crate::for_each_workflow!(define_fact_body);

impl From<CommonFact> for FactBody {
    fn from(fact: CommonFact) -> FactBody {
        FactBody::Common(fact)
    }
}

impl FactKind {
    /// Drop the attempt.
    pub const ABANDON: FactKind = FactKind("abandon");
    /// Continue.
    pub const RESUBMIT: FactKind = FactKind("resubmit");

    /// The kind's name in subjects and headers.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for FactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl CommonFact {
    /// Every kind.
    pub const KINDS: &'static [FactKind] = &[FactKind::ABANDON, FactKind::RESUBMIT];

    const fn kind(&self) -> FactKind {
        match self {
            CommonFact::Abandon { .. } => FactKind::ABANDON,
            CommonFact::Resubmit { .. } => FactKind::RESUBMIT,
        }
    }
}

impl<'de> Deserialize<'de> for NewerFact {
    /// A fact of a known kind that cannot be parsed is an error, not a fact of a newer version.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<NewerFact, D::Error> {
        #[derive(Deserialize)]
        struct Tagged {
            kind: String,
        }
        let Tagged { kind } = Tagged::deserialize(deserializer)?;
        match FactBody::kinds().any(|known| known.name() == kind) {
            true => Err(serde::de::Error::custom(format!("a fact `{kind}` whose fields are not those of its kind"))),
            false => Ok(NewerFact { kind }),
        }
    }
}

impl Fact {
    /// A fact for a lease. `serial` is the number of orders to resubmit given so far.
    pub fn new(token: Token, serial: u32, body: impl Into<FactBody>) -> Fact {
        Fact { token, serial, body: body.into() }
    }

    /// The fact's kind. `None` for one of a newer version.
    pub fn kind(&self) -> Option<FactKind> {
        self.body.kind()
    }

    /// Whether the fact is meant for this lease and was not withdrawn by an order to resubmit that the owner has
    /// carried out. `resubmitted` is the serial of the last such order.
    pub fn counts_for(&self, token: Token, resubmitted: u32) -> bool {
        let fresh = match &self.body {
            FactBody::Newer(_) => false,
            FactBody::Common(CommonFact::Resubmit { .. }) => self.serial > resubmitted,
            body => body.outlives_resubmit() || self.serial >= resubmitted,
        };
        fresh && self.token == token
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::codec;

    #[test]
    fn kinds_of_facts_are_unique_among_all_workflows() {
        let kinds: Vec<_> = FactBody::kinds().collect();
        assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), kinds.len(), "{kinds:?}");
    }

    #[test]
    fn a_fact_survives_the_bus_and_one_of_a_newer_version_is_known_for_that() {
        let fact = Fact::new(Token(7), 2, CommonFact::Resubmit { from: Some(Phase::C1) });
        let back: Fact = codec::decode(&codec::encode(&fact).expect("packs")).expect("unpacks");
        assert_eq!(back, fact);
        let newer: Fact = serde_json::from_str(r#"{"kind":"teleport","token":7,"to":"mars"}"#).expect("reads");
        assert!(newer.kind().is_none() && !newer.counts_for(Token(7), 0));
        assert!(serde_json::from_str::<Fact>(r#"{"kind":"abandon","token":7}"#).is_err(), "without a cause");
    }
}
