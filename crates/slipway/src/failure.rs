//! What a person is told when something could not be done.

use std::{fmt::Display, io::Write, process::ExitCode};

use node::control::{AskError, Failed};

use crate::cli::OutputFormat;

/// Exit code of a command that failed.
const EXIT_FAILED: u8 = 1;

/// Exit code of a command that was called wrongly.
const EXIT_MISUSE: u8 = 2;

/// What could not be done, why, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    failed: Failed,
    exit_code: u8,
}

impl Failure {
    /// An error with its chain of causes.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        if let Some(AskError::Refused(failed)) = error.downcast_ref() {
            return Self {
                failed: failed.clone(),
                exit_code: EXIT_FAILED,
            };
        }
        Self {
            failed: Failed::of(error),
            exit_code: EXIT_FAILED,
        }
    }

    /// A failure that has no error value.
    pub(crate) fn message(message: impl Display) -> Self {
        let failed = Failed {
            message: message.to_string(),
            causes: Vec::new(),
            hint: None,
        };
        Self {
            failed,
            exit_code: EXIT_FAILED,
        }
    }

    /// The command was called wrongly.
    pub(crate) fn misuse(message: impl Display) -> Self {
        Self {
            exit_code: EXIT_MISUSE,
            ..Self::message(message)
        }
    }

    /// Puts what was being done in front of the error.
    pub(crate) fn while_doing(
        error: &(dyn std::error::Error + 'static),
        doing: impl Display,
    ) -> Self {
        let mut failure = Self::of(error);
        failure.failed.causes.insert(0, failure.failed.message);
        failure.failed.message = doing.to_string();
        failure
    }

    /// Says what to do about it. A hint that is there already stays.
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.failed.hint.get_or_insert_with(|| hint.to_string());
        self
    }

    /// Prints it on standard error and returns the exit code.
    pub(crate) fn report(&self, output: OutputFormat) -> ExitCode {
        let text = match output {
            OutputFormat::Json => {
                let json = serde_json::json!({ "error": self.failed });
                format!("{json}\n")
            }
            OutputFormat::Text => self.to_text(),
        };
        // Nobody is left to be told if standard error is closed.
        drop(std::io::stderr().write_all(text.as_bytes()));
        ExitCode::from(self.exit_code)
    }

    fn to_text(&self) -> String {
        let mut text = format!("error: {}\n", self.failed.to_line());
        if let Some(hint) = &self.failed.hint {
            text.push_str("hint: ");
            text.push_str(hint);
            text.push('\n');
        }
        text
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let unreachable = matches!(error, AskError::Unreachable { .. });
        let failure = Self::of(&error);
        if unreachable {
            return failure.hint(
                "start the server with `slipway up`, or say with --data or SLIPWAY_DATA where it keeps its data",
            );
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_node_keeps_its_hint() {
        let failed = Failed {
            message: "image a:1 could not be fetched".into(),
            causes: vec!["connection refused".into()],
            hint: Some("start it".into()),
        };
        let failure = Failure::from(AskError::Refused(failed)).hint("another");
        assert_eq!(
            failure.to_text(),
            "error: image a:1 could not be fetched: connection refused\nhint: start it\n"
        );
    }
}
