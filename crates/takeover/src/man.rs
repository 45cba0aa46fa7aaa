//! `takeover man`: manual pages for the program and each of its commands, made from the same declaration as the command line
//! and its help, so that they say the same.

use anyhow::{Context, Result};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the pages say they are part of.
const MANUAL: &str = "Takeover";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the pages go; it is made where it is missing
    directory: PathBuf,
}

/// Writes a page for `command` and each command below it, and says how many.
///
/// # Errors
/// The directory or a file cannot be written.
pub(crate) fn run(arguments: &Arguments, command: Command) -> Result<()> {
    let written = write(&arguments.directory, command)?;
    println!("{written} pages in {}", arguments.directory.display());
    Ok(())
}

fn write(directory: &Path, command: Command) -> Result<usize> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let release = format!("takeover {}", command.get_version().unwrap_or_default());
    write_below(directory, &command, &release)
}

fn write_below(directory: &Path, command: &Command, release: &str) -> Result<usize> {
    let man = Man::new(command.clone()).source(release).manual(MANUAL);
    let path = directory.join(man.get_filename());
    let mut page = Vec::new();
    render(&man, command, &mut page)
        .and_then(|()| fs::write(&path, page))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let mut written = 1;
    for below in command.get_subcommands() {
        written += write_below(directory, below, release)?;
    }
    Ok(written)
}

/// As the library has it, but for the examples: their lines stay lines.
fn render(man: &Man, command: &Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    let Some(after) = command.get_after_long_help().or_else(|| command.get_after_help()) else {
        return Ok(());
    };
    let mut roff = Roff::new();
    roff.control("SH", ["NOTES"]).control("nf", []);
    for line in after.to_string().lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_writer(page)?;
    page.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn count(command: &Command) -> usize {
        1 + command.get_subcommands().map(count).sum::<usize>()
    }

    #[test]
    fn every_command_has_a_page_that_says_what_its_help_says() {
        let directory = tempfile::tempdir().unwrap();
        let pages = directory.path().join("man1");
        let mut command = crate::Arguments::command().disable_help_subcommand(true);
        let written = write(&pages, command.clone()).unwrap();
        command.build();
        assert_eq!(written, count(&command), "one page for each command");
        assert_eq!(fs::read_dir(&pages).unwrap().count(), written);
        let page = |name: &str| fs::read_to_string(pages.join(name)).unwrap();
        let switchover = page("takeover-switchover.1");
        for said in
            [".TH takeover-switchover 1", "Exchange the modes of a pair", "\\-\\-reason", "CONNECTION"]
        {
            assert!(switchover.contains(said), "{said} is missing in\n{switchover}");
        }
        let is_example = |line: &&str| line.starts_with("  takeover switchover sip \\-\\-plan  ");
        assert_eq!(switchover.lines().filter(is_example).count(), 1, "a line of its own in\n{switchover}");
        assert!(page("takeover-alarms-clear.1").contains("Clear an active alarm"));
        assert!(page("takeover.1").contains("takeover\\-lca(1)"));
    }
}
