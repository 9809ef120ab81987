//! Who may do what: bearer tokens, kept hashed, those that others sign, and what is allowed without one.

use crate::{
    alts,
    jwt::{Identity, Refusal, Verifier},
    problem::Problem,
    resultsdb,
    state::ApiState,
    testflinger,
};
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::Response,
};
use chrono::{DateTime, Utc};
use model::{Ids, ids::TokenId};
use sha2::{Digest, Sha256};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use store::{Bounds, Role, Token};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// What every token starts with, so that scanners find leaked ones.
pub const TOKEN_PREFIX: &str = "tb_";

/// What a listener allows.
#[derive(Debug, Clone)]
pub struct Access {
    /// What requests without a token may do, and from which networks (an address and how many of its bits
    /// count); `None` for nothing.
    anonymous: Option<(Role, Vec<(IpAddr, u8)>)>,
    /// Whose signed tokens are believed, beside our own.
    signed: Arc<Verifier>,
}

impl Access {
    /// Nothing goes without a token.
    #[must_use]
    pub fn tokens_only() -> Self {
        Self { anonymous: None, signed: Arc::default() }
    }

    /// Requests without a token have this role, when they come from one of these networks.
    #[must_use]
    pub fn anonymous(role: Role, networks: Vec<(IpAddr, u8)>) -> Self {
        Self { anonymous: Some((role, networks)), signed: Arc::default() }
    }

    /// Believes tokens that others sign, too.
    #[must_use]
    pub fn believing(self, signed: Arc<Verifier>) -> Self {
        Self { signed, ..self }
    }

    /// What a request without a token may do that comes from this address; one whose address is not known may
    /// do nothing.
    #[must_use]
    pub fn of(&self, peer: Option<IpAddr>) -> Option<Role> {
        let (role, networks) = self.anonymous.as_ref()?;
        let peer = peer?.to_canonical();
        networks.iter().any(|(network, bits)| is_inside(peer, *network, *bits)).then_some(*role)
    }
}

/// Whether the first `bits` of both addresses are the same.
fn is_inside(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let rest = u32::saturating_sub(width, u32::from(bits));
    address.checked_shr(rest) == network.checked_shr(rest)
}

/// Refuses what a web page of somebody else could make a browser send to a server that asks for no token:
/// requests with another origin, and such by a name that was made to point here.
fn refuse_foreign_pages(role: Role, headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let forbidden = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    // A picture or a link of another page comes without an origin.
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return forbidden("a page of another site may do nothing here without a token");
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        if origin != Some(host) {
            return forbidden("a page of another site may do nothing here without a token");
        }
    }
    if role == Role::Admin && !host.is_empty() && !is_local_name(host) {
        return forbidden("without a token this server is reached by `localhost` or its address only");
    }
    Ok(())
}

/// Whether a `Host` is an address or `localhost`: no name that somebody else's name server answers for.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name, or `anonymous`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Within what.
    pub bounds: Bounds,
}

impl From<Identity> for Caller {
    fn from(identity: Identity) -> Self {
        Self { name: identity.name, role: identity.role, bounds: identity.bounds }
    }
}

impl Caller {
    /// Whether this role's routes are open to the caller. `agent` stands apart: its routes are open to agents
    /// and admins, and agents to nothing else.
    #[must_use]
    pub fn may(&self, needed: Role) -> bool {
        match (self.role, needed) {
            (Role::Admin, _) => true,
            (Role::Agent, needed) | (needed, Role::Agent) => self.role == needed && needed == Role::Agent,
            (has, needed) => has >= needed,
        }
    }
}

/// A new token: what is stored, and the text that is shown once.
#[must_use]
pub fn new_token(
    ids: &dyn Ids,
    name: &str,
    role: Role,
    now: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
) -> (Token, String) {
    let id = ids.next();
    let secret = hex::encode(ids.secret());
    let text = format!("{TOKEN_PREFIX}{}_{secret}", id.simple());
    let token = Token {
        id: TokenId::new(id),
        name: name.to_owned(),
        role,
        bounds: Bounds::default(),
        secret_hash: Sha256::digest(&secret).into(),
        created_at: now,
        expires_at,
        last_used_at: None,
    };
    (token, text)
}

/// The public part and the secret of a token's text.
fn parse_token(text: &str) -> Option<(TokenId, &str)> {
    let (id, secret) = text.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    Some((TokenId::new(Uuid::try_parse(id).ok()?), secret))
}

