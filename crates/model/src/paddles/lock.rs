//! Nodes, and who may lock them.

use chrono::{DateTime, Utc};

/// A machine that jobs run on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What is said of it; of a locked one why.
    pub description: Option<String>,
    /// Whether it works.
    pub up: Option<bool>,
    /// Its kind.
    pub machine_type: Option<String>,
    /// Whether it is a virtual machine.
    pub is_vm: bool,
    /// The node that it runs on.
    pub vm_host: Option<String>,
    /// What is installed on it.
    pub os_type: Option<String>,
    /// Its version.
    pub os_version: Option<String>,
    /// Its architecture.
    pub arch: Option<String>,
    /// Whether somebody has it.
    pub locked: bool,
    /// Since when.
    pub locked_since: Option<DateTime<Utc>>,
    /// Who.
    pub locked_by: Option<String>,
    /// The address of its network card.
    pub mac_address: Option<String>,
    /// Its host key.
    pub ssh_pub_key: Option<String>,
}

/// Why a node cannot be locked or unlocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Nobody said for whom.
    #[error("Cannot lock without specifying locked_by")]
    Nobody,
    /// Nobody said who gives it back.
    #[error("Cannot unlock without specifying locked_by")]
    NobodyUnlocks,
    /// Somebody has it.
    #[error("Cannot lock an already-locked node")]
    Locked,
    /// Somebody else has it.
    #[error("Cannot unlock - locked_by values must match")]
    Owner,
    /// It is locked for something else.
    #[error("Cannot unlock - description values must match")]
    Description,
}

impl Node {
    /// Locks it, or gives it back. What is said of it stays as it is: `description` says what it is locked for, by
    /// which who has it may lock it once more, and by which nobody gives back what is locked for something else.
    ///
    /// # Errors
    /// Somebody has it, or it is not the one that gives it back who has it.
    pub fn lock(
        &mut self,
        locked: bool,
        locked_by: Option<&str>,
        description: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(), LockError> {
        if locked {
            let by = locked_by.filter(|by| !by.is_empty()).ok_or(LockError::Nobody)?;
            if self.locked {
                // Who has it for the same may ask again: an answer may have been lost.
                let same = self.locked_by.as_deref() == Some(by)
                    && description.is_some()
                    && self.description.as_deref() == description;
                return if same { Ok(()) } else { Err(LockError::Locked) };
            }
            (self.locked, self.locked_since, self.locked_by) = (true, Some(now), Some(by.to_owned()));
            return Ok(());
        }
        if !self.locked {
            // An answer may have been lost.
            return Ok(());
        }
        let by = locked_by.filter(|by| !by.is_empty()).ok_or(LockError::NobodyUnlocks)?;
        if self.locked_by.as_deref() != Some(by) {
            return Err(LockError::Owner);
        }
        let said = description.filter(|description| !description.is_empty());
        if said.is_some() && self.description.as_deref() != said {
            return Err(LockError::Description);
        }
        (self.locked, self.locked_since, self.locked_by) = (false, None, None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locking() {
        let now = DateTime::UNIX_EPOCH;
        let mut node = Node { name: "n".to_owned(), ..Node::default() };
        assert_eq!(node.lock(true, None, None, now), Err(LockError::Nobody));
        assert_eq!(node.lock(true, Some("me"), Some("a run"), now), Ok(()));
        assert_eq!((node.locked, node.locked_since), (true, Some(now)));
        node.description = Some("a run".to_owned());
        assert_eq!(node.lock(true, Some("me"), None, now), Err(LockError::Locked));
        assert_eq!(node.lock(true, Some("me"), Some("another"), now), Err(LockError::Locked));
        assert_eq!(node.lock(true, Some("you"), Some("a run"), now), Err(LockError::Locked));
        let later = now + chrono::TimeDelta::seconds(1);
        assert_eq!(node.lock(true, Some("me"), Some("a run"), later), Ok(()));
        assert_eq!(node.locked_since, Some(now));
        assert_eq!(node.lock(false, Some("you"), None, now), Err(LockError::Owner));
        assert_eq!(node.lock(false, None, None, now), Err(LockError::NobodyUnlocks));
        assert_eq!(node.lock(false, Some("me"), Some("another"), now), Err(LockError::Description));
        assert_eq!(node.lock(false, Some("me"), Some(""), now), Ok(()));
        let free = Node { name: "n".to_owned(), description: Some("a run".to_owned()), ..Node::default() };
        assert_eq!(node, free);
        assert_eq!(node.lock(false, Some("you"), None, now), Ok(()));
    }
}
