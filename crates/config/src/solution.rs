//! `[solutions.NAME]`: ordered sets of applications.

use crate::names::{Names, named};
use crate::reader::{Field, Span, Table};
use crate::schema::SOLUTION;
use domain::{AppName, Pair, PairName, Solution, SolutionName};
use std::collections::BTreeMap;

/// Most applications of one solution.
const MAX_APPLICATIONS: usize = 256;

/// All solutions.
pub(crate) fn solutions(
    root: &Table<'_>,
    names: &Names,
    pairs: &BTreeMap<PairName, Pair>,
) -> BTreeMap<SolutionName, Solution> {
    let mut taken = BTreeMap::new();
    named(root, "solutions", "solution", &SOLUTION, |_: &SolutionName, table| {
        let field = table.require("applications", "applications = [\"database\", \"sip1\", \"sip2\"]")?;
        Some(Solution { applications: applications(&field, names, pairs, &mut taken)? })
    })
}

/// The applications in their order; `taken` are those of the solutions so far, with the places where they are named.
fn applications(
    field: &Field<'_>,
    names: &Names,
    pairs: &BTreeMap<PairName, Pair>,
    taken: &mut BTreeMap<AppName, Span>,
) -> Option<Vec<AppName>> {
    let items = field.items("an array of names of applications such as [\"sip1\", \"sip2\"]")?;
    if items.is_empty() || items.len() > MAX_APPLICATIONS {
        field.error(
            || format!("`applications` has {} names", items.len()),
            |f| f.label(format!("expected 1 to {MAX_APPLICATIONS}")),
        );
    }
    let mut applications = Vec::new();
    for item in items.iter().take(MAX_APPLICATIONS) {
        let Some(app) = names.applications.resolve(item) else { continue };
        if let Some(first) = taken.insert(app.clone(), item.span()) {
            item.error(
                || format!("{app} belongs to a solution already"),
                |f| {
                    let help =
                        "an application belongs to one solution at most: otherwise it would have two orders";
                    f.label("the second time").related(first, "the first time").help(help.to_owned())
                },
            );
        }
        applications.push(app);
    }
    // With a name that is not known, the other member may be the one that was meant.
    for (item, app) in items.iter().zip(&applications).filter(|_| applications.len() == items.len()) {
        let Some((pair, members)) = pairs.iter().find(|(_, pair)| pair.members.contains(app)) else {
            continue;
        };
        let other = members.other(app);
        if !applications.contains(other) {
            item.error(
                || format!("{app} is in the solution without {other}, the other member of pair {pair}"),
                |f| {
                    f.label("half a pair")
                        .help("name both: a pair is started and stopped as a whole".to_owned())
                },
            );
        }
    }
    Some(applications)
}
