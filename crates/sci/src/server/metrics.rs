//! `GET /metrics` for Prometheus: what is so now, out of the view, and how role changes went, out of the live incidents. Names
//! and units are stable; a figure whose source is not heard of is left out, not zero.

use super::routes::Api;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use domain::{Category, HostFigures, HostName, HostStatus, Micros, RunMode, SolutionStatus};
use ha_core::{Incident, IncidentOutcome, PairView, View};
use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};
use scs::handle::{Figures, LiveEvent};
use tokio::sync::broadcast::{self, error::RecvError};

/// Role changes take milliseconds where a server failed and up to seconds where a host was cut off.
const BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// What is counted from the start of the SCS on.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    role_changes: IntCounterVec,
    duration: HistogramVec,
}

impl Counters {
    /// Nothing yet.
    ///
    /// # Errors
    /// None that depends on anything but the constants here.
    pub(super) fn new() -> prometheus::Result<Self> {
        let role_changes =
            Opts::new("takeover_role_changes_total", "Role changes that ended, by how they ended.");
        let duration = HistogramOpts::new(
            "takeover_role_change_duration_seconds",
            "From the beginning of a role change to its completion, verification by the network included.",
        );
        Ok(Self {
            role_changes: IntCounterVec::new(role_changes, &["pair", "kind", "outcome"])?,
            duration: HistogramVec::new(duration.buckets(BUCKETS.to_vec()), &["pair", "kind"])?,
        })
    }

    /// Counts until there are no more events. What escapes it because it was too slow is not counted.
    pub(super) async fn run(self, mut events: broadcast::Receiver<LiveEvent>) {
        loop {
            match events.recv().await {
                Ok(LiveEvent::Incident(incident)) => self.count(&incident),
                Ok(LiveEvent::Log(_) | LiveEvent::ViewChanged) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn count(&self, incident: &Incident) {
        let Some(ended) = incident.ended else { return };
        let outcome = match &incident.outcome {
            IncidentOutcome::Open => return,
            IncidentOutcome::Completed => "completed",
            IncidentOutcome::RolledBack { .. } => "rolled-back",
            IncidentOutcome::Superseded => "superseded",
            IncidentOutcome::Interrupted => "interrupted",
            IncidentOutcome::Reconfigured => "reconfigured",
        };
        let (pair, kind) = (incident.pair.as_str(), name_of(&incident.kind));
        self.role_changes.with_label_values(&[pair, &kind, outcome]).inc();
        if incident.outcome == IncidentOutcome::Completed {
            let lasted = ended.since(incident.begun).as_secs_f64();
            self.duration.with_label_values(&[pair, &kind]).observe(lasted);
        }
    }
}

pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let text = gather(&api.release, &api.handle.view(), &api.handle.figures(), &api.counters);
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
            crate::api::Problem::new(status, format!("the figures cannot be written: {error}"))
                .into_response()
        }
    }
}

fn gather(release: &str, view: &View, figures: &Figures, counters: &Counters) -> prometheus::Result<Vec<u8>> {
    let gauges = Gauges { registry: Registry::new() };
    gauges.registry.register(Box::new(counters.role_changes.clone()))?;
    gauges.registry.register(Box::new(counters.duration.clone()))?;
    of_the_scs(&gauges, release, view)?;
    of_pairs(&gauges, view)?;
    of_solutions(&gauges, view)?;
    of_hosts(&gauges, view, figures)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&gauges.registry.gather(), &mut text)?;
    Ok(text)
}

/// The gauges of one answer.
struct Gauges {
    registry: Registry,
}

impl Gauges {
    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(gauge.clone()) as Box<dyn Collector>)?;
        Ok(gauge)
    }
}

fn of_the_scs(gauges: &Gauges, release: &str, view: &View) -> prometheus::Result<()> {
    gauges
        .gauge("takeover_build_info", "The release of the SCS.", &["release"])?
        .with_label_values(&[release])
        .set(1.0);
    let started = gauges.gauge(
        "takeover_scs_start_time_seconds",
        "When the SCS started, since the Unix epoch.",
        &[],
    )?;
    started.with_label_values::<&str>(&[]).set(seconds(view.started_at));
    let alarms = gauges.gauge("takeover_alarms_active", "Active alarms.", &["category"])?;
    for category in [Category::Critical, Category::Major, Category::Minor] {
        let count = view.alarms.iter().filter(|alarm| alarm.category == category).count();
        alarms.with_label_values(&[&category.to_string()]).set(number(count));
    }
    Ok(())
}

fn of_solutions(gauges: &Gauges, view: &View) -> prometheus::Result<()> {
    let started = gauges.gauge(
        "takeover_solution_started",
        "Whether all of a solution gives service.",
        &["solution"],
    )?;
    for solution in &view.solutions {
        let is_started = solution.status == SolutionStatus::Started;
        started.with_label_values(&[solution.name.as_str()]).set(if is_started { 1.0 } else { 0.0 });
    }
    Ok(())
}

