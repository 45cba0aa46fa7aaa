//! Reports and orders in a few words, for the transcripts.

use domain::AppReport;
use ha_core::OperatorOrder;

pub fn brief_app(report: &AppReport) -> String {
    let mode = report.mode.map(|m| format!(" {m}")).unwrap_or_default();
    let cause = report.cause.as_ref().map(|c| format!(" ({c})")).unwrap_or_default();
    format!("{} {}{mode}{cause}", report.app, report.status)
}

pub fn brief_order(order: &OperatorOrder) -> String {
    match order {
        OperatorOrder::SwitchOver { pair, .. } => format!("switch {pair} over"),
        OperatorOrder::Start { app } => format!("start {app}"),
        OperatorOrder::Stop { app, graceful: true } => format!("stop {app} gracefully"),
        OperatorOrder::Stop { app, .. } => format!("stop {app}"),
        OperatorOrder::Restart { app, .. } => format!("restart {app}"),
        OperatorOrder::Acknowledge { pair } => format!("acknowledge {pair}"),
        OperatorOrder::Freeze { pair } => format!("freeze {pair}"),
        OperatorOrder::Unfreeze { pair } => format!("unfreeze {pair}"),
        OperatorOrder::Maintain { pair, .. } => format!("maintenance of {pair}"),
        OperatorOrder::EndMaintenance { pair } => format!("end the maintenance of {pair}"),
        OperatorOrder::ScheduleDrill { pair, .. } => format!("drill of {pair}"),
        OperatorOrder::RemoveDrill { pair, number } => format!("no drill {number} of {pair}"),
        OperatorOrder::StartSolution { solution } => format!("start solution {solution}"),
        OperatorOrder::StopSolution { solution, .. } => format!("stop solution {solution}"),
        OperatorOrder::ClearAlarm { number } => format!("clear alarm {number}"),
    }
}
