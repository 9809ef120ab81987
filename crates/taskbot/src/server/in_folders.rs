//! Copies in folders of this machine: a folder that cannot be made keeps its sink waiting, and nothing else.

use super::open::private_folder;
use async_trait::async_trait;
use model::{
    message::{Message, NewMessage},
    sink::{Sink, SinkError},
};
use scheduler::copies::Copies;
use std::{path::PathBuf, time::Duration};

/// Copies with the folders that they go to.
#[derive(Debug)]
pub(crate) struct InFolders {
    pub(crate) copies: Copies,
    pub(crate) folders: Vec<PathBuf>,
}

#[async_trait]
impl Sink for InFolders {
    fn name(&self) -> &str {
        self.copies.name()
    }

    fn wants(&self, message: &NewMessage) -> bool {
        self.copies.wants(message)
    }

    fn patience(&self) -> Duration {
        self.copies.patience()
    }

    async fn ready(&self) -> Result<(), SinkError> {
        let made = self.folders.iter().try_for_each(|folder| private_folder(folder));
        made.map_err(|error| SinkError::Away(format!("{error:#}")))
    }

    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        self.copies.deliver(message).await
    }
}
