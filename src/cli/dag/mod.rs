//! `openbell dag`: looks at DAG files without a daemon.

mod graph;
mod lint;
mod next;
mod programs;
mod show;
mod table;
mod test;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::civil::Date;

use super::exit::{Exit, Failure, Result};
use daemon::folder::{self, DagFile, Folder};
use dagfile::{nearest, schema};
use domain::dag::Dag;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the DAGs of a folder, broken files included
    List {
        #[command(flatten)]
        shared: Shared,
    },
    /// Show everything about one DAG, with all defaults filled in
    Show {
        /// Name of the DAG
        name: String,
        #[command(flatten)]
        shared: Shared,
    },
    /// Check DAG files and calendars; every fault as file:line:column
    Lint {
        /// Files to check; without any, the whole folder
        files: Vec<PathBuf>,
        #[command(flatten)]
        shared: Shared,
    },
    /// Show which step waits for which
    Graph {
        /// Name of the DAG
        name: String,
        /// Print Graphviz DOT
        #[arg(long, conflicts_with = "json")]
        dot: bool,
        #[command(flatten)]
        shared: Shared,
    },
    /// Show the next windows, with the calendar's closed days and late opens
    Next {
        /// Name of the DAG
        name: String,
        /// How many windows
        #[arg(short = 'n', long = "count", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
        /// Windows that open on or after this date, YYYY-MM-DD (default: from now on)
        #[arg(long)]
        from: Option<Date>,
        #[command(flatten)]
        shared: Shared,
    },
    /// Run one DAG in the foreground
    Test {
        /// The DAG file
        file: PathBuf,
        /// Session date the steps are told, YYYY-MM-DD (default: today)
        #[arg(long)]
        date: Option<Date>,
        /// How long a DAG with services may run (default: until its close of today, else 10m)
        #[arg(long, value_name = "DURATION")]
        until: Option<String>,
        /// Keep the run's data here (default: a new temporary folder)
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Print the run as JSON at its end, and everything else on standard error
        #[arg(long)]
        json: bool,
    },
    /// Show the built-in programs, or what one of them takes
    Programs {
        /// Name of a program, for example sink/index
        name: Option<String>,
        /// Print all of them as Markdown
        #[arg(long, conflicts_with_all = ["json", "name"])]
        markdown: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of DAG files, for editors
    Schema {
        /// The schema is JSON anyway
        #[arg(long, hide = true)]
        json: bool,
    },
}

/// Options of all subcommands that read a folder.
#[derive(Debug, Args)]
pub struct Shared {
    /// Folder of DAG files (default: dags; with files to check, the folder they are in)
    #[arg(long, value_name = "DIR")]
    dags: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Shared {
    fn folder(&self) -> &Path {
        self.dags.as_deref().unwrap_or(Path::new("dags"))
    }
}

/// Carries out the command.
pub fn main(command: Command) -> Result {
    match command {
        Command::List { shared } => show::list(&read(shared.folder())?, shared.json),
        Command::Show { name, shared } => {
            with_dag(&name, &shared, |file, dag, _| show::show(file, dag, shared.json))
        }
        Command::Lint { files, shared } => lint::lint(&files, &shared),
        Command::Graph { name, dot, shared } => {
            with_dag(&name, &shared, |_, dag, _| graph::graph(dag, dot, shared.json))
        }
        Command::Next { name, count, from, shared } => with_dag(&name, &shared, |_, dag, folder| {
            next::next(dag, folder.calendar_of(dag), count.into(), from, shared.json)
        }),
        Command::Test { file, date, until, data, json } => {
            let until = until
                .map(|text| {
                    domain::units::duration(&text).map_err(|e| Failure::usage(format!("--until {text}: {e}")))
                })
                .transpose()?;
            test::main(&test::Test { file, date, until, data, json, config: config::Config::default() })
        }
        Command::Programs { name, markdown: false, json } => programs::show(name.as_deref(), json),
        Command::Programs { markdown: true, .. } => print(&steps::programs::reference(steps::programs())),
        Command::Schema { json: _ } => print_json(&schema::schema(steps::programs())),
    }
}

fn read(path: &Path) -> std::result::Result<Folder, Failure> {
    folder::read(path, steps::programs()).map_err(Failure::unusable)
}

/// Finds a DAG by name; a broken one shows its faults instead.
fn with_dag(name: &str, shared: &Shared, then: impl FnOnce(&DagFile, &Dag, &Folder) -> Result) -> Result {
    let folder = read(shared.folder())?;
    let Some(file) = folder.files.iter().find(|f| f.name.as_deref() == Some(name)) else {
        let names = || folder.files.iter().filter_map(|f| f.name.as_deref());
        let help = match nearest(name, names()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
        };
        return Err(Failure::usage(format!(
            "there is no DAG \"{name}\" in {}; {help}",
            shared.folder().display()
        )));
    };
    match &file.dag {
        Ok(dag) => then(file, dag, &folder),
        Err(errors) => {
            let path = file.path.display().to_string();
            let said: Vec<String> = errors.iter().map(|d| d.render(&path)).collect();
            Err(Failure::fault(format!("the file of \"{name}\" has errors\n\n{}", said.join("\n\n"))))
        }
    }
}

/// Prints text and ends well.
fn print(text: &str) -> Result {
    super::table::print(text).map(|()| Exit::Fine)
}

fn print_json(value: &serde_json::Value) -> Result {
    print(&format!("{value:#}\n"))
}
