//! The numbers of process groups, which their processes write into segments of their own.

use crate::board::BoardSnapshot;
use crate::requests::{Death, Running};
use crate::segment::Segment;
use crate::segment::layout::DEATHS;

use super::snapshot::{ApplicationSums, Child, Numbers, Processes};

/// The segment of a process group. Its applications have the numbers that they have in the server's segment.
#[derive(Clone)]
pub struct GroupSegment {
    /// Name of the process group.
    pub name: String,
    /// The segment that its processes write.
    pub segment: Segment,
}

/// A process group at one moment.
#[derive(Clone, Debug)]
pub struct ProcessGroupNumbers {
    /// Name of the process group.
    pub name: String,
    /// Cells that each arena has once.
    pub process: Numbers,
    /// Cells of the header.
    pub header: Numbers,
    /// Living processes, by pid.
    pub children: Vec<Child>,
    /// Facts about the group's Python, in the order of [`Fact`](crate::Fact).
    pub facts: [String; 8],
    /// The board of the group: its processes and their application groups.
    pub board: BoardSnapshot,
}

impl GroupSegment {
    /// Reads the segment, and adds what the group's processes have counted to the applications' sums. Also returns the
    /// requests that they run.
    pub(super) fn numbers(
        &self,
        sums: &mut ApplicationSums,
    ) -> (ProcessGroupNumbers, Vec<Running>) {
        let Processes {
            cells,
            mut children,
            running,
            ..
        } = self.segment.add_arenas(sums);
        if children.is_empty() {
            children = self.segment.unmeasured_children();
        }
        children.sort_unstable_by_key(|child| child.pid);
        let numbers = ProcessGroupNumbers {
            name: self.name.clone(),
            process: cells,
            header: self.segment.header_numbers(),
            children,
            facts: self.segment.facts(),
            board: self.segment.board().snapshot(),
        };
        (numbers, running)
    }
}

/// Returns the last deaths of children and of processes of groups, newest first.
pub(super) fn deaths(server: &Segment, groups: &[GroupSegment]) -> Vec<Death> {
    let of_groups = groups.iter().flat_map(|group| {
        let deaths = group.segment.deaths().into_iter();
        deaths.map(|death| Death {
            how: format!("{}, in process group '{}'", death.how, group.name),
            ..death
        })
    });
    let mut deaths = server.deaths();
    deaths.extend(of_groups);
    deaths.sort_by_key(|death| std::cmp::Reverse(death.at));
    deaths.truncate(DEATHS);
    deaths
}
