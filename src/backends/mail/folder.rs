//! Mail as `.eml` files in a folder: what would have been sent, readable with any mail program.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{Mail, Message, letter};
use crate::{BackendError, Result, blocking};
use files;

/// See the module.
pub struct FolderMail {
    folder: PathBuf,
    place: String,
}

impl FolderMail {
    /// Opens or creates the folder.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(folder: &Path) -> Result<Self> {
        let place = format!("mail {}", folder.display());
        files::create_folders(folder).map_err(|e| BackendError::io(&place, &e))?;
        Ok(Self { folder: folder.to_owned(), place })
    }
}

#[async_trait]
impl Mail for FolderMail {
    async fn send(&self, message: &Message) -> Result<()> {
        let bytes = letter::build(&self.place, message)?.formatted();
        let name = format!(
            "{}-{:016x}.eml",
            message.at.strftime("%Y%m%dT%H%M%SZ"),
            letter::fingerprint(&message.key)
        );
        let path = self.folder.join(name);
        let place = self.place.clone();
        blocking::run(&self.place, move || {
            files::replace(&path, &bytes)
                .map_err(|e| BackendError::io(format!("{place} file {}", path.display()), &e))
        })
        .await
    }

    async fn check(&self) -> Result<()> {
        std::fs::read_dir(&self.folder).map(drop).map_err(|e| BackendError::io(&self.place, &e))
    }
}

#[cfg(test)]
mod tests;
