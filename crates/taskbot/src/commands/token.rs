//! `token …`.

use super::Context;
use crate::{
    cli::{Global, TokenCommand},
    config::Config,
    fault::{self, Fault},
    output::{self, column, text_at},
    server::open,
};
use anyhow::Result;
use chrono::TimeDelta;
use model::{Clock, Ids, SystemClock, SystemIds, units::parse_duration};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use store::Role;

/// Carries `token …` out.
pub(super) async fn run(command: TokenCommand, global: &Global) -> Result<u8> {
    match command {
        TokenCommand::Create { name, role, expires, offline } => {
            let role: Role = role.parse().map_err(|why| Fault::usage(format!("--role: {why}")))?;
            let expires = expires.as_deref().map(parse_duration).transpose();
            let expires = expires.map_err(|why| Fault::usage(format!("--expires: {why}")))?;
            let made = if offline {
                create_offline(global, &name, role, expires).await?
            } else {
                let mut body = json!({"name": name, "role": role});
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
        TokenCommand::List => {
            let context = Context::of(global)?;
            let tokens = context.client.get("tokens", &[]).await?;
            let now = context.now();
            let columns = [
                column("TOKEN", |token| text_at(token, "id")),
                column("NAME", |token| text_at(token, "name")),
                column("ROLE", |token| text_at(token, "role")),
                column("AGE", move |token| output::age(&token["created_at"], now)),
                column("EXPIRES", |token| text_at(token, "expires_at")),
                column("USED", move |token| output::age(&token["last_used_at"], now)),
            ];
            output::list(context.format, tokens.as_array().unwrap_or(&Vec::new()), &columns, "no tokens")?;
        }
        TokenCommand::Revoke { id } => {
            Context::of(global)?.client.delete(&format!("tokens/{}", crate::client::escape(&id))).await?;
            output::note(format_args!("token {id} is refused from now on"));
        }
    }
    Ok(fault::DONE)
}

/// Makes a token in the configured database itself: the first one, before a server may listen.
async fn create_offline(global: &Global, name: &str, role: Role, expires: Option<Duration>) -> Result<Value> {
    let config = Config::load(global.config.as_deref())?.config;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let store = open::store(&config, &clock, &ids).await?;
    let now = clock.now();
    let expires_at = expires.and_then(|expires| now.checked_add_signed(TimeDelta::from_std(expires).ok()?));
    let (token, text) = api::auth::new_token(&*ids, name, role, now, expires_at);
    let kept = store.add_token(&token).await;
    store.close().await;
    kept?;
    let mut shown = serde_json::to_value(&token)?;
    shown["token"] = json!(text);
    Ok(shown)
}
