//! `process_*` metrics, from `/proc/self`, under the names that Prometheus' own clients use.

use std::fmt::Write;
use std::fs;

/// The metrics as text; what the system does not tell is left out.
pub fn render(out: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)).max(1.0);
    if let Some(sample) = parse_stat(&stat) {
        let cpu = (sample.user_ticks + sample.system_ticks) as f64 / ticks;
        put(out, "process_cpu_seconds_total", "counter", "User and system CPU time, in seconds.", cpu);
        put(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size.", sample.virtual_bytes as f64);
        let resident = sample.resident_pages as f64 * rustix::param::page_size() as f64;
        put(out, "process_resident_memory_bytes", "gauge", "Resident memory size.", resident);
        put(out, "process_threads", "gauge", "Threads of the operating system.", sample.threads as f64);
        if let Some(boot) = boot_time() {
            let start = boot + sample.start_ticks as f64 / ticks;
            put(out, "process_start_time_seconds", "gauge", "Start, in seconds since 1970-01-01 UTC.", start);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory being read.
        put(out, "process_open_fds", "gauge", "Open file descriptors.", open.count().saturating_sub(1) as f64);
    }
    if let Some(most) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(parse_descriptor_limit) {
        put(out, "process_max_fds", "gauge", "Most file descriptors that may be open.", most);
    }
}

/// Octets of memory that this process takes now, swap not counted; none where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?; // proc_pid_statm(5)
    Some(pages * rustix::param::page_size() as u64)
}

fn put(out: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    // Writing into a String cannot fail.
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
}

#[derive(Debug, PartialEq, Eq)]
struct Sample {
    user_ticks: u64,
    system_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// proc_pid_stat(5); the second field, the command's name in parentheses, may hold anything.
fn parse_stat(text: &str) -> Option<Sample> {
    let (_, after) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    // The first field here is number 3 of the manual page.
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Sample {
        user_ticks: field(14)?,
        system_ticks: field(15)?,
        threads: field(20)?,
        start_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn parse_descriptor_limit(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_commands_name() {
        let line = "7 (a) b) R 1 7 7 0 -1 4194304 90 0 0 0 11 12 0 0 20 0 3 0 5000 1048576 42 18446744073709551615";
        let expected = Sample {
            user_ticks: 11,
            system_ticks: 12,
            threads: 3,
            start_ticks: 5000,
            virtual_bytes: 1_048_576,
            resident_pages: 42,
        };
        assert_eq!(parse_stat(line), Some(expected));
        assert_eq!(parse_stat("7 (x) R 1"), None);
        assert_eq!(parse_descriptor_limit("Max open files            1024  4096  files"), Some(1024.0));
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let mut out = String::new();
        render(&mut out);
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"] {
            assert!(out.contains(&format!("\n{name} ")), "{name} in {out}");
        }
    }
}
