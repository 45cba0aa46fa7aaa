//! What the server says for people, on its standard error: the agent keeps it in a file.

use domain::AppName;
use std::fmt;

/// Says things under the application's name.
#[derive(Debug, Clone)]
pub(crate) struct Say {
    name: AppName,
}

impl Say {
    pub(crate) fn new(name: AppName) -> Self {
        Self { name }
    }

    pub(crate) fn note(&self, text: fmt::Arguments<'_>) {
        eprintln!("{}: {text}", self.name);
    }
}
