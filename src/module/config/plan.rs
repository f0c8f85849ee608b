//! Reports what the plan means for each application group when a configuration comes into force: in the log, on the
//! board, and as warnings if it cannot work.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;

use wsgi_abi::{FreeThreading, GilMode};
use wsgi_core::config::executor::Share;
use wsgi_core::config::interpreter_options::free_threading;
use wsgi_core::config::{ProcessGroup, PythonConfig};
use wsgi_core::messages::Message;
use wsgi_core::plan::group_plan::{Gil, GroupPlan, Problem};
use wsgi_core::plan::memory::{MemoryLimit, limit_files};
use wsgi_core::plan::mpm_plan::{Mpm, MpmPlan, Spare};
use wsgi_httpd::{mpm, sys};
use wsgi_telemetry::board::Board;

use super::inherited::Process;
use crate::log::{log_info, log_line};

/// Makes the plan from what the MPM, the kernel and the control groups report.
pub(crate) fn of_server() -> MpmPlan {
    // With `-X`, httpd serves with its only process, whatever the limits are.
    let processes = if mpm::single_process() {
        Some(1)
    } else {
        number(sys::AP_MPMQ_MAX_DAEMONS).or(number(sys::AP_MPMQ_MAX_DAEMON_USED))
    };
    let threads = number(sys::AP_MPMQ_MAX_THREADS);
    MpmPlan::new(
        of_name(),
        processes.unwrap_or(1),
        threads.unwrap_or(1),
        cores(),
    )
    .with_memory(memory())
}

/// Makes the plan of a process group.
pub(crate) fn of_process_group(group: &ProcessGroup) -> MpmPlan {
    group.plan(cores()).with_memory(memory())
}

fn number(code: u32) -> Option<u32> {
    mpm::query(code).and_then(|answer| u32::try_from(answer).ok())
}

fn of_name() -> Mpm {
    Mpm::from_name(&String::from_utf8_lossy(mpm::name()))
}

/// Returns how many whole cores the server may use, by its affinity (`cpuset`) and the quota of its control groups
/// (`cpu.max`).
fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).unwrap_or(1)
}

/// Returns how much memory the server may use; `None` if the kernel does not tell.
fn memory() -> Option<MemoryLimit> {
    // A file that cannot be read sets no limit.
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let limits: Vec<String> = limit_files(&read("/proc/self/cgroup"))
        .iter()
        .map(|path| read(path))
        .collect();
    MemoryLimit::new(&read("/proc/meminfo"), limits.iter().map(String::as_str))
}

/// Returns the plan of a group. `has_gil` is known once Python runs.
fn of_group(process: &Process, group: &[u8], has_gil: Option<bool>) -> GroupPlan {
    let name = String::from_utf8_lossy(group);
    let options = process.group_options(&name);
    let is_open = |free| free == FreeThreading::Possible && has_gil.is_none();
    let count = process.plan.replicas(options.interpreters.replicas);
    let gil = match free_threading(&process.python) {
        FreeThreading::On | FreeThreading::Require if has_gil != Some(true) => Gil::Free,
        FreeThreading::Possible if has_gil == Some(false) => Gil::Free,
        free => match options.interpreters.gil {
            // The main interpreter has the GIL of the process.
            GilMode::Own if !group.is_empty() => Gil::Own(count),
            GilMode::Auto if !group.is_empty() && is_open(free) => Gil::Best(count),
            GilMode::Auto if !group.is_empty() => Gil::Tried(count),
            _ => Gil::Shared,
        },
    };
    GroupPlan::new(
        &process.plan,
        options.executor,
        gil,
        reserve(&process.python),
    )
}

/// Returns whether all application groups use the same GIL, as far as they are known at the start.
pub(crate) fn shares_gil(process: &Process, has_gil: bool) -> bool {
    let mut groups = process.groups.iter();
    has_gil && groups.all(|group| of_group(process, group, Some(true)).gil() == Gil::Shared)
}

fn reserve(python: &PythonConfig) -> Option<Share> {
    python.thread_reserve
}

