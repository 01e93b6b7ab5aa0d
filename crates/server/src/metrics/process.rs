//! What the kernel counts of this process (proc(5)).

use std::fs;

use super::text::{Kind, Text};

/// How many clock ticks a second has in `/proc`, on every Linux.
const TICKS: f64 = 100.0;

/// Writes what can be read; a system without `/proc` has none of it.
pub(super) fn write(out: &mut Text) {
    let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let (stat, status, limits, system) =
        (read("self/stat"), read("self/status"), read("self/limits"), read("stat"));
    let open = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    let times = Times::read(&stat);
    let start = times.and_then(|times| Some(field(&system, "btime")? + times.start));
    let bytes = |name| field(&status, name).map(|kibibytes| kibibytes * 1024.0);
    for (name, kind, help, value) in [
        ("process_cpu_seconds_total", Kind::Counter, "Processor time of this process", times.map(|t| t.cpu)),
        (
            "process_max_fds",
            Kind::Gauge,
            "Files that this process may have open",
            field(&limits, "Max open files"),
        ),
        ("process_open_fds", Kind::Gauge, "Files that this process has open", open.map(|n| n as f64)),
        ("process_resident_memory_bytes", Kind::Gauge, "Memory that this process holds", bytes("VmRSS:")),
        ("process_start_time_seconds", Kind::Gauge, "When this process started, since 1970", start),
        ("process_threads", Kind::Gauge, "Threads of this process", field(&status, "Threads:")),
        ("process_virtual_memory_bytes", Kind::Gauge, "Addresses that this process uses", bytes("VmSize:")),
    ] {
        let Some(value) = value else { continue };
        out.family(name, kind, help);
        out.sample(&[], value);
    }
}

/// The number after a name that begins a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times {
    cpu: f64,
    /// Since the machine started.
    start: f64,
}

impl Times {
    fn read(stat: &str) -> Option<Self> {
        // The name of the program comes second, in parentheses, and may have blanks and parentheses.
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |n: usize| fields.get(n)?.parse::<f64>().ok();
        Some(Self { cpu: (ticks(11)? + ticks(12)?) / TICKS, start: ticks(19)? / TICKS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 200";
        assert_eq!(Times::read(stat), Some(Times { cpu: 3.0, start: 123.45 }));
        assert_eq!(Times::read("nonsense"), None);
        assert_eq!(field("VmSize:\t  10 kB\nVmRSS:\t  7 kB\n", "VmRSS:"), Some(7.0));
        assert_eq!(
            field(
                "Max open files            1024                 524288               files",
                "Max open files"
            ),
            Some(1024.0)
        );
        assert_eq!(field("", "VmRSS:"), None);
    }

    #[test]
    fn this_process_is_told_of() {
        let mut text = Text::default();
        write(&mut text);
        let text = text.finish();
        for name in ["process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in {text}");
        }
    }
}
