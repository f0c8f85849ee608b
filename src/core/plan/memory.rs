//! How much memory the server may use, read from the text files of the kernel and its control groups (cgroups(7)).

/// The bound of a server's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes.
    pub bytes: u64,
    /// Whether a control group sets it, and not the machine.
    pub is_of_group: bool,
}

impl MemoryLimit {
    /// Returns the name of what sets the limit, for people.
    pub(crate) fn owner(&self) -> &'static str {
        if self.is_of_group {
            "control group"
        } else {
            "machine"
        }
    }

    /// Returns the lower one of the machine's memory (`/proc/meminfo`) and of the limits of its control groups (the
    /// contents of those [`limit_files`] that exist); `None` if neither is known.
    pub fn new<'a>(
        meminfo: &str,
        of_groups: impl IntoIterator<Item = &'a str>,
    ) -> Option<MemoryLimit> {
        let machine = machine(meminfo).map(|bytes| MemoryLimit {
            bytes,
            is_of_group: false,
        });
        // "max" stands for no limit.
        let numbers = of_groups.into_iter().map(|text| text.trim().parse());
        let group = numbers.flatten().min().map(|bytes| MemoryLimit {
            bytes,
            is_of_group: true,
        });
        match (machine, group) {
            // Without a limit, version 1 reports a number larger than the memory of any machine.
            (Some(machine), Some(group)) if group.bytes < machine.bytes => Some(group),
            (None, Some(group)) => Some(group),
            (machine, _) => machine,
        }
    }
}

/// Returns `MemTotal` in bytes.
fn machine(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let total = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Returns the files with the memory limits of a process whose `/proc/self/cgroup` is `groups`, for both versions of
/// control groups: the limits of its group and of all groups above it. Some of these files may not exist: in a
/// container, the group may have a name that only the machine outside knows.
pub fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (root, file) = if number == "0" && controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let steps = path.split('/').filter(|step| !step.is_empty());
        let mut steps: Vec<&str> = steps.collect();
        // The group is outside the tree that this process sees.
        if steps.contains(&"..") {
            steps.clear();
        }
        for depth in (0..=steps.len()).rev() {
            let below: String = steps[..depth]
                .iter()
                .map(|step| format!("/{step}"))
                .collect();
            files.push(format!("{root}{below}/{file}"));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16384 kB\nMemFree:         1024 kB\n";

    #[test]
    fn the_lowest_limit_holds() {
        let limit = |bytes, is_of_group| Some(MemoryLimit { bytes, is_of_group });
        let machine = limit(16 << 20, false);
        for (meminfo, groups, expected) in [
            (MEMINFO, &[][..], machine),
            (MEMINFO, &["max\n"], machine),
            (
                MEMINFO,
                &["1048576\n", "max\n", "2097152\n"],
                limit(1 << 20, true),
            ),
            (MEMINFO, &["9223372036854771712\n"], machine),
            (MEMINFO, &["16777216\n"], machine),
            (MEMINFO, &["", "nonsense", "-1"], machine),
            ("", &["4096"], limit(4096, true)),
            ("MemTotal: x kB", &[], None),
            ("MemTotal: 18446744073709551615 kB", &[], None),
        ] {
            let found = MemoryLimit::new(meminfo, groups.iter().copied());
            assert_eq!(found, expected, "{meminfo} {groups:?}");
        }
    }

    #[test]
    fn limits_of_a_group_and_of_all_above_it_are_looked_for() {
        for (groups, expected) in [
            (
                "0::/system.slice/httpd.service\n",
                &[
                    "/sys/fs/cgroup/system.slice/httpd.service/memory.max",
                    "/sys/fs/cgroup/system.slice/memory.max",
                    "/sys/fs/cgroup/memory.max",
                ][..],
            ),
            ("0::/\n", &["/sys/fs/cgroup/memory.max"]),
            ("0::/../other\n", &["/sys/fs/cgroup/memory.max"]),
            (
                "12:pids:/a\n4:memory,hugetlb:/docker/a:b\n1:name=systemd:/a\n",
                &[
                    "/sys/fs/cgroup/memory/docker/a:b/memory.limit_in_bytes",
                    "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                ],
            ),
            ("nonsense\n1:memory\n", &[]),
        ] {
            assert_eq!(limit_files(groups), expected, "{groups}");
        }
    }
}
