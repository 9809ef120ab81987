//! The public keys of one who signs: fetched, kept for a while, fetched anew when a token names one that is not
//! known, but not more often than a limit allows.

use super::Algorithm;
use crate::outward;
use futures_util::StreamExt;
use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::Value;
use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{sync::Mutex, time::Instant};

/// The largest document with keys, in bytes.
pub const KEYS_BYTES_MAX: usize = 256 * 1024;
/// The most keys of one issuer.
const KEYS_MAX: usize = 100;
/// The shortest time between two fetches, whatever tokens come.
pub const KEYS_REFRESH_MIN: Duration = Duration::from_secs(30);
/// How long keys are used that could not be fetched anew.
const KEYS_STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a fetch may take.
const FETCH_MAX: Duration = Duration::from_secs(5);
/// Where an issuer of OpenID Connect says where its keys are.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysFrom {
    /// A file with a JWKS.
    File(PathBuf),
    /// The address of a JWKS.
    Url(Url),
    /// An issuer of OpenID Connect, which says where its keys are.
    Issuer(Url),
}

/// Keys cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the keys of `{issuer}` cannot be had: {why}")]
pub struct KeysAway {
    /// Whose.
    pub issuer: String,
    /// Why.
    pub why: String,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The public keys of one who signs.
pub struct KeySet {
    issuer: String,
    from: KeysFrom,
    refresh: Duration,
    refresh_min: Duration,
    http: Client,
    /// The keys, and when they were fetched.
    kept: RwLock<Option<(Instant, Arc<[Key]>)>>,
    /// When they were last tried to be fetched, and what came of it; held while fetching.
    fetching: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("issuer", &self.issuer)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// Keys of `issuer`, fetched anew after `refresh`, and when a token names one that is not known; never more
    /// often than each `refresh_min`, which is [`KEYS_REFRESH_MIN`] but in tests.
    #[must_use]
    pub fn new(issuer: &str, from: KeysFrom, refresh: Duration, refresh_min: Duration) -> Self {
        Self {
            issuer: issuer.to_owned(),
            from,
            refresh,
            refresh_min,
            http: outward::client(FETCH_MAX).unwrap_or_default(),
            kept: RwLock::new(None),
            fetching: Mutex::new(None),
        }
    }

    /// The key of this id and algorithm. Without an id it must be the only one of the algorithm. Keys that are not
    /// known are fetched only when `may_fetch` says that it could help.
    ///
    /// # Errors
    /// No keys are there, and they cannot be fetched.
    pub async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
        may_fetch: bool,
    ) -> Result<Option<DecodingKey>, KeysAway> {
        let kept = self.kept();
        if let Some((at, keys)) = &kept
            && let Some(key) = choose(keys, id, algorithm)
        {
            if at.elapsed() >= self.refresh {
                // Nobody waits for it as long as there is a key that fits.
                let keys = Arc::clone(self);
                tokio::spawn(async move { keys.fetch().await });
            }
            return Ok(Some(key));
        }
        if !may_fetch {
            return Ok(None);
        }
        self.fetch().await;
        match self.kept() {
            Some((_, keys)) => Ok(choose(&keys, id, algorithm)),
            None => {
                let tried = self.fetching.lock().await;
                let why = tried.as_ref().and_then(|(_, tried)| tried.clone().err());
                let why = why.unwrap_or_else(|| "they are too old".to_owned());
                Err(KeysAway { issuer: self.issuer.clone(), why })
            }
        }
    }

