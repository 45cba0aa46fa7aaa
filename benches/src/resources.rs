//! What a process costs: resident memory and processor time, from `/proc/PID`.

use anyhow::Context;
use serde::Serialize;
use std::time::{Duration, Instant};

/// What a process cost over a while.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Which process.
    pub what: String,
    /// Resident memory at the end, KiB.
    pub resident_kib: u64,
    /// Share of one core, per cent.
    pub core_percent: f64,
}

/// Measures these processes over `time`.
///
/// # Errors
/// One has ended.
pub fn measure(processes: &[(&str, u32)], time: Duration) -> anyhow::Result<Vec<Cost>> {
    let before = processes.iter().map(|(_, pid)| ticks(*pid)).collect::<anyhow::Result<Vec<_>>>()?;
    let begun = Instant::now();
    std::thread::sleep(time);
    let elapsed = begun.elapsed().as_secs_f64();
    let cost = |((what, pid), before): (&(&str, u32), &u64)| -> anyhow::Result<Cost> {
        let spent = ticks(*pid)?.saturating_sub(*before) as f64 / ticks_per_second();
        let core_percent = 100.0 * spent / elapsed;
        Ok(Cost { what: (*what).to_owned(), resident_kib: resident_kib(*pid)?, core_percent })
    };
    processes.iter().zip(&before).map(cost).collect()
}

/// Processor time that a process has used so far, seconds.
///
/// # Errors
/// It has ended.
pub fn processor_s(pid: u32) -> anyhow::Result<f64> {
    Ok(ticks(pid)? as f64 / ticks_per_second())
}

/// Memory of a process, bytes; of what it shares with others its share (PSS, proc_pid_smaps(5)).
///
/// # Errors
/// It has ended.
pub fn proportional_bytes(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("smaps_rollup has no Pss")?;
    Ok(kib.parse::<u64>()? * 1_024)
}

/// User and system time of all threads so far, ended ones included (fields 14 and 15 of proc_pid_stat(5)).
fn ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; what follows the last one is field 3 and so on.
    let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat has no name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |n: usize| -> anyhow::Result<u64> { Ok(fields.get(n - 3).context("a short line")?.parse()?) };
    Ok(field(14)? + field(15)?)
}

fn ticks_per_second() -> f64 {
    // SAFETY: takes a number and gives one.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value =
        line.and_then(|line| line.split_whitespace().next()).context("/proc/PID/status has no VmRSS")?;
    Ok(value.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_measured() {
        let costs = measure(&[("this", std::process::id())], Duration::from_millis(1)).unwrap();
        assert!(costs[0].resident_kib > 100 && costs[0].resident_kib < 10_000_000, "{costs:?}");
        let shared = proportional_bytes(std::process::id()).unwrap() / 1_024;
        assert!(shared > 100 && shared < 10_000_000, "{shared} KiB");
        assert!(processor_s(std::process::id()).is_ok() && processor_s(u32::MAX).is_err());
        assert!(measure(&[("none", u32::MAX)], Duration::ZERO).is_err());
    }
}
