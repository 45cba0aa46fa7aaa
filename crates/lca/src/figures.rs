//! Figures of the host and of the agent itself, from `/proc`. What a field cannot be read from stays zero.

use crate::clock::Slew;
use domain::HostFigures;
use std::fs;

/// Reads figures; remembers the last processor times, since the kernel only counts.
#[derive(Debug, Default)]
pub struct Figures {
    last: Processor,
    slew: Slew,
}

/// Processor time of all cores since the boot, clock ticks.
#[derive(Debug, Default, Clone, Copy)]
struct Processor {
    busy: u64,
    total: u64,
}

impl Figures {
    /// The figures now. What the real-time thread knows better (stalls, rights, VIPs, the time) it fills in itself.
    pub fn read(&mut self) -> HostFigures {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let now = processor(&text("/proc/stat"));
        let busy = now.busy.saturating_sub(self.last.busy);
        let total = now.total.saturating_sub(self.last.total).max(1);
        self.last = now;
        let memory = text("/proc/meminfo");
        HostFigures {
            // Differences over seconds: far below 2^52.
            cpu: (busy as f64 / total as f64).min(1.0),
            memory_total: memory_field(&memory, "MemTotal:"),
            memory_available: memory_field(&memory, "MemAvailable:"),
            load1: first_number(&text("/proc/loadavg")),
            clock_ppm: self.slew.ppm(),
            agent_resident: memory_field(&text("/proc/self/status"), "VmRSS:"),
            ..HostFigures::default()
        }
    }
}

/// The first line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal. Guest time is
/// part of user time already.
fn processor(stat: &str) -> Processor {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().skip(1).take(8).map(|field| field.parse().unwrap_or(0)).collect();
    let total = ticks.iter().sum();
    let idle = ticks.iter().skip(3).take(2).sum();
    Processor { busy: u64::saturating_sub(total, idle), total }
}

/// A field in kB, as bytes.
fn memory_field(text: &str, name: &str) -> u64 {
    let field = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    field.split_ascii_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1_024
}

fn first_number(text: &str) -> f64 {
    text.split_ascii_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_make_sense_here() {
        let mut figures = Figures::default();
        figures.read();
        let read = figures.read();
        assert!((0.0..=1.0).contains(&read.cpu), "{read:?}");
        assert!(read.memory_total >= read.memory_available && read.memory_available > 0, "{read:?}");
        assert!(read.agent_resident > 100_000, "{read:?}");
    }

    #[test]
    fn processor_time_is_read_without_guests() {
        let read = processor("cpu  10 20 30 400 50 1 2 3 99 99\ncpu0 1 2 3 4 5 6 7 8 9 9\n");
        assert_eq!((read.busy, read.total), (66, 516));
        assert_eq!(processor("").total, 0);
    }
}
