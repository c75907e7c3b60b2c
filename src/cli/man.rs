//! `openbell man`: manual pages out of the command line's own definitions.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::about::{ENVIRONMENT, EXIT_CODES, FILES};
use super::exit::{Exit, Failure};
use super::table::print;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  openbell man | man -l -
  openbell man ~/.local/share/man/man1      then: man openbell-reconcile")]
pub struct Arguments {
    /// Folder for the pages of all commands; without it the page of openbell itself goes to standard output
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> super::exit::Result {
    let command = super::command();
    match arguments.folder {
        None => print(page(command).map_err(Failure::unusable)?).map(|()| Exit::Fine),
        Some(folder) => {
            let failed = |e: io::Error| Failure::unusable(format!("{}: {e}", folder.display()));
            std::fs::create_dir_all(&folder).map_err(failed)?;
            let count = all(command, &folder).map_err(failed)?;
            print(format!("{count} pages in {}\n", folder.display())).map(|()| Exit::Fine)
        }
    }
}

/// Writes the pages of a command and all below it; how many.
fn all(command: Command, folder: &Path) -> io::Result<usize> {
    // The pages of `help` would say what these say.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    each(command, folder)
}

fn each(command: Command, folder: &Path) -> io::Result<usize> {
    let mut count = 1;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned() {
        count += each(sub, folder)?;
    }
    let name = Man::new(command.clone()).get_filename();
    std::fs::write(folder.join(name), page(command)?)?;
    Ok(count)
}

/// The page of a command.
fn page(command: Command) -> io::Result<Vec<u8>> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (options, subcommands) = (command.get_arguments().next().is_some(), command.has_subcommands());
    let man = Man::new(command).manual("openbell");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    if options {
        man.render_options_section(&mut out)?;
    }
    if subcommands {
        man.render_subcommands_section(&mut out)?;
    }
    sections(&help, &mut out)?;
    Ok(out)
}

/// What the help says after the options, under the headings of manual pages.
fn sections(help: &str, out: &mut impl Write) -> io::Result<()> {
    let (mut notes, mut examples, mut codes) = (Vec::new(), Vec::new(), Vec::new());
    for block in help.split("\n\n").filter(|block| !block.trim().is_empty()) {
        match block {
            _ if block.starts_with("Example") => examples.push(block),
            _ if block.starts_with("Exit codes") => codes.push(block),
            _ => notes.push(block),
        }
    }
    let mut roff = Roff::default();
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
        notes.iter().for_each(|text| literal(&mut roff, text.lines()));
    }
    roff.control("SH", ["EXIT STATUS"]);
    let own: Vec<_> = codes.iter().filter(|text| **text != super::about::exit_codes()).collect();
    if own.is_empty() {
        table(&mut roff, EXIT_CODES.map(|(code, what)| (code.to_string(), what)));
    }
    own.iter().for_each(|text| literal(&mut roff, text.lines()));
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        // The first line is the heading, which stands there already.
        examples.iter().for_each(|text| literal(&mut roff, text.lines().skip(1).map(str::trim_start)));
    }
    roff.control("SH", ["FILES"]);
    table(&mut roff, FILES.map(|(name, what)| (name.to_owned(), what)));
    roff.control("SH", ["ENVIRONMENT"]);
    table(&mut roff, ENVIRONMENT.map(|(name, what)| (name.to_owned(), what)));
    roff.to_writer(out)
}

fn table<const N: usize>(roff: &mut Roff, rows: [(String, &str); N]) {
    for (name, what) in rows {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(what)]);
    }
}

/// Lines as they are.
fn literal<'a>(roff: &mut Roff, lines: impl Iterator<Item = &'a str>) {
    roff.control("PP", []);
    roff.control("nf", []);
    for line in lines {
        let line: Inline = roman(line);
        roff.text([line]);
    }
    roff.control("fi", []);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_all_sections() {
        let folder = tempfile::tempdir().expect("a folder");
        let count = all(crate::command(), folder.path()).expect("written");
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .map(|e| e.expect("an entry").file_name())
            .collect();
        names.sort();
        assert_eq!(names.len(), count);
        for name in ["openbell.1", "openbell-dag-lint.1", "openbell-reconcile.1", "openbell-dlq-replay.1"] {
            let text =
                std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
            for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "FILES", "ENVIRONMENT"] {
                assert!(
                    text.contains(&format!(".SH {section}")) || text.contains(&format!(".SH \"{section}\"")),
                    "{name} lacks {section}"
                );
            }
        }
        assert!(!names.iter().any(|n| n.to_string_lossy().contains("shim")), "{names:?}");
        let replay = std::fs::read_to_string(folder.path().join("openbell-dlq-replay.1")).expect("a page");
        assert!(
            replay.contains("openbell dlq replay \\-\\-cause rejected")
                && replay.contains("some letters still cannot be read"),
            "{replay}"
        );
    }
}
