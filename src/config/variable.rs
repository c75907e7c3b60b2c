//! Variables and files that may hold secrets.

use domain::dag::SecretRef;
use domain::message::{Message, Refused};
use domain::said;

/// Environment variable with the folder in which a container of a swarm finds what is a variable elsewhere.
pub const SECRETS_FOLDER: &str = "OPENBELL_SECRETS";

/// The value of an environment variable; in a container of a swarm, that of the secret `env.NAME`. `None`: it
/// is not set, or not text.
pub fn variable(name: &str) -> Option<String> {
    let of_swarm = || {
        let folder = std::env::var_os(SECRETS_FOLDER)?;
        std::fs::read_to_string(std::path::Path::new(&folder).join(format!("env.{name}"))).ok()
    };
    std::env::var(name).ok().or_else(of_swarm)
}

/// Reads a secret where it is referenced. The line end of a file is no part of it.
///
/// # Errors
/// What is missing and what to do; never the value.
pub fn resolve(reference: &SecretRef) -> Result<String, Refused> {
    let value = match reference {
        SecretRef::Env(name) => variable(name).ok_or_else(|| secret_not_set(name))?,
        SecretRef::File(path) => std::fs::read_to_string(path)
            .map_err(|error| secret_unreadable(path, Message::foreign(error.to_string())))?
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
    };
    if value.is_empty() {
        return Err(secret_empty());
    }
    Ok(value)
}

/// Why a secret in a variable cannot be had.
pub fn secret_not_set(variable: &str) -> Refused {
    let why = said!("the environment variable {} is not set", variable);
    Refused::new(why, said!("set it where openbell is started"))
}

/// Why a secret in a file cannot be had.
pub fn secret_unreadable(path: &str, why: Message) -> Refused {
    Refused::new(why, said!("write the value into {} and let only this user read it", path))
}

/// Why a secret cannot be had whose place is there.
pub fn secret_empty() -> Refused {
    Refused::new(said!("it is empty"), said!("put the value there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_secret_names_the_place_and_the_remedy() {
        let env = resolve(&SecretRef::Env("OPENBELL_SURELY_NOT_SET".into())).expect_err("not set");
        let expected =
            "the environment variable OPENBELL_SURELY_NOT_SET is not set; set it where openbell is started";
        assert_eq!(env.to_string(), expected);
        let file = resolve(&SecretRef::File("/nonexistent/secret".into())).expect_err("no file");
        assert!(file.remedy.to_string().contains("/nonexistent/secret"), "{file}");
    }

    #[test]
    fn a_file_secret_loses_its_line_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        std::fs::write(&path, "s3cret\n").expect("written");
        let reference = SecretRef::File(path.display().to_string());
        assert_eq!(resolve(&reference).expect("a value"), "s3cret");
        std::fs::write(&path, "\n").expect("written");
        assert!(resolve(&reference).expect_err("nothing in it").why.to_string().contains("empty"));
    }
}
