//! `[scs.oidc]`: an identity provider for logins at the web port. What is read here goes into addresses and is compared with what
//! the provider says, so it is held to what both can be.

use crate::reader::{Field, Table, shown};
use crate::schema::{SCS_OIDC, SCS_OIDC_ROLES};
use crate::values;
use domain::OidcSettings;
use std::collections::BTreeSet;

/// Longest text, bytes.
const MAX_TEXT: usize = 500;
/// Most groups that have a role, and most scopes.
const MAX_ITEMS: usize = 100;
const EXAMPLE: &str = "https://login.example.com/realms/staff";

/// `web`: whether there is a web port, without which nobody could log in.
pub(crate) fn oidc(scs: &Table<'_>, web: bool) -> Option<OidcSettings> {
    let field = scs.get("oidc")?;
    let table = field.table(&SCS_OIDC, "[scs.oidc]".to_owned())?;
    if !web {
        table.error(
            || "[scs.oidc] without [scs.web]".to_owned(),
            |f| f.label("logins are for the web port").help("add a table [scs.web]".to_owned()),
        );
    }
    let name = table.get("name").map_or_else(|| Some("single sign-on".to_owned()), |field| text(&field, 64));
    let issuer = table.require("issuer", &format!("issuer = \"{EXAMPLE}\"")).and_then(|field| issuer(&field));
    let client_id = table.require("client-id", "client-id = \"takeover\"");
    let client_id = client_id.and_then(|field| text(&field, MAX_TEXT));
    let path = |key| table.get(key).and_then(|field| values::absolute_path(&field));
    let claim = |key, default: &str| {
        table.get(key).map_or_else(|| Some(default.to_owned()), |field| text(&field, MAX_TEXT))
    };
    let scopes = table.get("scopes").map_or_else(
        || Some(vec!["profile".to_owned()]),
        |field| texts(&field, |c| c.is_ascii_graphic() && !matches!(c, '"' | '\\')),
    );
    let roles = table.require("roles", "roles = { operator = [\"noc\"], administrator = [\"voice\"] }");
    let roles = roles.and_then(|field| roles_of(&field));
    let password_login = table.boolean("password-login", true);
    let (client_secret_file, ca) = (path("client-secret-file"), path("ca"));
    let (user_claim, groups_claim) =
        (claim("user-claim", "preferred_username"), claim("groups-claim", "groups"));
    let [viewers, operators, administrators] = roles?;
    if !password_login && administrators.is_empty() {
        table.error(
            || "nobody could administer".to_owned(),
            |f| {
                f.label("no group is `administrator`, and `password-login = false`")
                    .help("give a group the role `administrator`, or leave logins by password".to_owned())
            },
        );
    }
    Some(OidcSettings {
        name: name?,
        issuer: issuer?,
        client_id: client_id?,
        client_secret_file,
        ca,
        scopes: scopes?,
        user_claim: user_claim?,
        groups_claim: groups_claim?,
        viewers,
        operators,
        administrators,
        password_login,
    })
}

/// How browsers reach the web port: scheme, name, port, nothing behind.
pub(crate) fn web_address(field: &Field<'_>) -> Option<String> {
    let expected = "an address such as \"https://scs.example.com:7443\", without a path";
    let text = field.string(expected)?;
    let rest = text.strip_prefix("https://").filter(|rest| is_plain(text) && !rest.is_empty());
    if rest.is_none_or(|rest| rest.contains(['/', '?', '#', '@'])) {
        field.error(
            || format!("`{}`: {} is not how a browser reaches the web port", field.name, shown(text)),
            |f| f.label(format!("expected {expected}")),
        );
        return None;
    }
    Some(text.to_owned())
}

/// An issuer identifier (OpenID Connect Discovery 1.0, section 4.1): a URL without query and fragment.
fn issuer(field: &Field<'_>) -> Option<String> {
    let expected = format!("the provider's issuer identifier, such as \"{EXAMPLE}\"");
    let text = field.string(&expected)?;
    let secure = text.strip_prefix("https://");
    let rest = secure.or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    if host.is_empty() || !is_plain(text) || rest.contains(['?', '#', '@']) {
        field.error(
            || format!("`issuer`: {} is not an issuer identifier", shown(text)),
            |f| f.label(format!("expected {expected}")),
        );
        return None;
    }
    if secure.is_none() && !matches!(host, "127.0.0.1" | "localhost") {
        field.error(
            || "`issuer` is not protected by TLS".to_owned(),
            |f| {
                f.label("expected https://")
                    .help("http:// is for a provider on the SCS's own machine".to_owned())
            },
        );
        return None;
    }
    Some(text.to_owned())
}

fn roles_of(field: &Field<'_>) -> Option<[BTreeSet<String>; 3]> {
    let table = field.table(&SCS_OIDC_ROLES, "[scs.oidc.roles]".to_owned())?;
    let of = |key| {
        let groups =
            table.get(key).map_or_else(|| Some(Vec::new()), |field| texts(&field, |c| !c.is_control()));
        groups.map(BTreeSet::from_iter)
    };
    let roles = [of("viewer"), of("operator"), of("administrator")];
    let [viewer, operator, administrator] = roles;
    let roles = [viewer?, operator?, administrator?];
    if roles.iter().all(BTreeSet::is_empty) {
        field.error(
            || "no group has a role: nobody could log in by the provider".to_owned(),
            |f| f.label("expected groups for `viewer`, `operator` or `administrator`"),
        );
        return None;
    }
    Some(roles)
}

fn text(field: &Field<'_>, most: usize) -> Option<String> {
    let expected = format!("a text of 1 to {most} bytes");
    let text = field.string(&expected)?;
    if text.is_empty() || text.len() > most || text.contains(char::is_control) {
        field.error(
            || format!("`{}` is of the wrong length", field.name),
            |f| f.label(format!("expected {expected}")),
        );
        return None;
    }
    Some(text.to_owned())
}

fn texts(field: &Field<'_>, fits: impl Fn(char) -> bool) -> Option<Vec<String>> {
    let expected = format!("an array of at most {MAX_ITEMS} texts");
    let items = field.items(&expected)?;
    if items.len() > MAX_ITEMS {
        field.error(
            || format!("`{}` has {} entries", field.name, items.len()),
            |f| f.label(format!("expected {expected}")),
        );
        return None;
    }
    items
        .iter()
        .map(|item| {
            let text = text(item, MAX_TEXT)?;
            if !text.chars().all(&fits) {
                item.error(
                    || format!("{} cannot stand here", shown(&text)),
                    |f| f.label("has a character that is not allowed"),
                );
                return None;
            }
            Some(text)
        })
        .collect()
}

fn is_plain(text: &str) -> bool {
    text.len() <= MAX_TEXT && text.bytes().all(|byte| byte.is_ascii_graphic())
}
