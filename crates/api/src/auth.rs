//! Who may do what: bearer tokens, kept hashed, and what is allowed without one.

use crate::{problem::Problem, state::ApiState};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::Response,
};
use chrono::{DateTime, Utc};
use model::{Ids, ids::TokenId};
use sha2::{Digest, Sha256};
use store::{Role, Token};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// What every token starts with, so that scanners find leaked ones.
pub const TOKEN_PREFIX: &str = "tb_";

/// What a listener allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// What requests without a token may do; `None` for nothing. A listener on loopback for one person gives
    /// [`Role::Admin`]; listening elsewhere without tokens is refused when the server starts.
    pub anonymous: Option<Role>,
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name, or `anonymous`.
    pub name: String,
    /// What it may do.
    pub role: Role,
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
    let caller = match bearer(request.headers())? {
        Some(text) => Some(check(&state, text).await?),
        None => state.access().anonymous.map(|role| Caller { name: "anonymous".to_owned(), role }),
    };
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let expected = || Problem::new(StatusCode::UNAUTHORIZED, "expected `Authorization: Bearer tb_…`");
    text.map(Some).ok_or_else(expected)
}

async fn check(state: &ApiState, text: &str) -> Result<Caller, Problem> {
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
    Ok(Caller { name: token.name, role: token.role })
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
    use model::SystemIds;
    use store::ROLES;

    #[test]
    fn roles_open_routes() {
        let open = |role| {
            let caller = Caller { name: "x".to_owned(), role };
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
