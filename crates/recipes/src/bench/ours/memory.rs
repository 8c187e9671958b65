//! Memory of this process as the system counts it.

/// Resident memory now, in 1e6 bytes; `None` where there is no `/proc`.
pub(super) fn resident_mb() -> Option<f64> {
    field("VmRSS:")
}

/// The most resident memory ever, in 1e6 bytes; `None` where there is no `/proc`.
pub(super) fn peak_mb() -> Option<f64> {
    field("VmHWM:")
}

fn field(name: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024. / 1e6)
}