    fn kept(&self) -> Option<(Instant, Arc<[Key]>)> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(at, _)| at.elapsed() < KEYS_STALE_MAX.max(self.refresh)).cloned()
    }

    /// Fetches the keys, if that was not tried a moment ago; one at a time.
    async fn fetch(&self) {
        let mut tried = self.fetching.lock().await;
        if tried.as_ref().is_some_and(|(at, _)| at.elapsed() < self.refresh_min) {
            return;
        }
        let result = self.load().await;
        match &result {
            Ok(keys) => {
                tracing::debug!(issuer = self.issuer, keys = keys.len(), "keys are fetched");
                let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
                *kept = Some((Instant::now(), Arc::clone(keys)));
            }
            Err(why) => tracing::warn!(issuer = self.issuer, why, "keys cannot be fetched"),
        }
        *tried = Some((Instant::now(), result.map(|_| ())));
    }

    async fn load(&self) -> Result<Arc<[Key]>, String> {
        let text = match &self.from {
            KeysFrom::File(path) => {
                let text = tokio::fs::read(path).await;
                text.map_err(|error| format!("{}: {error}", path.display()))?
            }
            KeysFrom::Url(url) => self.get(url.clone()).await?,
            KeysFrom::Issuer(issuer) => {
                let url = self.discover(issuer).await?;
                self.get(url).await?
            }
        };
        if text.len() > KEYS_BYTES_MAX {
            return Err(format!("they have {} bytes, at most {KEYS_BYTES_MAX} are read", text.len()));
        }
        parse(&text)
    }

    /// Where an issuer says that its keys are. It must be the issuer that it says it is.
    async fn discover(&self, issuer: &Url) -> Result<Url, String> {
        #[derive(Deserialize)]
        struct Said {
            issuer: String,
            jwks_uri: String,
        }
        let url = format!("{}{DISCOVERY}", issuer.as_str().trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| error.to_string())?;
        let said: Said = serde_json::from_slice(&self.get(url.clone()).await?)
            .map_err(|error| format!("{url}: {error}"))?;
        let same = said.issuer.trim_end_matches('/') == issuer.as_str().trim_end_matches('/');
        if !same {
            return Err(format!("{url} is of the issuer {}", said.issuer));
        }
        let keys = Url::parse(&said.jwks_uri).map_err(|error| format!("{url}: jwks_uri: {error}"))?;
        if keys.scheme() != "https" && issuer.scheme() == "https" {
            return Err(format!("{url} names keys at {keys}, which is not https"));
        }
        Ok(keys)
    }

    async fn get(&self, url: Url) -> Result<Vec<u8>, String> {
        let wrong = |error: reqwest::Error| format!("{url}: {}", error.without_url());
        let answer = self.http.get(url.clone()).send().await.map_err(wrong)?;
        let answer = answer.error_for_status().map_err(wrong)?;
        if !answer.status().is_success() {
            return Err(format!("{url}: {} is no answer with keys", answer.status()));
        }
        let mut text = Vec::new();
        let mut parts = answer.bytes_stream();
        while let Some(part) = parts.next().await {
            text.extend_from_slice(&part.map_err(wrong)?);
            if text.len() > KEYS_BYTES_MAX {
                return Err(format!("{url}: it has more than {KEYS_BYTES_MAX} bytes"));
            }
        }
        Ok(text)
    }
}

fn choose(keys: &[Key], id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
    let mut fitting =
        keys.iter().filter(|key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id));
    let first = fitting.next()?;
    // Without an id it would be a guess.
    (id.is_some() || fitting.next().is_none()).then(|| first.key.clone())
}

/// The keys of a JWKS that sign; those of other kinds are left alone, secrets among them.
fn parse(text: &[u8]) -> Result<Arc<[Key]>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(text).map_err(|error| format!("no JWKS: {error}"))?;
    if set.keys.len() > KEYS_MAX {
        return Err(format!("there are {} keys, at most {KEYS_MAX} are read", set.keys.len()));
    }
    let keys: Vec<Key> = set.keys.into_iter().filter_map(key_of).collect();
    if keys.is_empty() {
        return Err("no key is for RS256, ES256 or EdDSA".to_owned());
    }
    Ok(keys.into())
}

fn key_of(value: Value) -> Option<Key> {
    let stated = value.get("alg").and_then(Value::as_str).map(str::to_owned);
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let same = stated.is_none_or(|stated| stated == format!("{algorithm:?}"));
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (signs && same).then_some(Key { id: jwk.common.key_id, algorithm, key })
}
