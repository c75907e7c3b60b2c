//! Variables that may hold secrets.

/// Environment variable with the folder in which a container of a swarm finds what is a variable elsewhere.
pub const SECRETS_FOLDER: &str = "OPENBELL_SECRETS";

/// The value of an environment variable; in a container of a swarm, that of the secret `env.NAME`. `None`: it is not set, or not text.
pub fn variable(name: &str) -> Option<String> {
    let of_swarm = || {
        let folder = std::env::var_os(SECRETS_FOLDER)?;
        std::fs::read_to_string(std::path::Path::new(&folder).join(format!("env.{name}"))).ok()
    };
    std::env::var(name).ok().or_else(of_swarm)
}
