//! What processes and the machine spend, from `/proc` (Linux).

use std::fs;

use anyhow::{Context as _, Result};

/// Clock ticks of a second in `/proc`: fixed by Linux for programs (`USER_HZ`).
const TICKS: f64 = 100.0;

/// CPU time of a process so far, its threads included, in seconds.
pub(super) fn cpu_seconds(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    cpu_of_stat(&text).context(path)
}

fn cpu_of_stat(text: &str) -> Option<f64> {
    // The name in brackets may hold blanks and brackets; figures begin after the last one.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

/// Memory of a process in megabytes (10^6 bytes).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// Resident, libraries included.
    pub(super) resident: f64,
    /// Resident and nobody else's: heap and stacks.
    pub(super) anonymous: f64,
    /// The most that ever was resident.
    pub(super) peak: f64,
}

impl std::ops::Add for Memory {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            resident: self.resident + other.resident,
            anonymous: self.anonymous + other.anonymous,
            peak: self.peak + other.peak,
        }
    }
}

/// Memory of a process now.
pub(super) fn memory(process: u32) -> Result<Memory> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let megabytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024.0 / 1e6)
    };
    let get = |name| megabytes(name).with_context(|| format!("no {name} in {path}"));
    Ok(Memory { resident: get("VmRSS:")?, anonymous: get("RssAnon:")?, peak: get("VmHWM:")? })
}

/// CPU time of the whole machine so far in seconds: busy, and taken by the host for others.
pub(super) fn machine_busy_seconds() -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let at = |index: usize| ticks.get(index).copied().unwrap_or_default() / TICKS;
    Ok((at(0) + at(1) + at(2) + at(5) + at(6), at(7)))
}

/// Cores of the machine, also those that this process may not use.
pub(super) fn cores() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count()
}

/// Processor, cores and kernel in words.
pub(super) fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let name = value("model name").unwrap_or_else(|| "unknown processor".into());
    let model = value("model\t").unwrap_or_default();
    let cores = cores();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{name} (model {model}), {cores} cores, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_be_named_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 100";
        assert_eq!(cpu_of_stat(stat), Some(3.0));
        assert_eq!(cpu_of_stat("7 no name"), None);
    }

    #[test]
    fn this_process_has_memory_and_used_the_processor() {
        let own = std::process::id();
        let memory = memory(own).unwrap();
        assert!(memory.resident > 1.0 && memory.peak >= memory.resident, "{memory:?}");
        assert!(cpu_seconds(own).unwrap() >= 0.0);
        assert!(machine_busy_seconds().unwrap().0 > 0.0);
    }
}
