//! The memory of this process.

/// Returns the memory that this process shares with no file and no other process, in bytes; 0 if the kernel does not
/// tell (proc(5), `statm`).
pub(crate) fn own_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split_ascii_whitespace().skip(1);
    let mut next = || pages.next().and_then(|word| word.parse::<u64>().ok());
    let (resident, shared) = (next().unwrap_or(0), next().unwrap_or(0));
    resident.saturating_sub(shared) * rustix::param::page_size() as u64
}
