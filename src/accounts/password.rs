//! Passwords: Argon2id with the parameters OWASP names first (19 MiB, 2 passes, 1 lane), and a salt each.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};

use crate::secret::random;

/// Fewest characters of a password.
const SHORTEST: usize = 12;
/// Most bytes: nobody types more, and hashing takes time.
const LONGEST_BYTES: usize = 1024;

/// What the password of a name that does not exist is compared with: no password is known that has this hash.
pub const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$b3BlbmJlbGwtbm9ib2R5IQ$bm9ib2R5LWtub3dzLWEtcGFzc3dvcmQtZm9yLXRoaXM";

/// Why a password is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too easily guessed, or too long to be one.
    #[error("{0}")]
    Unfit(String),
    /// The machine has no randomness or memory left.
    #[error("the password cannot be hashed: {0}")]
    Machine(String),
}

/// The hash that is kept of a password.
///
/// # Errors
/// A password that is too short or too long, or a machine without memory.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    if password.chars().count() < SHORTEST {
        return Err(PasswordError::Unfit(format!(
            "the password is too short; use at least {SHORTEST} characters, for example four words"
        )));
    }
    if password.len() > LONGEST_BYTES {
        return Err(PasswordError::Unfit(format!(
            "the password is too long; use at most {LONGEST_BYTES} bytes"
        )));
    }
    let salt = random::<16>().map_err(|e| PasswordError::Machine(e.to_string()))?;
    let hashed: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|e| PasswordError::Machine(e.to_string()))?;
    Ok(hashed.to_string())
}

/// Whether a text is a hash that [`matches`] understands.
pub(crate) fn is_hash(text: &str) -> bool {
    PasswordHash::new(text)
        .is_ok_and(|hash| hash.algorithm.as_str().starts_with("argon2") && hash.hash.is_some())
}

/// Whether a password has this hash. Takes tens of milliseconds and 19 MiB.
pub fn matches(password: &str, hash: &str) -> bool {
    password.len() <= LONGEST_BYTES
        && PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_only() {
        let kept = hash("correct horse battery").expect("hashed");
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(
            matches("correct horse battery", &kept)
                && !matches("correct horse batterz", &kept)
                && !matches("", &kept)
        );
        assert_ne!(hash("correct horse battery").expect("hashed"), kept, "each has its own salt");
        assert!(is_hash(&kept) && is_hash(NOBODY));
        for bad in
            ["", "plain text password", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=19456,t=2,p=1$"]
        {
            assert!(!is_hash(bad) && !matches("plain text password", bad), "{bad}");
        }
    }

    #[test]
    fn nobodys_hash_costs_what_others_cost() {
        let cost = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(cost(NOBODY), cost(&hash("correct horse battery").expect("hashed")));
        let length = |hash: &str| PasswordHash::new(hash).expect("a hash").hash.expect("an output").len();
        assert_eq!(length(NOBODY), 32);
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        assert!(hash("elevenchars").expect_err("short").to_string().contains("at least 12"));
        assert!(hash(&"x".repeat(1025)).expect_err("long").to_string().contains("at most"));
    }
}
