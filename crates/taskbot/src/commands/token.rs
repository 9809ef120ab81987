//! `token …`.

use super::Context;
use crate::{
    cli::{Givens, Global, Overrides, TokenCommand},
    config::{Config, by_secret, secret_of},
    fault::{self, Fault},
    output::{self, column, text_at},
    server::open,
};
use anyhow::Result;
use api::jwt;
use chrono::TimeDelta;
use model::{Clock, Ids, SystemClock, SystemIds, ids::QueueName, units::parse_duration};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};
use store::{Bounds, Role};

/// Carries `token …` out.
pub(super) async fn run(command: TokenCommand, global: &Global, given: &Givens) -> Result<u8> {
    match command {
        TokenCommand::Create {
            name,
            role,
            expires,
            queues,
            priority_max,
            run_max,
            offline,
            data_dir,
            database,
        } => {
            let role: Role = role.parse().map_err(|why| Fault::usage(format!("--role: {why}")))?;
            let expires = expires.as_deref().map(parse_duration).transpose();
            let expires = expires.map_err(|why| Fault::usage(format!("--expires: {why}")))?;
            let bounds = bounds(queues, priority_max, run_max.as_deref(), role)?;
            let made = if offline {
                let mut loaded = Config::load(global.config.as_deref())?;
                let over = Overrides { data_dir, database, ..Overrides::default() };
                loaded.lay_over(&over, given)?;
                create_offline(&loaded.config, &name, role, expires, bounds).await?
            } else {
                let mut body = json!({"name": name, "role": role, "bounds": bounds});
                if let Some(expires) = expires {
                    body["expires_in_seconds"] = json!(expires.as_secs());
                }
                Context::of(global)?.client.post("tokens", &body).await?
            };
            output::document(global.output, &made, || {
                output::say(text_at(&made, "token"))?;
                output::note(format_args!(
                    "token {} of {name}, {role}; it is not shown again. A server that had no tokens asks for them from its next start on",
                    text_at(&made, "id")
                ));
                Ok(())
            })?;
        }
        TokenCommand::Jwt { file, secret, algorithm, email } => {
            let file = file.or_else(|| global.config.clone());
            let token = sign(file.as_deref(), secret, algorithm.as_deref(), &email)?;
            output::document(global.output, &json!({"token": token, "email": email}), || {
                Ok(output::say(&token)?)
            })?;
        }
        TokenCommand::List => {
            let context = Context::of(global)?;
            let tokens = context.client.get("tokens", &[]).await?;
            let now = context.now();
            let columns = [
                column("TOKEN", |token| text_at(token, "id")),
                column("NAME", |token| text_at(token, "name")),
                column("ROLE", |token| text_at(token, "role")),
                column("QUEUES", |token| {
                    let queues = token["bounds"]["queues"].as_array().into_iter().flatten();
                    queues.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
                }),
                column("AGE", move |token| output::age(&token["created_at"], now)),
                column("EXPIRES", |token| text_at(token, "expires_at")),
                column("USED", move |token| output::age(&token["last_used_at"], now)),
            ];
            output::list(context.format, tokens.as_array().unwrap_or(&Vec::new()), &columns, "no tokens")?;
        }
        TokenCommand::Revoke { token } => {
            let client = Context::of(global)?.client;
            let id = by_name(&client.get("tokens", &[]).await?, &token)?;
            client.delete(&format!("tokens/{}", crate::client::escape(&id))).await?;
            output::note(format_args!("token {token} is refused from now on"));
        }
    }
    Ok(fault::DONE)
}

/// A token for ALTS' interface.
///
/// # Errors
/// There is no secret, or it signs nothing.
fn sign(file: Option<&Path>, secret: Option<String>, algorithm: Option<&str>, email: &str) -> Result<String> {
    let (secret, of_file) = match (secret, file) {
        (Some(secret), _) => (secret, None),
        (None, Some(file)) => secret_of(file).map(|(secret, algorithm)| (secret, Some(algorithm)))?,
        (None, None) => {
            return Err(Fault::usage("give a configuration (-c FILE) or a secret (-s SECRET)").into());
        }
    };
    let stated = algorithm.map(by_secret).transpose();
    let stated = stated.map_err(|why| Fault::usage(format!("--algorithm: {why}")))?;
    if email.trim().is_empty() || email.len() > jwt::NAME_BYTES_MAX || email.chars().any(char::is_control) {
        return Err(Fault::usage(format!("--email must have 1 to {} bytes", jwt::NAME_BYTES_MAX)).into());
    }
    if secret.len() < jwt::SECRET_BYTES_MIN {
        output::note(format_args!(
            "the secret has {} bytes; at least {} are safe: openssl rand -hex 32",
            secret.len(),
            jwt::SECRET_BYTES_MIN
        ));
    }
    let algorithm = stated.or(of_file).unwrap_or(jwt::Algorithm::HS256);
    let signed = jwt::sign(secret.as_bytes(), algorithm, &json!({"email": email}));
    Ok(signed.map_err(Fault::usage)?)
}

/// The id of the token with this id or name.
///
/// # Errors
/// There is none, or several have the name.
fn by_name(tokens: &Value, token: &str) -> Result<String, Fault> {
    let all = || tokens.as_array().into_iter().flatten();
    if all().any(|found| found["id"] == token) {
        return Ok(token.to_owned());
    }
    let named: Vec<String> =
        all().filter(|found| found["name"] == token).map(|found| text_at(found, "id")).collect();
    match named.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Fault::new(
            fault::NOT_FOUND,
            format!("no token has the name or id `{token}`; `taskbot token list` shows them"),
        )),
        several => Err(Fault::new(
            fault::CONFLICT,
            format!("several tokens have the name `{token}`; give an id: {}", several.join(", ")),
        )),
    }
}

/// Within what a token is to work.
///
/// # Errors
/// They are none, or the role has none.
fn bounds(
    queues: Vec<String>,
    priority_max: Option<i32>,
    run_max: Option<&str>,
    role: Role,
) -> Result<Bounds, Fault> {
    let run_max = run_max.map(parse_duration).transpose();
    let run_max = run_max.map_err(|why| Fault::usage(format!("--run-max: {why}")))?;
    let queues: BTreeSet<_> = queues.into_iter().map(QueueName::new).collect();
    let queues = Some(queues).filter(|queues| !queues.is_empty());
    let bounds = Bounds { queues, priority_max, run_seconds_max: run_max.map(|most| most.as_secs()) };
    bounds.check(role).map_err(Fault::usage)?;
    Ok(bounds)
}

/// Makes a token in the configured database itself: the first one, before a server may listen.
async fn create_offline(
    config: &Config,
    name: &str,
    role: Role,
    expires: Option<Duration>,
    bounds: Bounds,
) -> Result<Value> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let store = open::store(config, &clock, &ids).await?;
    let now = clock.now();
    let expires_at = expires.and_then(|expires| now.checked_add_signed(TimeDelta::from_std(expires).ok()?));
    let (mut token, text) = api::auth::new_token(&*ids, name, role, now, expires_at);
    token.bounds = bounds;
    let kept = store.add_token(&token).await;
    store.close().await;
    kept?;
    let mut shown = serde_json::to_value(&token)?;
    shown["token"] = json!(text);
    Ok(shown)
}
