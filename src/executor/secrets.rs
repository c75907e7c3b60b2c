//! Secrets of commands. A built-in program reads its own where it runs; a command finds each in its
//! environment, under its name in the DAG (in a swarm as a file, see `swarm::secrets`). Values go from where
//! they are kept to the command, and nowhere else.

use domain::dag::{Program, SecretRef, Step};
use domain::message::Refused;
use domain::said;

/// The environment that the secrets of a command make: name and value. Nothing for a built-in program.
///
/// # Errors
/// The first that cannot be read, with its name, its place and the remedy; never a value.
pub(super) fn of_command(
    step: &Step,
    resolve: impl Fn(&SecretRef) -> Result<String, Refused>,
) -> Result<Vec<(String, String)>, String> {
    if !matches!(step.program, Program::Command { .. }) {
        return Ok(Vec::new());
    }
    let value = |(name, reference): (&String, &SecretRef)| {
        let value = resolve(reference).and_then(|value| match value.contains('\0') {
            false => Ok(value),
            true => Err(Refused::new(
                said!("it holds a zero byte, which no environment can carry"),
                said!("write it as text"),
            )),
        });
        value.map(|value| (name.clone(), value)).map_err(|why| missing(name, reference, &why))
    };
    step.secrets.iter().map(value).collect()
}

/// Why a command does not start without one of its secrets.
pub(super) fn missing(name: &str, reference: &SecretRef, why: &Refused) -> String {
    format!("its secret \"{name}\" ({reference}) cannot be read: {why}")
}

#[cfg(test)]
mod tests;
