//! Clocks and lateness: what the lengths of leases rest on.

use super::millis;
use crate::facts::{Clock, Facts, Lateness};
use crate::report::Finding;
use domain::Profile;
use lease::{DRIFT_PPM, Timing};
use std::time::Duration;

/// Clock sources that are read in tens of nanoseconds.
const QUICK: [&str; 6] =
    ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "timebase", "riscv_clocksource"];
/// Clock sources that are counted by timer interrupts: as coarse as those, and wrong when one is lost.
const COARSE: [&str; 2] = ["jiffies", "refined-jiffies"];
/// Corrections beyond this are unusual for a quartz, ppm.
const UNUSUAL_PPM: f64 = 100.0;
/// Daemons that correct an offset through the kernel's phase-locked loop.
const LOOP_DAEMONS: [(&str, &str); 3] =
    [("systemd-timesyn", "systemd-timesyncd"), ("ntpd", "ntpd"), ("openntpd", "openntpd")];

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(source(&facts.clock));
    findings.push(rate(&facts.clock));
    findings.extend(slewing(facts));
    findings.push(synchronised(&facts.clock));
    findings.push(jitter(facts));
}

fn source(clock: &Clock) -> Finding {
    let source = clock.source.as_str();
    if source.is_empty() {
        return Finding::note("clock-source", "not known");
    }
    if QUICK.contains(&source) {
        return Finding::good("clock-source", source);
    }
    let better = clock.available.iter().find(|available| QUICK.contains(&available.as_str()));
    let coarse = COARSE.contains(&source);
    let finding = if coarse {
        Finding::error("clock-source", source).why(
            "time goes in steps of the timer interrupt, and is lost with each of them: \
                    leases cannot be measured",
        )
    } else {
        Finding::warning("clock-source", source)
            .why("each reading takes a microsecond or more, and it is read for every packet of a VIP")
    };
    match better {
        Some(better) => finding.remedy(format!(
            "echo {better} > \
                    /sys/devices/system/clocksource/clocksource0/current_clocksource, unless the \
                    kernel has found it unstable (dmesg)"
        )),
        None => finding.remedy("see `dmesg | grep -i clocksource` for why there is no better one"),
    }
}

/// R2: a promise outlasts a lease by what clocks may be apart. Beyond that, two hosts may hold.
fn rate(clock: &Clock) -> Finding {
    let limit = DRIFT_PPM as f64;
    let Some(ppm) = clock.slew_ppm.or(clock.correction_ppm) else {
        return Finding::note("clock-rate", "not known");
    };
    let seen = format!("corrected by {ppm:+.1} ppm");
    let why = format!("leases are safe while clocks run at most {DRIFT_PPM} ppm off");
    if ppm.abs() > limit {
        Finding::error("clock-rate", seen)
            .why(format!("{why}: two hosts may hold at a time as long as this lasts"))
            .remedy(
                "let the time daemon finish before the agent is started, and limit it: \
                    maxslewrate 400 in chrony.conf",
            )
    } else if ppm.abs() > UNUSUAL_PPM {
        Finding::warning("clock-rate", seen)
            .why(format!("{why}; a quartz in order needs no {UNUSUAL_PPM} ppm"))
            .remedy("chronyc tracking; in a virtual machine, compare with another on the same machine")
    } else {
        Finding::good("clock-rate", seen)
    }
}

/// What the time daemon may do to the clock later.
fn slewing(facts: &Facts) -> Option<Finding> {
    if let Some(ppm) = facts.clock.chrony_max_slew_ppm {
        let seen = format!("chronyd may bend the clock by {ppm:.0} ppm");
        return Some(if ppm > DRIFT_PPM as f64 - UNUSUAL_PPM {
            Finding::warning("clock-slewing", seen)
                .why(format!(
                    "after an outage of the time source it may go beyond the {DRIFT_PPM} ppm that leases are made for, \
                     and two hosts may hold meanwhile"
                ))
                .remedy("echo 'maxslewrate 400' > /etc/chrony/conf.d/takeover.conf (or into \
                    /etc/chrony.conf)")
                .remedy("systemctl restart chronyd; steps (makestep) do no harm, leases do not use the \
                    wall clock")
        } else {
            Finding::good("clock-slewing", seen)
        });
    }
    let (_, daemon) = LOOP_DAEMONS.iter().find(|(comm, _)| facts.programs.contains(*comm))?;
    Some(
        Finding::note("clock-slewing", format!("{daemon} keeps the time"))
            .why(format!(
                "it corrects an offset of some milliseconds faster than the {DRIFT_PPM} ppm that leases are made for; \
                 in step with its source it does not"
            ))
            .remedy("chronyd with `maxslewrate 400` never does"),
    )
}

fn synchronised(clock: &Clock) -> Finding {
    match clock.synchronised {
        Some(true) => Finding::good("clock-sync", "synchronised"),
        Some(false) => Finding::note("clock-sync", "not synchronised")
            .why("takeovers do not need it; but the times in logs of several hosts do not agree")
            .remedy("install chrony"),
        None => Finding::note("clock-sync", "not known"),
    }
}

fn jitter(facts: &Facts) -> Finding {
    let Some(jitter) = &facts.jitter else { return Finding::note("jitter", "not measured (--measure 10s)") };
    let show = |of: &Lateness| {
        format!("p50 {}, p99 {}, max {}", millis(of.p50_us), millis(of.p99_us), millis(of.max_us))
    };
    let (counts, seen) = match &jitter.real_time {
        Some(real_time) => (
            real_time,
            format!(
                "real-time {}; ordinary {} ({} wakes)",
                show(real_time),
                show(&jitter.ordinary),
                real_time.wakes
            ),
        ),
        None => (
            &jitter.ordinary,
            format!("ordinary {} ({} wakes)", show(&jitter.ordinary), jitter.ordinary.wakes),
        ),
    };
    let stall = Duration::from_micros(counts.max_us);
    let wanted: Vec<String> = facts
        .pairs
        .iter()
        .filter_map(|(pair, profile)| Some(format!("pair {pair}: {}", Timing::from(*profile).flappy(stall)?)))
        .collect();
    let why = "a thread that wakes too late renews too late, and the lease ends without need";
    if !wanted.is_empty() {
        Finding::warning("jitter", seen).why(format!("{why}: {}", wanted.join("; "))).remedy(
            "a slower profile (`takeover check FILE --stall TIME` has the arithmetic), or \
                    real-time rights, or a quieter host",
        )
    } else if Timing::from(Profile::Normal).flappy(stall).is_some() {
        Finding::warning("jitter", seen).why(format!("{why}, in profile \"normal\" too")).remedy(
            "find what holds the processor: perf sched timehist; in a virtual machine, look \
                    for steal time (vmstat 1)",
        )
    } else {
        Finding::good("jitter", seen)
    }
}
