//! Pages for people whose login by the identity provider did not come about: what is so, and what to do.

use super::super::console;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A page.
pub(super) struct Page {
    status: StatusCode,
    title: &'static str,
    text: String,
    /// What to do, a sentence each.
    remedies: Vec<String>,
}

impl Page {
    /// The cookie of the login is not there, or the answer is not to it.
    pub(super) fn not_begun_here(web_address: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            title: "This login cannot be ended here",
            text: "It was not begun in this browser, or more than ten minutes ago, or it was ended already.".to_owned(),
            remedies: vec![
                format!("Open {web_address} and sign in again."),
                "If that leads here again, the browser keeps no cookies of that address, or the console was opened by another."
                    .to_owned(),
            ],
        }
    }

    /// Known to the provider, and of no group that has a role.
    pub(super) fn no_role(name: &str, groups: &str) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            title: "You have no role here",
            text: format!("The identity provider knows you as {name}, of these groups: {groups}. None of them has a role."),
            remedies: vec![
                "Ask for a place in a group that has one, or have your group named in [scs.oidc.roles] of the cluster file."
                    .to_owned(),
                "Where groups are missing, the provider does not put them into its ID token: see `groups-claim` and `scopes`."
                    .to_owned(),
            ],
        }
    }

    /// Anything else.
    pub(super) fn trouble(status: StatusCode, why: &str, passwords: bool) -> Self {
        let other = if passwords {
            "In a hurry, log in with a password on the login page."
        } else {
            "In a hurry, use the takeover command on the SCS's host: it needs no login."
        };
        let remedies = match status {
            StatusCode::BAD_GATEWAY => vec![
                "Try again in a moment. Nothing else of the installation depends on the identity provider."
                    .to_owned(),
                other.to_owned(),
            ],
            StatusCode::FORBIDDEN => vec![
                "Try again; if it stays so, show this page to whoever looks after the identity provider."
                    .to_owned(),
                other.to_owned(),
            ],
            // The settings, here or there.
            _ => vec![
                "Show this page to whoever looks after the cluster file, [scs.oidc].".to_owned(),
                other.to_owned(),
            ],
        };
        Self { status, title: "The login did not come about", text: first_upper(why), remedies }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self { status, title, text, remedies } = self;
        let remedies: String =
            remedies.iter().map(|remedy| format!("<li>{}</li>", escaped(remedy))).collect();
        let body = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\">\n<title>{title} - Takeover</title><link rel=\"stylesheet\" \
             href=\"/console.css\"></head>\n<body class=\"alone\"><main><div class=\"card login\">\n<h1>Takeover</h1>\n\
             <h2>{title}</h2>\n<p>{}</p>\n<ul>{remedies}</ul>\n<p><a href=\"/\">To the login page</a></p>\n</div></main></body>\n\
             </html>\n",
            escaped(&text)
        );
        let mut response =
            (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response();
        let headers = response.headers_mut();
        headers.extend(console::HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn first_upper(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_text() {
        assert_eq!(escaped("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
        assert_eq!(first_upper("so it is"), "So it is.");
    }
}
