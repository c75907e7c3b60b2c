//! Order notices travel under AES-256-CBC with PKCS#7 padding, in base64; key and initialisation vector come
//! with the subscription's reply and hold for that message type and session.

use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};

use super::frame::Sealed;
use crate::Refused;

/// What opens the sealed frames of one message type; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal {
    key: [u8; 32],
    iv: [u8; 16],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(***)")
    }
}

impl Seal {
    /// Takes the reply's `key` (32 ASCII characters) and `iv` (16).
    pub fn new(key: &str, iv: &str) -> Option<Self> {
        Some(Self { key: key.as_bytes().try_into().ok()?, iv: iv.as_bytes().try_into().ok()? })
    }

    /// Encrypts a payload the way KIS does, as base64 (what a simulator sends).
    pub fn close(&self, plain: &str) -> String {
        let cipher = cbc::Encryptor::<Aes256>::new(&self.key.into(), &self.iv.into());
        STANDARD.encode(cipher.encrypt_padded_vec_mut::<Pkcs7>(plain.as_bytes()))
    }
}

impl Sealed<'_> {
    /// Decrypts the payload; [`super::Frame::new`] then finds its records.
    ///
    /// # Errors
    /// `bad_base64`, `bad_cipher`, `bad_utf8`.
    pub fn open(&self, seal: &Seal) -> Result<String, Refused> {
        let sealed = STANDARD.decode(self.payload.trim_end()).map_err(|_| Refused {
            cause: "bad_base64",
            message: "the encrypted payload is not base64".into(),
        })?;
        let cipher = cbc::Decryptor::<Aes256>::new(&seal.key.into(), &seal.iv.into());
        let plain = cipher.decrypt_padded_vec_mut::<Pkcs7>(&sealed).map_err(|_| Refused {
            cause: "bad_cipher",
            message: "the payload does not decrypt with the key of this session's reply".into(),
        })?;
        String::from_utf8(plain).map_err(|e| Refused {
            cause: "bad_utf8",
            message: format!("byte {} of the decrypted payload is not UTF-8", e.utf8_error().valid_up_to()),
        })
    }
}
