//! What was found out, for a person or a program.

use serde::Serialize;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It works, but maybe not as somebody wants it.
    Note,
    /// It does not work.
    Fails,
}

/// What was found out of one thing.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) state: State,
    /// A setting, an address, a client.
    pub(super) subject: String,
    /// How it is, and what helps.
    pub(super) text: String,
}

/// All that was found.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn add(
        &mut self,
        state: State,
        subject: impl Into<String>,
        text: impl Into<String>,
    ) {
        self.0.push(Finding { state, subject: subject.into(), text: text.into() });
    }

    pub(super) fn result(
        &mut self,
        subject: impl Into<String>,
        good: &str,
        result: Result<(), String>,
    ) {
        match result {
            Ok(()) => self.add(State::Ok, subject, good),
            Err(error) => self.add(State::Fails, subject, error),
        }
    }
}
