//! `wsgictl explain`: the cause of a numbered log message, what follows, and the remedy.

use std::fmt::Write as _;
use std::process::ExitCode;

use wsgi_core::messages::Message;

use crate::cli::ExplainArgs;
use crate::output::failure::{Failure, Outcome};
use crate::output::terminal;

/// Prints the entry of a message, or a line for each message.
pub(crate) fn explain(args: &ExplainArgs) -> Outcome<ExitCode> {
    let text = match args.number {
        Some(number) => entry(Message::find(number).ok_or_else(|| unknown(number))?),
        None => list(),
    };
    // A reader that has closed its end is not a failure.
    terminal::write_for_programs(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn entry(message: Message) -> String {
    format!(
        "WSGI{:04} ({})\n  {}\n\nCause: {}\n\nWhat follows: {}\n\nRemedy: {}\n",
        message.number(),
        message.level().name(),
        message.text(),
        message.cause(),
        message.follows(),
        message.remedy()
    )
}

fn list() -> String {
    let mut text = String::new();
    for message in Message::ALL {
        let level = message.level().name();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "WSGI{:04}  {level:6}  {}",
            message.number(),
            message.text()
        );
    }
    text
}

/// Returns a failure that names the numbers next to the unknown one.
fn unknown(number: u16) -> Failure {
    let numbers = || Message::ALL.iter().map(|message| message.number());
    let below = numbers().take_while(|known| *known < number).last();
    let above = numbers().find(|known| *known > number);
    let nearest: Vec<String> = below
        .into_iter()
        .chain(above)
        .map(|known| format!("WSGI{known:04}"))
        .collect();
    Failure::new(format!("there is no message WSGI{number:04}.")).remedy(format!(
        "The nearest: {}. `wsgictl explain` lists all of this release; it does not know all numbers of mod_wsgi.",
        nearest.join(" and ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::message_number as number;

    #[test]
    fn numbers_are_read_as_the_log_shows_them() {
        for text in ["WSGI1013", "wsgi1013", "1013", "WSGI1013:"] {
            assert_eq!(number(text), Ok(1013), "{text}");
        }
        assert_eq!(number("0001"), Ok(1));
        for text in ["", "WSGI", "WSGI-1", "+1", "10x3", "99999", "ä1013"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_message_is_explained() {
        for message in Message::ALL {
            let text = entry(*message);
            let parts = [
                message.text(),
                message.cause(),
                message.follows(),
                message.remedy(),
            ];
            for part in parts {
                assert!(text.contains(part), "{text}");
            }
        }
        assert_eq!(list().lines().count(), Message::ALL.len());
    }

    #[test]
    fn an_unknown_number_has_neighbours() {
        for (number, nearest) in [
            (0, "The nearest: WSGI0001."),
            (1012, "The nearest: WSGI1011 and WSGI1013."),
        ] {
            let text = unknown(number).to_string();
            assert!(text.contains(nearest), "{text}");
        }
        let last = unknown(u16::MAX).to_string();
        assert!(!last.contains(" and "), "{last}");
    }
}
