//! What a process and its threads have used, from `/proc`.

use std::fs;

/// Use of all processes that are watched, together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    /// CPU time in seconds, user and system.
    pub cpu: f64,
    /// Resident octets now.
    pub resident: u64,
    /// The most that was ever resident, octets (`VmHWM`), summed over the processes.
    pub peak: u64,
}

/// `pids` and, where wanted, every descendant they have now.
pub fn family(pids: &[u32], descendants: bool) -> Vec<u32> {
    let mut all = pids.to_vec();
    let mut next = 0;
    while descendants && next < all.len() {
        let pid = all[next];
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// What `pids` have used; those that are gone count as nothing.
pub fn usage(pids: &[u32]) -> Use {
    let mut sum = Use::default();
    for pid in pids {
        sum.cpu += cpu_seconds(&format!("/proc/{pid}/stat")).unwrap_or(0.0);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        sum.resident += field("VmRSS:").unwrap_or(0) * 1024;
        sum.peak += field("VmHWM:").unwrap_or(0) * 1024;
    }
    sum
}

/// What this process has used.
pub fn own_cpu() -> f64 {
    cpu_seconds("/proc/self/stat").unwrap_or(0.0)
}

/// User and system time (proc(5): fields 14 and 15, in ticks of 1/100 s on every Linux there is).
fn cpu_seconds(path: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    // The second field is the name in parentheses, which may contain anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there_and_uses_memory() {
        let own = usage(&family(&[std::process::id()], true));
        assert!(own.peak >= own.resident && own.resident > 100_000, "{own:?}");
    }
}
