//! Events: a worker's reports in the sector's log.

use serde::{Deserialize, Serialize};

use crate::{error::ErrorReport, id::Token, phase::Phase, workflows};

/// One entry of a worker in the sector's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The lease under which the worker reports.
    pub token: Token,
    /// The event's number under that token, from 1 without gaps. A re-sent event has the same number.
    pub number: u64,
    /// What happened.
    pub body: EventBody,
}

/// The events that jobs of every workflow have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CommonEvent {
    /// A processor was given to a phase.
    PhaseStarted {
        /// The phase.
        phase: Phase,
        /// Which try of the phase, from 1.
        attempt: u32,
        /// The processor that serves it, such as `pc1-0`.
        processor: String,
    },
    /// The job was successful, and the slot is clean.
    Finished {},
    /// Something went wrong.
    Failed {
        /// The error. Its class decides what happens next.
        error: ErrorReport,
    },
    /// The attempt was dropped and the slot cleaned.
    Aborted {
        /// The cause.
        error: ErrorReport,
    },
}

/// An event of a newer version. It is kept, and has no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewerEvent {
    /// The name of its kind.
    pub kind: String,
}

/// What each workflow must say about its events.
pub trait WorkflowEvent {
    /// Every kind. Kinds are unique among all workflows.
    const KINDS: &'static [&'static str];

    /// The event's kind.
    fn kind(&self) -> &'static str;

    /// A shorter form of a large event, for the history.
    fn brief(&self) -> Option<serde_json::Value> {
        None
    }
}

macro_rules! define_event_body {
    ($($(#[$cfg:meta])* $folder:ident: $name:ident $kinds:tt;)*) => {
        /// An event's content.
        ///
        /// The encoding does not name the workflow: kinds are unique among all workflows.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(untagged)]
        #[allow(missing_docs, reason = "each workflow's events are described in its folder")]
        pub enum EventBody {
            /// An event of every workflow.
            Common(CommonEvent),
            $($(#[$cfg])* $name(workflows::$folder::Event),)*
            /// An event of a newer version.
            Newer(NewerEvent),
        }

        impl EventBody {
            /// A shorter form of a large event, for the history.
            pub fn brief(&self) -> Option<serde_json::Value> {
                match self {
                    $($(#[$cfg])* EventBody::$name(event) => event.brief(),)*
                    EventBody::Common(_) | EventBody::Newer(_) => None,
                }
            }

            /// Every kind that this version knows.
            fn kinds() -> impl Iterator<Item = &'static str> {
                let kinds = CommonEvent::KINDS.iter();
                $($(#[$cfg])* let kinds = kinds.chain(<workflows::$folder::Event as WorkflowEvent>::KINDS);)*
                kinds.copied()
            }

            /// The event's name, as in the `Seal-Kind` header and in histories; `newer` for one of a newer version.
            pub fn kind(&self) -> &'static str {
                match self {
                    EventBody::Common(event) => event.kind(),
                    $($(#[$cfg])* EventBody::$name(event) => event.kind(),)*
                    EventBody::Newer(_) => "newer",
                }
            }
        }

        $($(#[$cfg])* impl From<workflows::$folder::Event> for EventBody {
            fn from(event: workflows::$folder::Event) -> EventBody {
                EventBody::$name(event)
            }
        })*
    };
}
crate::for_each_workflow!(define_event_body);

impl From<CommonEvent> for EventBody {
    fn from(event: CommonEvent) -> EventBody {
        EventBody::Common(event)
    }
}

impl EventBody {
    /// The event's error, if it has one.
    pub const fn error(&self) -> Option<&ErrorReport> {
        match self {
            EventBody::Common(CommonEvent::Failed { error } | CommonEvent::Aborted { error }) => Some(error),
            _ => None,
        }
    }
}

impl CommonEvent {
    /// Every kind.
    pub const KINDS: &'static [&'static str] = &["phase_started", "finished", "failed", "aborted"];

    /// The event's name.
    pub const fn kind(&self) -> &'static str {
        match self {
            CommonEvent::PhaseStarted { .. } => "phase_started",
            CommonEvent::Finished {} => "finished",
            CommonEvent::Failed { .. } => "failed",
            CommonEvent::Aborted { .. } => "aborted",
        }
    }
}

impl<'de> Deserialize<'de> for NewerEvent {
    /// An event of a known kind that cannot be parsed is an error, not an event of a newer version.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<NewerEvent, D::Error> {
        #[derive(Deserialize)]
        struct Tagged {
            kind: String,
        }
        let Tagged { kind } = Tagged::deserialize(deserializer)?;
        match EventBody::kinds().any(|known| known == kind) {
            true => Err(serde::de::Error::custom(format!("an event `{kind}` whose fields are not those of its kind"))),
            false => Ok(NewerEvent { kind }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_of_events_are_unique_among_all_workflows() {
        let kinds: Vec<_> = EventBody::kinds().collect();
        assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), kinds.len(), "{kinds:?}");
    }

    #[test]
    fn an_event_of_a_known_kind_with_other_fields_is_refused_and_not_taken_for_a_newer_one() {
        let read = |text: &str| serde_json::from_str::<EventBody>(text);
        assert!(
            matches!(read(r#"{"kind":"teleported","to":"mars"}"#), Ok(EventBody::Newer(newer)) if newer.kind == "teleported")
        );
        assert!(read(r#"{"kind":"pc2_done"}"#).is_err());
        assert!(read(r#"{"kind":"failed","error":7}"#).is_err());
    }
}