/// Logs the plan of each known group, and what cannot work.
pub(crate) fn tell(process: &Process) {
    let plan = &process.plan;
    log_info(&plan.to_string());
    let plans = process.groups.iter();
    let plans: Vec<(&[u8], GroupPlan)> = plans
        .map(|group| (&group[..], of_group(process, group, None)))
        .collect();
    // One line for all groups with the same plan: there may be thousands of groups, but only a few plans.
    let mut lines: Vec<(String, Vec<&[u8]>)> = Vec::new();
    let mut by_plan = HashMap::new();
    for &(group, of_group) in &plans {
        let at = *by_plan.entry(of_group).or_insert_with(|| {
            let line = of_group.to_string();
            let known = lines.iter().position(|(other, _)| *other == line);
            known.unwrap_or_else(|| {
                lines.push((line, Vec::new()));
                lines.len() - 1
            })
        });
        lines[at].1.push(group);
    }
    for (of_group, groups) in &lines {
        let named = GroupNames(groups);
        log_info(&format!("{}; {named}: {of_group}", plan.shape()));
    }
    warn_of_groups(process, &plans);
    let spare = match of_name() {
        Mpm::Prefork => (
            sys::AP_MPMQ_MIN_SPARE_DAEMONS,
            sys::AP_MPMQ_MAX_SPARE_DAEMONS,
        ),
        _ => (
            sys::AP_MPMQ_MIN_SPARE_THREADS,
            sys::AP_MPMQ_MAX_SPARE_THREADS,
        ),
    };
    let spare = match (number(spare.0), number(spare.1)) {
        (Some(least), Some(most)) if !mpm::single_process() => Some(Spare { least, most }),
        _ => None,
    };
    let spare = spare.and_then(|spare| plan.spare_problem(spare));
    let reserve = plan.reserve_problem(reserve(&process.python));
    for (message, line) in spare.into_iter().chain(reserve) {
        say(message, &line);
    }
}

/// Logs each problem once, with the groups that have it; if no group is known yet, the problems of the server.
fn warn_of_groups(process: &Process, plans: &[(&[u8], GroupPlan)]) {
    let mut problems: BTreeMap<Problem, Vec<&[u8]>> = BTreeMap::new();
    for (group, plan) in plans {
        for problem in plan.problems() {
            problems.entry(problem).or_default().push(group);
        }
    }
    if plans.is_empty() {
        let problems_of_all = of_group(process, b"", None).problems();
        problems.extend(problems_of_all.into_iter().map(|found| (found, Vec::new())));
    }
    for (problem, groups) in problems {
        let (message, line) = problem.line(&GroupNames(&groups));
        say(message, &line);
    }
}

fn say(message: Message, line: &str) {
    log_line(message.level(), line.as_bytes());
}

/// Writes the plan of each known group to the board. The parent does so before Python runs. If Python decides whether
/// it has a GIL, each child does so again once it knows; all children write the same.
pub(crate) fn enter(process: &Process, board: Board, has_gil: Option<bool>) {
    // Groups that are not known yet and must choose a GIL need slots, too.
    for group in process.groups.iter().take(MOST) {
        if let Some(slot) = board.group(group) {
            slot.set_plan(&of_group(process, group, has_gil).to_string());
        }
    }
}

/// Highest number of groups that get a slot on the board for their plan: half of the slots.
const MOST: usize = 32;

/// Highest number of groups that are named in one line.
const NAMED: usize = 5;

/// Names of application groups for a log line; an empty list stands for all groups.
struct GroupNames<'a>(&'a [&'a [u8]]);

impl fmt::Display for GroupNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = match self.0.len() {
            0 => return f.write_str("all application groups"),
            1 => "application group",
            _ => "application groups",
        };
        f.write_str(noun)?;
        for (at, &group) in self.0.iter().take(NAMED).enumerate() {
            f.write_str(if at == 0 { " " } else { ", " })?;
            match group {
                b"" => f.write_str("%{GLOBAL}")?,
                name => write!(f, "'{}'", String::from_utf8_lossy(name))?,
            }
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
