//! Who asks: its roles, the agent's cookie, and what is open to whom.

use super::{
    SYSTEM,
    answer::Refusal,
    clients,
    tokens::{self, Permissions},
};
use crate::{
    auth::{self, Caller, TOKEN_PREFIX},
    jwt,
    problem::Problem,
    resultsdb::{escaped, unescaped},
    state::ApiState,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use model::{Task, ids::WorkerName, task::Origin};
use store::{Bounds, Role};

/// The cookie that names an agent.
const COOKIE: &str = "agent_name";
/// The longest name of an agent or a queue, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 256;

/// Whether a path is one of this interface.
pub(crate) fn is_own_path(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/") || path.starts_with("/oidc/")
}

/// Whether a request brings what only this interface knows: a client's password, or a token that it gave.
pub(crate) fn is_own_token(path: &str, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    is_own_path(path)
        && given.is_some_and(|given| bearer(given).is_none_or(|token| !token.starts_with(TOKEN_PREFIX)))
}

/// Whose token this is, if somebody signed it whom we believe. Of one whose time is over it is told, as of our own:
/// agents fetch another then.
async fn believed(state: &ApiState, token: &str) -> Result<Option<Caller>, Refusal> {
    match auth::signed(state, token).await {
        Some(Ok(caller)) => Ok(Some(caller)),
        Some(Err(jwt::Refusal::Expired)) => {
            Err(Refusal::Abort(StatusCode::UNAUTHORIZED, "Token has expired".to_owned()))
        }
        Some(Err(
            refusal @ (jwt::Refusal::Claims(_) | jwt::Refusal::NoRole { .. } | jwt::Refusal::Away(_)),
        )) => Err(Problem::from(refusal).into()),
        Some(Err(jwt::Refusal::Unknown(_))) | None => Ok(None),
    }
}

/// The token; older command lines send it by itself.
fn bearer(given: &str) -> Option<&str> {
    let Some((scheme, token)) = given.split_once(' ') else { return Some(given) };
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// To whom an operation is open. What `strict` allows is Testflinger's own table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// Everybody, without a token.
    Public,
    /// Those who read.
    Read,
    /// Those who read, and agents.
    Everyone,
    /// Those who submit.
    Submit,
    /// Agents.
    Agent,
    /// Agents, and those who look after them.
    Agents,
    /// Those who look after queues and clients.
    Manage,
    /// Administrators.
    Admin,
}

impl Open {
    /// Testflinger's roles, as its refusals name them.
    const fn roles(self) -> &'static [(Role, &'static str)] {
        const CONTRIBUTOR: (Role, &str) = (Role::Submitter, "contributor");
        const MANAGER: (Role, &str) = (Role::Manager, "manager");
        const ADMIN: (Role, &str) = (Role::Admin, "admin");
        const AGENT: (Role, &str) = (Role::Agent, "agent");
        match self {
            Self::Public | Self::Everyone => &[ADMIN, MANAGER, CONTRIBUTOR, AGENT],
            Self::Read | Self::Submit => &[ADMIN, MANAGER, CONTRIBUTOR],
            Self::Agent => &[AGENT],
            Self::Agents => &[AGENT, MANAGER, ADMIN],
            Self::Manage => &[ADMIN, MANAGER],
            Self::Admin => &[ADMIN],
        }
    }

    /// Those to whom it is open, for the description.
    pub(crate) fn to_whom(self) -> String {
        match self {
            Self::Public => "everybody".to_owned(),
            one => one.names(),
        }
    }

    /// The names of its roles.
    fn names(self) -> String {
        let names: Vec<_> = self.roles().iter().map(|(_, name)| *name).collect();
        names.join(", ")
    }

    fn to(self, asker: &Asker, strict: bool) -> bool {
        if strict {
            return self.roles().iter().any(|(role, _)| *role == asker.role);
        }
        match self {
            Self::Public | Self::Read | Self::Everyone => true,
            Self::Submit => asker.role != Role::Agent && asker.role >= Role::Submitter,
            // Who needs no token is taken at his word: older agents have none.
            Self::Agent if asker.anonymous => asker.role >= Role::Submitter,
            Self::Agent => matches!(asker.role, Role::Agent | Role::Admin),
            Self::Manage => asker.role >= Role::Manager,
            Self::Admin => asker.role == Role::Admin,
            Self::Agents => asker.role >= Role::Agent || (asker.anonymous && asker.role >= Role::Submitter),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asker {
    /// The token's or client's name.
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Whether no token came.
    pub(crate) anonymous: bool,
    /// The agent, as its cookie says.
    pub(crate) agent: Option<String>,
    /// What its token says, when this interface gave it.
    pub(crate) client: Option<Permissions>,
    /// Within what a token of ours keeps it.
    pub(crate) bounds: Bounds,
}

impl Asker {
    fn of(caller: Caller, anonymous: bool, agent: Option<String>) -> Self {
        let Caller { name, role, bounds } = caller;
        Self { name, role, anonymous, agent, client: None, bounds }
    }

    /// Under which name what the agent runs is leased.
    pub(crate) fn worker(&self) -> WorkerName {
        match (&self.agent, self.anonymous, self.role) {
            (Some(agent), ..) => worker(agent),
            (None, false, Role::Agent) => worker(&self.name),
            _ => worker("anonymous"),
        }
    }

    /// Whether it is known which agent asks.
    pub(crate) fn is_known(&self) -> bool {
        self.agent.is_some() || (!self.anonymous && self.role == Role::Agent)
    }
}

/// The client that submitted a job.
pub(crate) fn client_of(task: &Task) -> Option<&str> {
    match &task.origin {
        Origin::Submitted { who, .. } => who.strip_prefix("testflinger:"),
        _ => None,
    }
}

/// Under which name an agent's tasks are leased.
pub(crate) fn worker(agent: &str) -> WorkerName {
    WorkerName::new(format!("{SYSTEM}:{agent}"))
}

/// Finds out who asks, renews the leases of an agent that is heard of, and lets it through or not.
pub(crate) async fn gate(
    State((state, open)): State<(ApiState, Open)>,
    mut request: Request,
    next: Next,
) -> Response {
    if open == Open::Public {
        return next.run(request).await;
    }
    let caller = request.extensions().get::<Caller>().cloned();
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.map(|given| given.to_str().unwrap_or_default().to_owned());
    let agent = agent_of(request.headers());
    match admit(&state, open, caller, given, agent).await {
        Ok(asker) => {
            request.extensions_mut().insert(asker);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn admit(
    state: &ApiState,
    open: Open,
    caller: Option<Caller>,
    given: Option<String>,
    agent: Option<String>,
) -> Result<Asker, Refusal> {
    let settings = state.testflinger();
    let missing =
        || Problem::new(StatusCode::UNAUTHORIZED, "Missing Authorization header: this needs a token");
    let anonymous = given.is_none();
    let mut asker = match (caller, given.as_deref().and_then(bearer)) {
        (Some(caller), _) => Asker::of(caller, anonymous, agent),
        (None, Some(token)) => match tokens::verify(state, token).await {
            Ok(client) => {
                let role = clients::role(&client.role).ok_or_else(|| Refusal::forbidden("Invalid Token"))?;
                let name = format!("{SYSTEM}:{}", client.client_id);
                Asker { name, role, anonymous, agent, client: Some(client), bounds: Bounds::default() }
            }
            // Not of this interface: somebody whom we believe may have signed it.
            Err(refusal) => Asker::of(believed(state, token).await?.ok_or(refusal)?, anonymous, agent),
        },
        (None, None) => return Err(missing().into()),
    };
    if settings.oidc.is_some() && anonymous {
        // Who can log in says who he is.
        return Err(missing().into());
    }
    if settings.strict && anonymous && asker.role >= Role::Submitter {
        // Without a token everybody is a contributor.
        asker.role = Role::Submitter;
    }
    if !open.to(&asker, settings.strict) {
        return Err(Refusal::forbidden(format!("Specified action requires role: {}", open.names())));
    }
    if asker.is_known() {
        let lease_ms = u64::try_from(settings.lease.as_millis()).unwrap_or(u64::MAX);
        state.scheduler().store().renew_foreign(&asker.worker(), lease_ms).await?;
    }
    Ok(asker)
}

/// The agent that the cookie names.
fn agent_of(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == COOKIE)?;
    let value = value.trim_matches('"');
    let name = unescaped(value).unwrap_or_else(|| value.to_owned());
    (!name.is_empty() && name.len() <= NAME_BYTES_MAX).then_some(name)
}

/// The header that gives an agent its cookie. It names whom it names also where a name has what cookies have not.
pub(crate) fn cookie(agent: &str) -> Option<HeaderValue> {
    let agent = escaped(agent);
    HeaderValue::from_str(&format!("{COOKIE}={agent}; HttpOnly; SameSite=Strict; Path=/")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_name_agents() {
        let check = |cookies: &'static str, expect: Option<&str>| {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(cookies))]);
            assert_eq!(agent_of(&headers).as_deref(), expect, "{cookies}");
        };
        check("agent_name=agent1", Some("agent1"));
        check("a=b; agent_name=\"agent 1\"; c=d", Some("agent 1"));
        check("agent_name=", None);
        for name in ["agent1", "lab-1.x_y", "a b", "\u{f6};,\"%41"] {
            let header = cookie(name).unwrap();
            let pair = header.to_str().unwrap().split_once(';').unwrap().0.to_owned();
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&pair).unwrap())]);
            assert_eq!(agent_of(&headers).as_deref(), Some(name), "{pair}");
        }
        check("other=agent1", None);
    }

    #[test]
    fn what_is_open_to_whom() {
        let asker = |role, anonymous| Asker {
            name: "x".into(),
            role,
            anonymous,
            agent: None,
            client: None,
            bounds: Bounds::default(),
        };
        let check = |open: Open, lenient: &str, strict: &str| {
            for (is_strict, expect) in [(false, lenient), (true, strict)] {
                let all = store::ROLES.iter().filter(|(role, _)| open.to(&asker(*role, false), is_strict));
                let got: Vec<_> = all.map(|(_, name)| *name).collect();
                assert_eq!(got.join(" "), expect, "{open:?} {is_strict}");
            }
        };
        check(Open::Read, "viewer submitter agent manager admin", "submitter manager admin");
        check(Open::Everyone, "viewer submitter agent manager admin", "submitter agent manager admin");
        check(Open::Submit, "submitter manager admin", "submitter manager admin");
        check(Open::Agent, "agent admin", "agent");
        check(Open::Agents, "agent manager admin", "agent manager admin");
        check(Open::Manage, "manager admin", "manager admin");
        check(Open::Admin, "admin", "admin");
        assert!(Open::Agent.to(&asker(Role::Submitter, true), false));
        assert!(!Open::Agent.to(&asker(Role::Viewer, true), false));
    }
}
