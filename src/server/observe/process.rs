//! What the operating system says of this process: Linux's `/proc`; nothing elsewhere.

use std::fs;

/// What this process takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub resident_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub descriptors: Option<u64>,
    pub descriptors_max: Option<u64>,
}

impl Process {
    /// Reads a few small files, and one entry for each open descriptor.
    pub(super) fn look() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        // The directory itself is open while it is read.
        let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64 - 1);
        Self {
            resident_bytes: field(&status, "VmRSS:").map(|kib| kib * 1024),
            threads: field(&status, "Threads:"),
            descriptors: open,
            descriptors_max: field(&limits, "Max open files"),
        }
    }
}

/// The first number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_the_name_of_their_line() {
        let text = "VmPeak:\t  9 kB\nVmRSS:\t    5124 kB\nThreads:\t7\n";
        assert_eq!(field(text, "VmRSS:"), Some(5124));
        assert_eq!(field(text, "Threads:"), Some(7));
        assert_eq!(field("Max open files            unlimited", "Max open files"), None);
    }
}
