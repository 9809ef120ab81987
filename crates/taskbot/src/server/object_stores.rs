//! Object stores by their URL and options: a folder, S3, Azure, Google Cloud Storage.

use super::open::private_folder;
use crate::{
    config::{Files, read_secret},
    fault::Fault,
};
use anyhow::{Context, Result};
use object_store::{ObjectStore, parse_url_opts, prefix::PrefixStore};
use std::{path::PathBuf, sync::Arc};

/// The option that stands for several of Azure's: what its portal shows.
const CONNECTION_STRING: &str = "azure_connection_string";
/// Where Azure's storage is when a connection string does not say.
const AZURE_SUFFIX: &str = "core.windows.net";

/// Opens the store at a place's URL, below its base path; `what` is the setting. Nothing is asked of it yet.
///
/// # Errors
/// The folder cannot be made, or the URL or an option is wrong.
pub(crate) fn open(what: &str, place: &Files) -> Result<Arc<dyn ObjectStore>> {
    let (store, folder) = open_later(what, place)?;
    folder.as_deref().map(private_folder).transpose()?;
    Ok(store)
}

/// As [`open`], with the folder that is to be made before anything is written there.
///
/// # Errors
/// The URL or an option is wrong.
pub(crate) fn open_later(what: &str, place: &Files) -> Result<(Arc<dyn ObjectStore>, Option<PathBuf>)> {
    let url = place.url.as_deref().unwrap_or_default();
    let parsed = reqwest::Url::parse(url).with_context(|| format!("{what}: `{url}`"))?;
    let folder = (parsed.scheme() == "file").then(|| PathBuf::from(parsed.path()));
    let opened = parse_url_opts(&parsed, options(what, place)?);
    let (store, path) = opened.with_context(|| format!("{what}: {url}"))?;
    Ok((Arc::new(PrefixStore::new(store, path)), folder))
}