/// Finds out who makes the request and puts it into the request; a bad token is refused, also where none is
/// needed.
pub(crate) async fn identify(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let for_testflinger = state.interfaces().testflinger.is_some()
        && testflinger::is_own_token(request.uri().path(), request.headers());
    if for_testflinger {
        // Its gate knows its own tokens, and who has none of them gets nowhere.
        return Ok(next.run(request).await);
    }
    let for_alts = state.interfaces().alts.is_some() && alts::is_here(request.uri().path());
    let token = if for_alts {
        alts::token_of(request.headers())?.map(str::to_owned)
    } else if state.interfaces().resultsdb.is_some() && resultsdb::is_here(request.uri().path()) {
        let (token, again) = resultsdb::token_of(request).await?;
        request = again;
        token
    } else {
        bearer(request.headers())?.map(str::to_owned)
    };
    let caller = match token {
        Some(text) if for_alts => Some(check_for_alts(&state, &text).await?),
        Some(text) => Some(check(&state, &text).await?),
        // Who has a secret for its clients means that they show it.
        None if for_alts && state.interfaces().alts.as_ref().is_some_and(|alts| alts.secret.is_some()) => {
            None
        }
        None => {
            let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
            let mut role = state.access().of(peer);
            if let Some(allowed) = role
                && let Err(refused) = refuse_foreign_pages(allowed, request.headers())
            {
                if !state.is_read_by_other_sites() {
                    return Err(refused);
                }
                // They read, and do nothing else.
                role = Some(Role::Viewer);
            }
            role.map(|role| Caller { name: "anonymous".to_owned(), role, bounds: Bounds::default() })
        }
    };
    if for_alts && caller.is_none() {
        return Err(alts::nobody());
    }
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    Ok(next.run(request).await)
}

/// The token of `Authorization: Bearer`; nothing without the header.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let expected = || Problem::new(StatusCode::UNAUTHORIZED, "expected `Authorization: Bearer tb_…`");
    text.map(Some).ok_or_else(expected)
}

/// Whose token this is: one of ours, or one that somebody signed whom we believe.
async fn check(state: &ApiState, text: &str) -> Result<Caller, Problem> {
    let signed = &state.access().signed;
    if text.starts_with(TOKEN_PREFIX) || signed.is_empty() {
        return check_own(state, text).await;
    }
    signed.verify(text, state.scheduler().clock().now()).await.map(Caller::from).map_err(Problem::from)
}

/// Whose token this is, if somebody signed it whom we believe; nothing where nobody is believed.
pub(crate) async fn signed(state: &ApiState, text: &str) -> Option<Result<Caller, Refusal>> {
    let signed = &state.access().signed;
    if signed.is_empty() {
        return None;
    }
    Some(signed.verify(text, state.scheduler().clock().now()).await.map(Caller::from))
}

/// Whose token this is where ALTS' clients come in: theirs are believed, too.
async fn check_for_alts(state: &ApiState, text: &str) -> Result<Caller, Problem> {
    let now = state.scheduler().clock().now();
    if !text.starts_with(TOKEN_PREFIX)
        && let Ok(identity) = state.alts_tokens().verify(text, now).await
    {
        return Ok(identity.into());
    }
    check(state, text).await.map_err(|problem| match problem.status {
        401 => alts::not_believed(),
        _ => problem,
    })
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Unknown(why) => {
                tracing::info!(why, "a signed token is refused");
                Self::new(
                    StatusCode::UNAUTHORIZED,
                    "the token is unknown, or nobody signed it who is believed here",
                )
            }
            Refusal::Claims(_) | Refusal::Expired => {
                tracing::info!(why = %refusal, "a signed token is refused");
                Self::new(StatusCode::UNAUTHORIZED, refusal.to_string())
            }
            Refusal::NoRole { .. } => Self::new(StatusCode::FORBIDDEN, refusal.to_string()),
            Refusal::Away(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()),
        }
    }
}

async fn check_own(state: &ApiState, text: &str) -> Result<Caller, Problem> {
    // One answer for every way to be wrong: nothing is learnt from it.
    let refused = || Problem::new(StatusCode::UNAUTHORIZED, "the token is unknown, revoked or expired");
    let (id, secret) = parse_token(text).ok_or_else(refused)?;
    let token = state.scheduler().store().use_token(id).await?.ok_or_else(refused)?;
    let hash: [u8; 32] = Sha256::digest(secret).into();
    let right = bool::from(hash.ct_eq(&token.secret_hash));
    let expired = token.expires_at.is_some_and(|at| at <= state.scheduler().clock().now());
    if !right || expired {
        return Err(refused());
    }
    Ok(Caller { name: token.name, role: token.role, bounds: token.bounds })
}

