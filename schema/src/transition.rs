//! The outcome of a state machine.

/// The outcome of one input to a machine in one state.
///
/// For a consumer of a log the three cases mean: apply and acknowledge; acknowledge; record, alert and continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition<State, Effect> {
    /// The state changes (or is written again) and the effects must be carried out.
    Advance {
        /// The state to store.
        next: State,
        /// What the driver must do, in this order, after the state is stored.
        effects: Vec<Effect>,
    },
    /// Harmless and expected: a duplicate, a late answer, or mere information. The text says which.
    Ignore(&'static str),
    /// A violation of the protocol. The state is unchanged, and a person should know.
    Illegal(&'static str),
}

impl<S, E> Transition<S, E> {
    /// An advance without effects.
    pub fn to(next: S) -> Self {
        Transition::Advance { next, effects: Vec::new() }
    }

    /// An advance with effects.
    pub fn with(next: S, effects: impl Into<Vec<E>>) -> Self {
        Transition::Advance { next, effects: effects.into() }
    }

    /// Changes the state type of an advance.
    pub fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Transition<T, E> {
        match self {
            Transition::Advance { next, effects } => Transition::Advance { next: wrap(next), effects },
            Transition::Ignore(why) => Transition::Ignore(why),
            Transition::Illegal(why) => Transition::Illegal(why),
        }
    }
}
