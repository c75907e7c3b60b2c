//! `dag programs`: what steps may use, and what it takes.

use serde_json::{Value, json};

use super::{Failure, Result, print, print_json, table};
use dagfile::nearest;
use domain::program::{self, Parameter, Program, Role, Store};

pub(super) fn show(name: Option<&str>, as_json: bool) -> Result {
    let all = steps::programs();
    let Some(name) = name else {
        if as_json {
            return print_json(&all.iter().map(program_json).collect());
        }
        let mut rows = vec![["PROGRAM", "KIND", "WHAT IT DOES"].map(String::from)];
        rows.extend(all.iter().map(|p| [p.name.to_owned(), kinds(p), p.about.to_owned()]));
        return print(&format!(
            "{}\nopenbell dag programs NAME shows what one takes\n",
            table::columns(&rows)
        ));
    };
    let Some(program) = program::find(all, name) else {
        let names = || all.iter().map(|p| p.name);
        let help = match nearest(name, names()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
        };
        return Err(Failure::usage(format!("there is no built-in program \"{name}\"; {help}")));
    };
    if as_json { print_json(&program_json(program)) } else { print(&text(program)) }
}

fn kinds(program: &Program) -> String {
    program.kinds.iter().map(|k| k.as_str()).collect::<Vec<_>>().join(", ")
}

fn text(program: &Program) -> String {
    let copies = if program.replicas {
        "share their work (replicas:, executor swarm)"
    } else {
        "would do the same work twice"
    };
    let facts =
        [["program", program.name], ["kind", &kinds(program)], ["does", program.about], ["copies", copies]];
    let mut text = table::columns(&facts.map(|fact| fact.map(str::to_owned)));
    let mut rows = vec![["PARAMETER", "VALUE", "WHAT IT IS"].map(String::from)];
    rows.extend(program.all_parameters().into_iter().map(|(name, parameter)| {
        let told = if parameter.is_required() {
            format!("{} (required)", parameter.help)
        } else {
            parameter.about()
        };
        [name, steps::programs::value(&parameter.shape), told]
    }));
    if rows.len() > 1 {
        text.push_str(&format!("\n{}", table::columns(&rows)));
    }
    let mut rows = vec![["SECRET", "USUALLY", "WHAT IT IS"].map(String::from)];
    rows.extend(
        program.secrets.iter().map(|s| [s.name.to_owned(), format!("env:{}", s.variable), s.help.to_owned()]),
    );
    if rows.len() > 1 {
        text.push_str(&format!("\n{}", table::columns(&rows)));
    }
    text
}

fn program_json(program: &Program) -> Value {
    let parameter_json = |(name, parameter): (String, &Parameter)| {
        json!({
            "name": name, "value": steps::programs::value(&parameter.shape), "unit": parameter.unit, "required": parameter.is_required(),
            "default": parameter.fallback.value(), "falls_back_to": parameter.fallback.words(), "help": parameter.help, "deprecated": parameter.deprecated,
        })
    };
    let parameters: Vec<_> = program.all_parameters().into_iter().map(parameter_json).collect();
    let (feed, store) = match program.role {
        Role::Source(feed) => (Some(feed), None),
        Role::Hop(store) => (None, Some(Store::as_str(store))),
        _ => (None, None),
    };
    json!({
        "name": program.name, "kinds": program.kinds.iter().map(|k| k.as_str()).collect::<Vec<_>>(), "role": program.role.as_str(),
        "feed": feed, "store": store, "about": program.about, "replicas": program.replicas, "parameters": parameters,
        "secrets": program.secrets.iter().map(|s| json!({"name": s.name, "variable": s.variable, "help": s.help})).collect::<Vec<_>>(),
    })
}