/// Lets a request through when its caller may use routes of this role.
pub(crate) async fn require(needed: Role, request: Request, next: Next) -> Result<Response, Problem> {
    match request.extensions().get::<Caller>() {
        Some(caller) if caller.may(needed) => Ok(next.run(request).await),
        Some(caller) => {
            let detail =
                format!("this needs the role {needed}; `{}` has the role {}", caller.name, caller.role);
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
        None => {
            Err(Problem::new(StatusCode::UNAUTHORIZED, format!("this needs a token with the role {needed}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use model::SystemIds;
    use store::ROLES;

    #[test]
    fn roles_open_routes() {
        let open = |role| {
            let caller = Caller { name: "x".to_owned(), role, bounds: Bounds::default() };
            ROLES
                .iter()
                .filter(|(needed, _)| caller.may(*needed))
                .map(|(_, name)| *name)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(open(Role::Viewer), "viewer");
        assert_eq!(open(Role::Submitter), "viewer submitter");
        assert_eq!(open(Role::Agent), "agent");
        assert_eq!(open(Role::Manager), "viewer submitter manager");
        assert_eq!(open(Role::Admin), "viewer submitter agent manager admin");
    }

    #[test]
    fn networks() {
        let check = |peer: &str, network: (&str, u8), expect: bool| {
            let access = Access::anonymous(Role::Viewer, vec![(network.0.parse().unwrap(), network.1)]);
            let role = access.of(Some(peer.parse().unwrap()));
            assert_eq!(role.is_some(), expect, "{peer} in {network:?}");
        };
        check("10.1.2.3", ("10.0.0.0", 8), true);
        check("11.1.2.3", ("10.0.0.0", 8), false);
        check("::ffff:10.1.2.3", ("10.0.0.0", 8), true);
        check("192.0.2.7", ("0.0.0.0", 0), true);
        check("192.0.2.7", ("192.0.2.7", 32), true);
        check("192.0.2.8", ("192.0.2.7", 32), false);
        check("fd00::1", ("fd00::", 8), true);
        check("fe80::1", ("fd00::", 8), false);
        check("fd00::1", ("::", 0), true);
        check("fd00::1", ("10.0.0.0", 0), false);
        assert_eq!(Access::anonymous(Role::Viewer, vec![("0.0.0.0".parse().unwrap(), 0)]).of(None), None);
        assert_eq!(Access::tokens_only().of(Some("127.0.0.1".parse().unwrap())), None);
    }

    #[test]
    fn pages_of_others_are_refused() {
        let check = |role, host: &'static str, origin: Option<&'static str>, expect| {
            let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            headers.extend(origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))));
            assert_eq!(refuse_foreign_pages(role, &headers).is_ok(), expect, "{host} {origin:?}");
        };
        check(Role::Admin, "127.0.0.1:7400", None, true);
        check(Role::Admin, "[::1]:7400", None, true);
        check(Role::Admin, "localhost", Some("http://localhost"), true);
        check(Role::Admin, "127.0.0.1:7400", Some("https://evil.example"), false);
        check(Role::Admin, "127.0.0.1:7400", Some("null"), false);
        check(Role::Admin, "evil.example:7400", None, false);
        check(Role::Admin, "evil.example:7400", Some("http://evil.example:7400"), false);
        check(Role::Viewer, "qa.example.org", None, true);
        check(Role::Viewer, "qa.example.org", Some("https://evil.example"), false);
    }

    #[test]
    fn tokens_are_taken_apart() {
        let (token, text) = new_token(&SystemIds, "me", Role::Viewer, DateTime::UNIX_EPOCH, None);
        let (id, secret) = parse_token(&text).unwrap();
        assert_eq!(id, token.id);
        assert_eq!(<[u8; 32]>::from(Sha256::digest(secret)), token.secret_hash);
        for bad in ["", "tb_", "tb_x_y", "xx_00000000000000000000000000000000_y"] {
            assert!(parse_token(bad).is_none(), "{bad}");
        }
    }
}
