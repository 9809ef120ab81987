//! Files that an attempt left: named, summed, and sent in parts that can be taken up again.

use crate::client::{Client, ClientError};
use bytes::Bytes;
use model::{
    protocol::{ARTIFACT_PART_BYTES_MAX, ArtifactQuery, Held},
    task_file::is_inner_path,
    units::format_size,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How often the server may answer without having more of a file than before.
const STANDSTILLS_MAX: u32 = 5;

/// A file to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactFile {
    /// Its path inside the task's output; also where it lies below the attempt's collected files.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// The SHA-256 of a file in hexadecimal digits. Reads all of it: call it off the async threads.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            bytes => hasher.update(&buffer[..bytes]),
        }
    }
}

/// Whether a name can be an artifact's: a relative path without `..`, empty parts, or control characters.
#[must_use]
pub fn is_artifact_name(name: &str) -> bool {
    is_inner_path(name)
        && !name.contains(char::is_control)
        && name.split('/').all(|part| !part.is_empty() && part != ".")
}

/// Sends one file. An outage up to `limit` is sat out at each part; the server's count of what it has decides
/// where to go on.
///
/// # Errors
/// See [`ClientError`]; also [`ClientError::Refused`] if the file changed or cannot be read.
pub async fn upload(
    folder: &Path,
    file: &ArtifactFile,
    client: &Client,
    held: Held,
    limit: Duration,
    stop: &CancellationToken,
) -> Result<(), ClientError> {
    let refused = |message: String| ClientError::Refused { status: 0, message };
    let open = File::open(folder.join(&file.name))
        .map_err(|error| refused(format!("artifact `{}`: {error}", file.name)))?;
    let (mut offset, mut standstills) = (0, 0);
    loop {
        let part = read_part(&open, offset, file.size_bytes)
            .map_err(|error| refused(format!("artifact `{}`: {error}", file.name)))?;
        let query = ArtifactQuery {
            attempt: held.attempt.attempt,
            fence: held.attempt.fence,
            name: file.name.clone(),
            sha256: file.sha256.clone(),
            size_bytes: file.size_bytes,
            offset,
        };
        let uploaded =
            client.persist(limit, stop, || client.artifact_part(held.task, &query, part.clone())).await?;
        if uploaded.id.is_some() {
            return Ok(());
        }
        let received = uploaded.received_bytes;
        standstills = if received > offset { 0 } else { standstills + 1 };
        if received > file.size_bytes || standstills > STANDSTILLS_MAX {
            let (has, size) = (format_size(received), format_size(file.size_bytes));
            return Err(refused(format!(
                "artifact `{}`: the server has {has} of {size} and no more",
                file.name
            )));
        }
        offset = received;
    }
}

fn read_part(file: &File, offset: u64, size_bytes: u64) -> io::Result<Bytes> {
    let len = size_bytes.saturating_sub(offset).min(ARTIFACT_PART_BYTES_MAX as u64);
    let mut part = vec![0; usize::try_from(len).unwrap_or(ARTIFACT_PART_BYTES_MAX)];
    file.read_exact_at(&mut part, offset)?;
    Ok(part.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder() {
        for (name, expect) in [
            ("a.log", true),
            ("logs/a b.log", true),
            ("..a", true),
            ("../a", false),
            ("a/../../b", false),
            ("/etc/passwd", false),
            ("a//b", false),
            ("./a", false),
            ("a/", false),
            ("a\\b", false),
            ("a\0b", false),
            ("a\nb", false),
            ("", false),
        ] {
            assert_eq!(is_artifact_name(name), expect, "{name:?}");
        }
    }
}