fn of_pairs(gauges: &Gauges, view: &View) -> prometheus::Result<()> {
    let primaries = gauges.gauge(
        "takeover_pair_primaries",
        "Members that run as primary; anything but 1 is trouble.",
        &["pair"],
    )?;
    let trouble =
        gauges.gauge("takeover_pair_troubles", "What is wrong with a pair, how many things.", &["pair"])?;
    let frozen = gauges.gauge(
        "takeover_pair_frozen",
        "Whether a pair is frozen, by the flap guard or by hand: nothing fails over.",
        &["pair"],
    )?;
    let epoch =
        gauges.gauge("takeover_pair_epoch", "Grows with every grant of the pair's role.", &["pair"])?;
    let mode = gauges.gauge(
        "takeover_member_primary",
        "Whether a member runs as primary.",
        &["pair", "app", "host"],
    )?;
    let ready = gauges.gauge(
        "takeover_member_ready",
        "Whether a member could take over now.",
        &["pair", "app", "host"],
    )?;
    let lag = gauges.gauge(
        "takeover_standby_lag_seconds",
        "How far the copy of a backup is behind.",
        &["pair", "app"],
    )?;
    let holders = gauges.gauge(
        "takeover_vip_holders",
        "Hosts that have a VIP enabled; anything but 1 is trouble.",
        &["pair", "vip"],
    )?;
    let left = gauges.gauge(
        "takeover_lease_left_seconds",
        "How much of its lease the holder had left when it told last.",
        &["pair"],
    )?;
    let backing =
        gauges.gauge("takeover_lease_backing", "Other voters that confirm the holder, of 2.", &["pair"])?;
    let worst = gauges.gauge(
        "takeover_promise_seconds",
        "Within what time service is back after the holder's host is cut off, at the worst.",
        &["pair"],
    )?;
    for pair in &view.pairs {
        let name = pair.name.as_str();
        let runs = |member: &&ha_core::MemberView| member.current && member.mode == Some(RunMode::Primary);
        primaries.with_label_values(&[name]).set(number(pair.members.iter().filter(runs).count()));
        trouble.with_label_values(&[name]).set(number(pair.trouble.len()));
        frozen.with_label_values(&[name]).set(yes(pair.frozen));
        epoch.with_label_values(&[name]).set(whole(pair.epoch.0));
        for member in pair.members.iter().filter(|member| member.current) {
            let labels = [name, member.app.as_str(), member.host.as_str()];
            mode.with_label_values(&labels).set(yes(member.mode == Some(RunMode::Primary)));
            ready.with_label_values(&labels).set(yes(member.ready.is_ok()));
            if let Some(behind) = member.standby.and_then(|standby| standby.standby.lag_ms) {
                lag.with_label_values(&[name, member.app.as_str()]).set(whole(behind) / 1e3);
            }
        }
        of_vips(&holders, pair);
        if let Some(lease) = &pair.lease {
            if lease.told.is_some() && lease.holder.is_some() {
                left.with_label_values(&[name]).set(whole(lease.left_us) / 1e6);
                backing.with_label_values(&[name]).set(f64::from(lease.backing));
            }
            worst.with_label_values(&[name]).set(whole(lease.host_cut_us) / 1e6);
        }
    }
    Ok(())
}

fn of_vips(holders: &GaugeVec, pair: &PairView) {
    for vip in &pair.vips {
        let enabled = vip.places.iter().filter(|place| place.enabled == Some(true)).count();
        holders
            .with_label_values(&[pair.name.as_str(), &vip.address.address.to_string()])
            .set(number(enabled));
    }
}

fn of_hosts(gauges: &Gauges, view: &View, figures: &Figures) -> prometheus::Result<()> {
    let up = gauges.gauge("takeover_host_up", "Whether a host's agent is connected.", &["host"])?;
    for host in &view.hosts {
        up.with_label_values(&[host.name.as_str()]).set(yes(host.status == HostStatus::Up));
    }
    type Figure = (&'static str, &'static str, fn(&HostFigures) -> f64);
    let all: [Figure; 9] = [
        ("takeover_host_cpu_ratio", "Share of all cores that was busy.", |f| f.cpu),
        ("takeover_host_memory_bytes", "Memory in all.", |f| whole(f.memory_total)),
        ("takeover_host_memory_available_bytes", "Memory that programs can still have.", |f| {
            whole(f.memory_available)
        }),
        ("takeover_host_load1", "Load average over one minute.", |f| f.load1),
        ("takeover_agent_resident_bytes", "Resident memory of the agent.", |f| whole(f.agent_resident)),
        ("takeover_agent_longest_stall_seconds", "Longest lateness of the agent's real-time thread.", |f| {
            whole(f.longest_stall_us) / 1e6
        }),
        ("takeover_agent_real_time", "Whether that thread is scheduled in real time.", |f| yes(f.real_time)),
        ("takeover_agent_vips_put_back", "VIPs put back after another tool removed them.", |f| {
            whole(f.vips_put_back)
        }),
        (
            "takeover_host_figures_time_seconds",
            "When the host's figures were taken, since the Unix epoch.",
            |f| seconds(f.at),
        ),
    ];
    for (name, help, value) in all {
        let gauge = gauges.gauge(name, help, &["host"])?;
        for (host, (_, figures)) in figures {
            set(&gauge, host, value(figures));
        }
    }
    Ok(())
}

fn set(gauge: &GaugeVec, host: &HostName, value: f64) {
    gauge.with_label_values(&[host.as_str()]).set(value);
}

/// As the kind is written in JSON.
fn name_of(kind: &ha_core::IncidentKind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn seconds(at: Micros) -> f64 {
    whole(at.0) / 1e6
}

fn yes(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

fn number(count: usize) -> f64 {
    whole(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Exact up to 2^53, which no figure here reaches.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn whole(value: u64) -> f64 {
    value as f64
}
