//! What every command's help says besides its options: examples, and what the exit codes mean. One place, so
//! that no command lacks it.

use clap::Command;

/// What the exit codes of all commands mean.
pub const EXIT_CODES: [(u8, &str); 4] = [
    (0, "fine"),
    (
        1,
        "the command ran and found a fault: a bad line, a broken DAG file, a day that does not reconcile, a request the daemon refused",
    ),
    (2, "the command line was wrong"),
    (3, "a file, port or server it needs is not usable"),
];

/// Files that commands read and write.
pub const FILES: [(&str, &str); 6] = [
    ("dags/", "DAG files, and their calendars and symbols; --dags names another folder"),
    ("data/", "the daemon's data folder; --data names another"),
    ("data/daemon.json", "where the daemon of the folder listens"),
    ("data/daemon.token", "what commands on the same machine act with; only its owner can read it"),
    ("data/users.json", "users and tokens, unless auth.users of the configuration names another file"),
    ("data/openbell.sock", "through it commands and steps reach the stores of a running daemon"),
];

/// Variables that commands read.
pub const ENVIRONMENT: [(&str, &str); 5] = [
    ("OPENBELL_DATA", "data folder, instead of --data"),
    ("OPENBELL_CONFIG", "configuration file, instead of --config"),
    ("OPENBELL_TOKEN", "token by which commands act on a daemon, instead of the data folder's own"),
    ("OPENBELL_TOKEN_FILE", "file with such a token"),
    ("RUST_LOG", "what `openbell simulate` logs, for example info or debug"),
];

/// Examples of commands whose own help has none, on the shipped DAG and its topic.
const EXAMPLES: [(&str, &str); 37] = [
    ("down", "openbell down --drain"),
    ("doctor", "openbell doctor --config openbell.yaml"),
    ("dag list", "openbell dag list --json | jq '.dags[].name'"),
    ("dag programs", "openbell dag programs sink/index"),
    ("alerts kinds", "openbell alerts kinds"),
    ("alerts test", "openbell alerts test --dag kis-trading-day"),
    ("dlq list", "openbell dlq list --topic kis.trades"),
    ("topics show", "openbell topics show kis.trades"),
    ("topics peek", "openbell topics peek kis.trades --partition 2 --from 1200 --limit 5"),
    ("dag show", "openbell dag show kis-trading-day"),
    ("dag lint", "openbell dag lint dags/kis-trading-day.yaml"),
    ("dag graph", "openbell dag graph kis-trading-day --dot | dot -Tsvg > day.svg"),
    ("dag next", "openbell dag next kis-trading-day --count 10 --from 2026-11-16"),
    ("dag test", "openbell dag test dags/kis-trading-day.yaml --until 2m"),
    ("dag schema", "openbell dag schema > dags/schema.json"),
    ("run trigger", "openbell run trigger kis-trading-day --param venue=krx"),
    ("run list", "openbell run list kis-trading-day --json"),
    ("run show", "openbell run show kis-trading-day@2026-11-20"),
    ("run output", "openbell run output kis-trading-day collector --follow"),
    ("run cancel", "openbell run cancel kis-trading-day"),
    ("run clear", "openbell run clear kis-trading-day@2026-11-20 reconcile"),
    ("run mark", "openbell run mark kis-trading-day vwap --as succeeded"),
    ("run pause", "openbell run pause kis-trading-day"),
    ("run resume", "openbell run resume kis-trading-day"),
    ("user add", "openbell user add ann --role operator"),
    ("user list", "openbell user list --json"),
    ("user remove", "openbell user remove ann"),
    ("user passwd", "openbell user passwd ann --generate"),
    ("user role", "openbell user role ann viewer"),
    ("token create", "openbell token create grafana --role viewer --expires 90d"),
    ("token list", "openbell token list"),
    ("token revoke", "openbell token revoke grafana"),
    ("completions", "openbell completions bash"),
    ("man", "openbell man | man -l -"),
    ("reconcile", "openbell reconcile kis-trading-day@2026-11-20"),
    ("backup", "openbell backup /backups"),
    ("restore", "openbell restore openbell.tar --data data2"),
];

/// The exit codes in one sentence.
pub fn exit_codes() -> String {
    let codes: Vec<_> = EXIT_CODES.iter().map(|(code, what)| format!("{code} {what}")).collect();
    format!("Exit codes: {}.", codes.join("; "))
}

/// Gives every command that lacks them its examples and the exit codes.
pub fn complete(command: Command) -> Command {
    below(command, "")
}

fn below(mut command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in &names {
        let path = format!("{path} {name}");
        command = command.mut_subcommand(name, |sub| below(sub, path.trim_start()));
    }
    let mut text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut add = |more: &str| {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(more);
    };
    if names.is_empty()
        && !command.get_after_help().is_some_and(|help| help.to_string().contains("Example"))
        && let Some((_, example)) = EXAMPLES.iter().find(|(of, _)| *of == path)
    {
        add(&format!("Example:\n  {example}"));
    }
    let told = command.get_after_help().is_some_and(|help| help.to_string().contains("Exit codes"));
    if !told {
        add(&exit_codes());
    }
    command.after_help(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
            if sub.has_subcommands() {
                leaves(sub, &path, found);
            } else {
                found.push((path, sub.clone()));
            }
        }
    }

    #[test]
    fn every_command_has_examples_that_parse_and_tells_its_exit_codes() {
        let command = crate::command();
        let mut found = Vec::new();
        leaves(&command, "", &mut found);
        assert!(found.len() > 40, "{}", found.len());
        for (path, sub) in &found {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Exit codes"), "{path} does not tell its exit codes");
            let examples: Vec<_> = help.lines().filter_map(|l| l.trim().strip_prefix("openbell ")).collect();
            assert!(examples.iter().any(|e| e.starts_with(path.as_str())), "{path} has no example: {help}");
            for example in examples {
                // Up to what a shell does with it, and to what is said about it.
                let end = example
                    .find(['|', '>', '<', '('])
                    .into_iter()
                    .chain(example.find("   "))
                    .min()
                    .unwrap_or(example.len());
                let words = ["openbell"].into_iter().chain(example[..end].split_whitespace());
                let tried = crate::command().try_get_matches_from(words);
                assert!(
                    tried.is_ok(),
                    "{path}: openbell {}: {}",
                    &example[..end],
                    tried.expect_err("an error")
                );
            }
        }
        for (path, _) in EXAMPLES {
            assert!(found.iter().any(|(known, _)| known == path), "there is no command {path}");
        }
    }

    #[test]
    fn the_codes_are_those_of_the_program() {
        use crate::Exit;
        let codes = [Exit::Fine, Exit::Fault, Exit::Usage, Exit::Unusable].map(Exit::code);
        assert_eq!(EXIT_CODES.map(|(code, _)| code), codes);
        assert!(exit_codes().contains("; 2 the command line was wrong; 3 "));
    }
}
