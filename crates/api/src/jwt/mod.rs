//! JSON Web Tokens that others sign: who they say that the caller is, and what that lets it do.
//!
//! Deny by default. Algorithms are pinned by configuration, never by the token; keys come from where the
//! configuration says, never from a header of the token. What is not signed is looked at for one thing: whether
//! fetching keys anew could help.

mod claims;
mod keys;

pub use claims::{Mapping, NAME_BYTES_MAX};
pub use keys::{KEYS_BYTES_MAX, KEYS_REFRESH_MIN, KeySet, KeysAway, KeysFrom};

use chrono::{DateTime, TimeDelta, Utc};
pub use jsonwebtoken::Algorithm;
use jsonwebtoken::{
    DecodingKey, EncodingKey, Header, Validation, dangerous::insecure_decode, decode, decode_header, encode,
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{collections::HashSet, fmt, sync::Arc};
use store::{Bounds, Role};

/// The longest token in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The shortest secret in bytes that is no warning: as many as HS256's hash has.
pub const SECRET_BYTES_MIN: usize = 32;
/// How far the clocks of others may be off.
pub const LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// The algorithms that sign by a shared secret.
pub const BY_SECRET: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
/// The algorithms that sign by a pair of keys.
pub const BY_KEYS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// What signatures are checked with.
#[derive(Clone)]
pub enum Keys {
    /// A secret that both sides know.
    Secret(Arc<[u8]>),
    /// Public keys.
    Set(Arc<KeySet>),
}

impl fmt::Debug for Keys {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "a secret",
            Self::Set(_) => "public keys",
        })
    }
}

/// One who signs tokens that are believed.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// What its people's names begin with here: `sso` makes `sso/alice`.
    pub name: String,
    /// What its signatures are checked with.
    pub keys: Keys,
    /// The algorithms that it signs by.
    pub algorithms: Vec<Algorithm>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// One of these must be in `aud`; none named means that `aud` is not looked at.
    pub audience: Vec<String>,
    /// Whether `exp` must be there.
    pub must_expire: bool,
    /// The claim that names the caller.
    pub name_claim: String,
    /// What a caller is called whose token does not say; without it such a token is refused.
    pub nameless: Option<String>,
    /// What claims let callers do; the first that fits counts.
    pub mappings: Vec<Mapping>,
}

/// Who a token says that the caller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name, after that of the issuer.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Within which bounds.
    pub bounds: Bounds,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is none, or no known issuer signed it for here. What exactly is for the log: nothing is learnt from it.
    #[error("{0}")]
    Unknown(String),
    /// A known issuer signed it, and its claims do not hold.
    #[error("{0}")]
    Claims(String),
    /// A known issuer signed it, and its time is over.
    #[error("the token has expired")]
    Expired,
    /// It holds, and gives no role.
    #[error("{name}'s token gives no role here: no entry of `roles` fits its claims")]
    NoRole {
        /// Whose it is.
        name: String,
    },
    /// Whether it holds cannot be told now.
    #[error(transparent)]
    Away(#[from] KeysAway),
}

/// All who are believed.
#[derive(Debug, Clone, Default)]
pub struct Verifier(Vec<Issuer>);

impl Verifier {
    /// Believes these.
    #[must_use]
    pub const fn new(issuers: Vec<Issuer>) -> Self {
        Self(issuers)
    }

    /// Whether nobody is believed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who a token says that the caller is.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Identity, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Unknown(format!(
                "it has {} bytes, at most {TOKEN_BYTES_MAX} are read",
                token.len()
            )));
        }
        let unknown = |why: &dyn fmt::Display| Refusal::Unknown(why.to_string());
        // `none` is no algorithm that parses.
        let header = decode_header(token).map_err(|error| unknown(&error))?;
        if header.crit.is_some() {
            return Err(unknown(&"its header has `crit`, which nothing here understands"));
        }
        let mut refusal = unknown(&format_args!("no issuer signs by {:?}", header.alg));
        for issuer in self.0.iter().filter(|issuer| issuer.algorithms.contains(&header.alg)) {
            match issuer.verify(token, &header, now).await {
                Ok(identity) => return Ok(identity),
                // What a known issuer signed says more than that others did not sign it.
                Err(why) if matches!(refusal, Refusal::Unknown(_)) => refusal = why,
                Err(_) => {}
            }
        }
        Err(refusal)
    }
}

impl Issuer {
    async fn verify(&self, token: &str, header: &Header, now: DateTime<Utc>) -> Result<Identity, Refusal> {
        let key = match &self.keys {
            Keys::Secret(secret) if secret.is_empty() => {
                return Err(Refusal::Unknown(format!("the secret of `{}` is empty", self.name)));
            }
            Keys::Secret(secret) => DecodingKey::from_secret(secret),
            Keys::Set(keys) => {
                let found = keys.find(header.kid.as_deref(), header.alg, self.could_be_of(token)).await?;
                found.ok_or_else(|| Refusal::Unknown(format!("`{}` has no such key", self.name)))?
            }
        };
        // Times are held against our own clock, below.
        let mut validation = Validation::new(header.alg);
        validation.algorithms.clone_from(&self.algorithms);
        validation.algorithms.retain(|algorithm| *algorithm == header.alg);
        validation.validate_exp = false;
        validation.validate_aud = !self.audience.is_empty();
        validation.required_spec_claims = HashSet::new();
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if !self.audience.is_empty() {
            validation.set_audience(&self.audience);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        let claims = decode::<Map<String, Value>>(token, &key, &validation).map_err(|error| {
            use jsonwebtoken::errors::ErrorKind;
            match error.kind() {
                ErrorKind::InvalidIssuer
                | ErrorKind::InvalidAudience
                | ErrorKind::MissingRequiredClaim(_)
                | ErrorKind::InvalidClaimFormat(_) => {
                    Refusal::Claims(format!("the token is not for here: {error}"))
                }
                _ => Refusal::Unknown(format!("`{}`: {error}", self.name)),
            }
        })?;
        claims::check_times(&claims.claims, self.must_expire, now)?;
        self.identify(&claims.claims)
    }

    fn identify(&self, claims: &Map<String, Value>) -> Result<Identity, Refusal> {
        let name = claims::name_of(claims, &self.name_claim)
            .or_else(|why| self.nameless.clone().ok_or(why))
            .map_err(Refusal::Claims)?;
        let name = format!("{}/{name}", self.name);
        match self.mappings.iter().find(|mapping| mapping.fits(claims)) {
            Some(mapping) => Ok(Identity { name, role: mapping.role, bounds: mapping.bounds.clone() }),
            None => Err(Refusal::NoRole { name }),
        }
    }

    /// Whether the issuer says of itself what a token of it would: only then could fetching its keys help.
    fn could_be_of(&self, token: &str) -> bool {
        let said = insecure_decode::<Map<String, Value>>(token).ok();
        let said = said.as_ref().and_then(|said| said.claims.get("iss")?.as_str());
        self.issuer.is_none() || said == self.issuer.as_deref()
    }
}

/// Signs a token by a shared secret.
///
/// # Errors
/// The algorithm signs by keys, or the secret is empty.
pub fn sign(secret: &[u8], algorithm: Algorithm, claims: &impl Serialize) -> Result<String, String> {
    if !BY_SECRET.contains(&algorithm) {
        return Err(format!("{algorithm:?} does not sign by a secret; expected HS256, HS384 or HS512"));
    }
    if secret.is_empty() {
        return Err("the secret is empty".to_owned());
    }
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret))
        .map_err(|error| error.to_string())
}
