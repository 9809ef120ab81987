//! The store, the files and the buses of a configuration.

use super::object_stores;
use crate::{
    config::Config,
    fault::{self, Fault},
};
use anyhow::{Context, Result, anyhow};
use events::{
    Source,
    nats::{JetStreamOutlet, JetStreamSource},
};
use model::{Clock, Ids};
use object_store::{ObjectStore, local::LocalFileSystem};
use scheduler::files::Files;
use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::{
    Probe, Store,
    postgres::{PoolOptions, PostgresStore},
    sqlite::SqliteStore,
};

/// The database's file in the data folder.
const DATABASE_FILE: &str = "taskbot.db";
/// The folder of logs and artifacts in the data folder.
const FILES_FOLDER: &str = "files";

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// PostgreSQL, with the password when there is one.
    Postgres(String),
}

impl Place {
    /// Where it is, without a password.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(url) => crate::config::without_password(url),
        }
    }
}

/// Makes a folder that only its owner reads.
///
/// # Errors
/// It cannot be made.
pub(crate) fn private_folder(folder: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| {
        Fault::new(fault::INFRA, format!("cannot make the folder {}: {error}", folder.display())).into()
    })
}

/// Where the database of a configuration is.
///
/// # Errors
/// The password's file cannot be read.
pub(crate) fn place(config: &Config) -> Result<Place> {
    let Some(url) = &config.database.url else {
        return Ok(Place::Sqlite(config.data_dir.join(DATABASE_FILE)));
    };
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(Place::Sqlite(config.data_dir.join(path)));
    }
    let Some(file) = &config.database.password_file else { return Ok(Place::Postgres(url.clone())) };
    let password = crate::config::read_secret(file)?;
    let mut url = reqwest::Url::parse(url).context("database.url")?;
    url.set_password(Some(&password)).map_err(|()| anyhow!("database.url takes no password"))?;
    Ok(Place::Postgres(url.to_string()))
}

/// Looks at the database without changing anything; nothing when a SQLite file is not there yet.
///
/// # Errors
/// It cannot be reached, or a server has it.
pub(crate) async fn probe(place: &Place) -> Result<Option<Probe>> {
    match place {
        Place::Sqlite(path) if !path.exists() => Ok(None),
        Place::Sqlite(path) => SqliteStore::probe(path)
            .await
            .map(Some)
            .with_context(|| format!("the database {}", path.display())),
        Place::Postgres(url) => {
            let shown = crate::config::without_password(url);
            PostgresStore::probe(url).await.map(Some).with_context(|| format!("the database {shown}"))
        }
    }
}

/// Opens the database and brings its schema up to date.
///
/// # Errors
/// It cannot be reached, is another server's, or a newer program wrote it.
pub(crate) async fn store(
    config: &Config,
    clock: &Arc<dyn Clock>,
    ids: &Arc<dyn Ids>,
) -> Result<Arc<dyn Store>> {
    let opened = match place(config)? {
        Place::Sqlite(path) => {
            private_folder(path.parent().unwrap_or(Path::new(".")))?;
            SqliteStore::open(&path, Arc::clone(clock), Arc::clone(ids))
                .await
                .with_context(|| format!("the database {}", path.display()))
        }
        Place::Postgres(url) => {
            let options = PoolOptions {
                connections_max: config.database.connections,
                application_name: format!("taskbot {}", config.installation),
                ..PoolOptions::default()
            };
            let shown = crate::config::without_password(&url);
            PostgresStore::connect(&url, options, Arc::clone(ids))
                .await
                .with_context(|| format!("the database {shown}"))
        }
    };
    Ok(Arc::new(opened?))
}

/// Where logs and artifacts lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FilesPlace {
    /// A folder of this machine.
    Folder(PathBuf),
    /// An object store, by its URL.
    Elsewhere(String),
}

/// Where the logs and artifacts of a configuration lie.
///
/// # Errors
/// The URL is none.
pub(crate) fn files_place(config: &Config) -> Result<FilesPlace> {
    let Some(url) = &config.files.url else {
        return Ok(FilesPlace::Folder(config.data_dir.join(FILES_FOLDER)));
    };
    let parsed = reqwest::Url::parse(url).context("files.url")?;
    Ok(match parsed.scheme() {
        "file" => FilesPlace::Folder(PathBuf::from(parsed.path())),
        _ => FilesPlace::Elsewhere(url.clone()),
    })
}

/// Opens the place of logs and artifacts.
///
/// # Errors
/// It cannot be made, or its URL or options are wrong.
pub(crate) fn files(config: &Config) -> Result<Files> {
    Ok(Files::new(object_store(config)?))
}

/// The object store of a configuration.
///
/// # Errors
/// See [`files`].
pub(crate) fn object_store(config: &Config) -> Result<Arc<dyn ObjectStore>> {
    if config.files.url.is_none() {
        let folder = config.data_dir.join(FILES_FOLDER);
        private_folder(&folder)?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .with_context(|| format!("the folder {}", folder.display()))?;
        return Ok(Arc::new(store));
    }
    object_stores::open("files", &config.files)
}

/// Connects the sources. A bus that is away is waited for; only what can never work is an error.
///
/// # Errors
/// A configuration cannot work, or names a file that cannot be read.
pub(crate) async fn sources(config: &Config, clock: &Arc<dyn Clock>) -> Result<Vec<Box<dyn Source>>> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for source in &config.sources {
        let connected =
            JetStreamSource::connect(source.revealed()?, &config.installation, Arc::clone(clock)).await;
        sources.push(Box::new(connected?));
    }
    Ok(sources)
}

/// Connects the outlet. A bus that is away is waited for.
///
/// # Errors
/// The configuration cannot work, or names a file that cannot be read.
pub(crate) async fn outlet(config: &Config, clock: &Arc<dyn Clock>) -> Result<Option<Arc<JetStreamOutlet>>> {
    let Some(outlet) = &config.outlet else { return Ok(None) };
    let connected =
        JetStreamOutlet::connect(outlet.revealed()?, Arc::clone(clock)).await.context("the outlet")?;
    Ok(Some(Arc::new(connected)))
}