fn options(what: &str, place: &Files) -> Result<Vec<(String, String)>> {
    let mut options: Vec<(String, String)> = place.options.clone().into_iter().collect();
    if let Some(file) = &place.options_file {
        let text = read_secret(file)?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.split_once('=').ok_or_else(|| {
                Fault::usage(format!("{}: expected NAME=VALUE on each line", file.display()))
            })?;
            options.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    let mut all = Vec::new();
    for (name, value) in options {
        if name.eq_ignore_ascii_case(CONNECTION_STRING) {
            let parts = connection_string(&value).map_err(|why| Fault::usage(format!("{what}: {why}")))?;
            all.extend(parts);
        } else {
            all.push((name, value));
        }
    }
    Ok(all)
}

/// A connection string of Azure as options. Its values are secrets: no mistake shows them.
fn connection_string(text: &str) -> Result<Vec<(String, String)>, String> {
    let (mut protocol, mut suffix) = ("https".to_owned(), AZURE_SUFFIX.to_owned());
    let (mut account, mut endpoint, mut options) = (None, None, Vec::new());
    let mut set = |name: &str, value: &str| options.push((name.to_owned(), value.to_owned()));
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(|| {
            format!("a part of {CONNECTION_STRING} is not NAME=VALUE, such as AccountName=…")
        })?;
        match name.to_ascii_lowercase().as_str() {
            "defaultendpointsprotocol" => protocol = value.to_ascii_lowercase(),
            "accountname" => account = Some(value.to_owned()),
            "accountkey" => set("azure_storage_account_key", value),
            "sharedaccesssignature" => set("azure_storage_sas_key", value.trim_start_matches('?')),
            "blobendpoint" => endpoint = Some(value.trim_end_matches('/').to_owned()),
            "endpointsuffix" => suffix = value.to_owned(),
            "usedevelopmentstorage" => set("azure_storage_use_emulator", value),
            // Of its other services.
            "queueendpoint" | "tableendpoint" | "fileendpoint" => {}
            other => return Err(format!("{CONNECTION_STRING} has the part `{other}`, which is not known")),
        }
    }
    let endpoint =
        endpoint.or_else(|| account.as_ref().map(|account| format!("{protocol}://{account}.blob.{suffix}")));
    // The account stands before the endpoint's first dot where it is not said.
    let account = account.or_else(|| {
        let host = reqwest::Url::parse(endpoint.as_ref()?).ok()?;
        Some(host.host_str()?.split('.').next()?.to_owned())
    });
    let emulated = options.iter().any(|(name, _)| name == "azure_storage_use_emulator");
    match (account, endpoint) {
        (Some(account), Some(endpoint)) => {
            if endpoint.starts_with("http://") {
                options.push(("azure_allow_http".to_owned(), "true".to_owned()));
            }
            options.push(("azure_storage_account_name".to_owned(), account));
            options.push(("azure_storage_endpoint".to_owned(), endpoint));
        }
        _ if emulated => {}
        _ => return Err(format!("{CONNECTION_STRING} names neither AccountName nor BlobEndpoint")),
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn connection_strings() {
        let check = |text: &str, expect: &str| {
            let got = match connection_string(text) {
                Ok(options) => {
                    let options: BTreeMap<_, _> = options.into_iter().collect();
                    options
                        .iter()
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect::<Vec<_>>()
                        .join(" ")
                }
                Err(why) => why,
            };
            assert!(got.contains(expect), "{text}: {got}");
        };
        check(
            "DefaultEndpointsProtocol=https;AccountName=qa;AccountKey=a2V5Cg==;EndpointSuffix=core.windows.net",
            "azure_storage_account_key=a2V5Cg== azure_storage_account_name=qa \
             azure_storage_endpoint=https://qa.blob.core.windows.net",
        );
        check(
            "BlobEndpoint=https://qa.blob.core.windows.net/;QueueEndpoint=https://q;SharedAccessSignature=?sv=1&sig=x%3D",
            "azure_storage_account_name=qa azure_storage_endpoint=https://qa.blob.core.windows.net \
             azure_storage_sas_key=sv=1&sig=x%3D",
        );
        check(
            "AccountName=dev;AccountKey=k;BlobEndpoint=http://127.0.0.1:10000/dev;",
            "azure_allow_http=true azure_storage_account_key=k azure_storage_account_name=dev \
             azure_storage_endpoint=http://127.0.0.1:10000/dev",
        );
        check("UseDevelopmentStorage=true", "azure_storage_use_emulator=true");
        check("AccountKey=k", "names neither AccountName nor BlobEndpoint");
        check("AccountName=a;Sekrit", "is not NAME=VALUE");
        check("AccountName=a;Colour=red", "the part `colour`, which is not known");
        assert!(!connection_string("AccountName=a;Sekrit").unwrap_err().contains("Sekrit"));
    }

    #[test]
    fn every_store_opens_by_its_url() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("azure.options");
        std::fs::write(&file, "# the portal's\nazure_connection_string=AccountName=qa;AccountKey=a2V5Cg==\n")
            .unwrap();
        let local = format!("file://{}/made/here", folder.path().display());
        let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let service = r#"{"type": "service_account", "client_email": "a@b", "private_key": "x", "private_key_id": "1"}"#;
        for (url, options, options_file, expect) in [
            (local.as_str(), options(&[]), None, ""),
            ("s3://bucket/base", options(&[("aws_region", "eu-1")]), None, ""),
            ("az://container/base", options(&[]), Some(file), ""),
            ("az://container/base", options(&[(CONNECTION_STRING, "AccountKey=x")]), None, "names neither"),
            // The key is read, and this one is none.
            ("gs://bucket/base", options(&[("google_service_account_key", service)]), None, "pem"),
            ("ftp://host/x", options(&[]), None, "ftp"),
        ] {
            let opened = open("files", &Files { url: Some(url.to_owned()), options, options_file });
            let got = opened.map_or_else(|error| format!("{error:#}"), |_| String::new());
            assert!(if expect.is_empty() { got.is_empty() } else { got.contains(expect) }, "{url}: {got}");
        }
        assert!(folder.path().join("made/here").is_dir());
    }
}
