//! What tells a worker from another one of its name: whoever removes what a dead worker left must not take a living
//! one's containers for it.

use model::{Ids, WorkerName};
use std::{fs, io, path::Path};

/// The file in the work folder that keeps it.
const IDENTITY_FILE: &str = "identity";
/// How many bytes of the file are looked at.
const IDENTITY_BYTES_MAX: usize = 64;

/// The identity of whoever works in this folder; it is made at the first time.
///
/// # Errors
/// The folder cannot be used.
pub fn of(folder: &Path, ids: &dyn Ids) -> io::Result<String> {
    let path = folder.join(IDENTITY_FILE);
    let usable = |text: &str| {
        (1..=IDENTITY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match fs::read_to_string(&path) {
        Ok(text) if usable(text.trim()) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let made = hex::encode(&ids.secret()[..8]);
    let draft = folder.join(format!("{IDENTITY_FILE}.new"));
    fs::write(&draft, &made)?;
    fs::rename(&draft, &path)?;
    Ok(made)
}

/// The name that is put on what a worker makes: no other worker has it, whatever it is called.
#[must_use]
pub fn label(name: &WorkerName, identity: &str) -> WorkerName {
    WorkerName::new(format!("{name}@{identity}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::SystemIds;

    #[test]
    fn it_stays_with_its_folder() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = of(one.path(), &SystemIds).unwrap();
        assert_eq!(of(one.path(), &SystemIds).unwrap(), first);
        assert_ne!(of(other.path(), &SystemIds).unwrap(), first);
        fs::write(one.path().join(IDENTITY_FILE), "torn\0").unwrap();
        assert_ne!(of(one.path(), &SystemIds).unwrap(), first);
        assert_eq!(label(&"w1".into(), "00ff").as_str(), "w1@00ff");
    }
}
