//! The current or last roll in words.

use crate::board::RollPhase;
use crate::reading::Snapshot;

use super::model::RollStatus;
use super::units::{calendar, count, duration, plural, seconds};

/// Returns `None` if there was no roll.
pub(super) fn of(snapshot: &Snapshot) -> Option<RollStatus> {
    let roll = &snapshot.board.roll;
    let phase = match roll.phase {
        RollPhase::Idle => return None,
        RollPhase::Trial => "trial",
        RollPhase::Rolling => "rolling",
        RollPhase::Done => "done",
        RollPhase::Stopped => "stopped",
    };
    Some(RollStatus {
        phase,
        revision: roll.revision,
        done: roll.done,
        of: roll.of,
        began_timestamp_seconds: seconds(roll.began),
        ended_timestamp_seconds: (roll.ended != 0).then(|| seconds(roll.ended)),
        cause: roll.cause.clone(),
        problem: roll.problem.clone(),
        text: text(roll, snapshot.unix),
    })
}

/// Returns the roll in one or two sentences.
fn text(roll: &crate::board::Roll, now: u64) -> String {
    let because = match &*roll.cause {
        "" => String::new(),
        cause => format!(", because {cause}"),
    };
    let ago = duration(seconds(now.saturating_sub(roll.ended)));
    let took = duration(seconds(roll.ended.saturating_sub(roll.began)));
    let (done, of) = (count(roll.done), count(roll.of));
    match roll.phase {
        RollPhase::Idle => String::new(),
        RollPhase::Trial => format!("Trying the new code before children are replaced{because}."),
        RollPhase::Rolling => format!("Replacing children: {done} of {of} done{because}."),
        RollPhase::Done => {
            let who = plural(roll.done, "child", "children");
            format!("Replaced {who} in {took}, {ago} ago{because}.")
        }
        RollPhase::Stopped => {
            let problem = match roll.problem.trim_end_matches('.') {
                "" => "the reason is in the error log",
                problem => problem,
            };
            let (_, time) = calendar(seconds(roll.ended));
            let rest = match roll.done {
                0 => String::from("The old code goes on."),
                _ => format!("{done} of {of} children were replaced, the others go on."),
            };
            let tried = match &*roll.cause {
                "" => String::new(),
                cause => format!(" It was tried because {cause}."),
            };
            format!(
                "Replacing children was stopped {ago} ago, at {time} UTC: {problem}. {rest}{tried}"
            )
        }
    }
}
