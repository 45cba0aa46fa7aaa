//! Manual switchover.

use domain::events;
use e2e::{
    LIMIT, clean_takeover, last_row, next_incident, ordinary_site, other, steps_in_order, tells, told, whole,
};
use ha_core::IncidentKind;
use netlab::Lab;

/// Twice in a row and in both directions: an alarm that is still active from the last time swallows nothing.
pub fn both_directions_twice(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let (api, prober) = (site.api()?, site.prober()?);
    for (round, old) in ["sip1", "sip2", "sip1", "sip2"].into_iter().enumerate() {
        let new = other(old);
        let begun = netlab::now();
        anyhow::ensure!(prober.await_answer(old, begun, LIMIT), "{old} does not answer");
        let row = last_row(&api)?;

        let known = api.incidents()?.len();
        let ordered = api.switch_over("sip", "maintenance")?;
        whole(&site, new)?;

        clean_takeover(&format!("switchover {round}"), &prober.observe(begun), old, new)?;
        let incident = next_incident(&api, known)?;
        anyhow::ensure!(
            incident.kind == IncidentKind::Manual && incident.id.0 == ordered,
            "{}",
            told(&incident)
        );
        steps_in_order(&incident)?;
        tells(
            &api,
            row,
            &[(events::SWITCHOVER_ORDERED, ""), (events::NOW_PRIMARY, new), (events::VIP_ENABLED, "")],
        )?;
        tells(
            &api,
            row,
            &[(events::SWITCHOVER_ORDERED, ""), (events::NOW_BACKUP, old), (events::VIP_DISABLED, "")],
        )?;
    }
    Ok(())
}
