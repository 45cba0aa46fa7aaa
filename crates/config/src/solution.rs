//! `[solutions.NAME]`: ordered sets of applications.

use crate::names::{Names, named};
use crate::reader::{Field, Span, Table};
use crate::schema::SOLUTION;
use domain::{AppName, Solution, SolutionName};
use std::collections::BTreeMap;

/// Most applications of one solution.
const MAX_APPLICATIONS: usize = 256;

/// All solutions.
pub(crate) fn solutions(root: &Table<'_>, names: &Names) -> BTreeMap<SolutionName, Solution> {
    let mut taken = BTreeMap::new();
    named(root, "solutions", "solution", &SOLUTION, |_: &SolutionName, table| {
        let field = table.require("applications", "applications = [\"database\", \"sip1\", \"sip2\"]")?;
        Some(Solution { applications: applications(&field, names, &mut taken)? })
    })
}

/// The applications in their order; `taken` are those of the solutions so far, with the places where they are named.
fn applications(
    field: &Field<'_>,
    names: &Names,
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
    Some(applications)
}
