//! The memory of a process, as Linux counts it.

use std::{fs, io};

/// The most memory that a process has had resident so far (`VmHWM` of proc(5)), in KiB.
///
/// # Errors
/// There is no such process.
pub fn peak_kib(id: u32) -> io::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.ok_or_else(|| io::Error::other("no VmHWM in /proc"))
}

/// This process's peak begins anew with what it has resident now (`clear_refs` of proc(5)).
///
/// # Errors
/// The system does not allow it.
pub fn forget_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}
