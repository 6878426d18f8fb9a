//! What the processes of a function have used, by Linux's own accounts.

use std::fs;

/// Ticks of the kernel's accounting a second, as Linux tells them to everybody.
const TICKS: f64 = 100.0;

/// What the processes of the bootstrap have used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Seconds of CPU, all of them together.
    pub(crate) cpu: f64,
    /// The peak of the largest, in MiB.
    pub(crate) peak: f64,
}

impl Usage {
    /// Of those that live.
    pub(crate) fn of_instances() -> Self {
        let own = std::process::id().to_string();
        let mut usage = Self::default();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let Some((name, fields)) = stat.rsplit_once(") ") else {
                continue;
            };
            let fields: Vec<&str> = fields.split(' ').collect();
            if !name.ends_with("(bootstrap") || fields[1] != own {
                continue;
            }
            let ticks: f64 = fields[11..13]
                .iter()
                .map(|ticks| ticks.parse::<f64>().unwrap())
                .sum();
            usage.cpu += ticks / TICKS;
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kibibytes = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<f64>().ok());
            usage.peak = usage.peak.max(kibibytes.unwrap_or(0.0) / 1024.0);
        }
        usage
    }
}
