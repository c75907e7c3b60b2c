//! Random secrets, their digests, and comparing them.

use std::fs::File;
use std::io::{self, Read};

use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq;

/// What every API token begins with, so that people and scanners recognize one.
const PREFIX: &str = "openbell";
/// Separates these digests from any other use of the same function.
const DIGEST_SALT: &[u8] = b"openbell api token 1";

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0u8; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// 256 random bits from the kernel, in 64 hex digits.
///
/// # Errors
/// When the kernel's source cannot be read.
pub fn token() -> io::Result<String> {
    Ok(hex::encode(random::<32>()?))
}

/// A new API token: its public id, and the whole that its owner keeps.
///
/// # Errors
/// When the kernel's source cannot be read.
pub fn api_token() -> io::Result<(String, String)> {
    let id = hex::encode(random::<8>()?);
    let whole = format!("{PREFIX}_{id}_{}", token()?);
    Ok((id, whole))
}

/// The id in an API token.
pub(crate) fn id_of(whole: &str) -> Option<&str> {
    let (id, secret) = whole.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
    (id.len() == 16 && secret.len() == 64).then_some(id)
}

/// What is kept of an API token: it cannot be turned round. A token has 256 random bits, so it takes one pass
/// of Argon2's compression function over the least memory (microseconds), not the many that a password needs.
pub fn digest(whole: &str) -> Option<String> {
    let cheapest = Params::new(Params::MIN_M_COST, Params::MIN_T_COST, Params::MIN_P_COST, Some(32)).ok()?;
    let mut bytes = [0u8; 32];
    let function = Argon2::new(Algorithm::Argon2id, Version::V0x13, cheapest);
    function.hash_password_into(whole.as_bytes(), DIGEST_SALT, &mut bytes).ok()?;
    Some(hex::encode(bytes))
}

/// Compares two secrets in the same time wherever they differ. Nothing equals an empty one.
pub fn equal(given: &str, expected: &str) -> bool {
    bool::from(given.as_bytes().ct_eq(expected.as_bytes())) && !expected.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_differ() {
        let (a, b) = (token().expect("random"), token().expect("random"));
        assert_eq!(a.len(), 64);
        assert_ne!(a, b);
    }

    #[test]
    fn an_api_token_holds_its_id_and_its_digest_does_not_hold_it() {
        let (id, whole) = api_token().expect("random");
        assert_eq!(id_of(&whole), Some(id.as_str()));
        let kept = digest(&whole).expect("a digest");
        assert!(kept.len() == 64 && !whole.contains(&kept) && !kept.contains(&whole[26..]));
        assert_eq!(digest(&whole), Some(kept.clone()));
        assert_ne!(digest(&format!("{whole}0")), Some(kept));
        for bad in ["", "openbell", "openbell_x_y", "bearer", &whole[1..], &whole[..80]] {
            assert_eq!(id_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn equal_means_equal() {
        assert!(equal("abc", "abc"));
        for bad in ["", "ab", "abcd", "abd"] {
            assert!(!equal(bad, "abc"), "{bad}");
        }
        assert!(!equal("", ""), "no token is not a token");
    }
}
