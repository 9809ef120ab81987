//! The times of rules on a schedule. Each is an event of ours, whose id is the rule and the time.

use super::{
    SqlStore,
    session::{Session, Sql},
    value::{Value, values},
    work::Work,
};
use crate::Result;
use chrono::{DateTime, SecondsFormat, Utc};
use model::{
    Event, RuleName, Topic,
    event::OWN_SOURCE,
    ids::{EventId, SourceName},
    message::{JsonText, NewMessage},
};
use serde_json::json;
use std::collections::BTreeMap;

/// The topic of the event that tells a rule that its time has come.
const DUE: &str = "taskbot.schedule.due";

const TIMES: Sql = Sql {
    sqlite: "select rule, last_time from rule_schedule where rule in (select value from json_each($1))",
    postgres: "select rule, last_time from rule_schedule where rule = any($1)",
};
const BEGIN: &str =
    "insert into rule_schedule (rule, last_time) values ($1, $2) on conflict (rule) do nothing";
const PASS: &str = "update rule_schedule set last_time = $3 where rule = $1 and last_time = $2";

pub(crate) async fn times(
    session: &mut Session,
    rules: &[RuleName],
) -> Result<BTreeMap<RuleName, DateTime<Utc>>> {
    let mut times = BTreeMap::new();
    for row in session.all(TIMES, vec![Value::texts(rules.iter().map(RuleName::as_str))]).await? {
        times.insert(RuleName::from(row.text("rule")?), row.time("last_time")?);
    }
    Ok(times)
}

/// Lets rules begin now that have no time yet.
pub(crate) async fn begin(session: &mut Session, rules: &[RuleName]) -> Result<()> {
    let now = session.now;
    for rule in rules {
        session.run(BEGIN, values![rule, now]).await?;
    }
    Ok(())
}

pub(crate) async fn pass(
    store: &SqlStore,
    session: &mut Session,
    rule: &RuleName,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    missed: Option<u64>,
) -> Result<bool> {
    if session.run(PASS, values![rule, from, to]).await? == 0 {
        return Ok(false);
    }
    let Some(missed) = missed else { return Ok(true) };
    let time = to.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let data = JsonText::of(&json!({"rule": rule, "time": time, "missed": missed}));
    let mut work = Work::new(session, store);
    work.out.own_event(Event {
        source: SourceName::from(OWN_SOURCE),
        domain: SourceName::from(OWN_SOURCE),
        id: EventId::new(format!("schedule:{rule}:{time}")),
        topic: Topic::from(DUE),
        time: Some(to),
        received_at: work.now,
        headers: serde_json::Map::new(),
        payload: data.get().as_bytes().into(),
        depth: 0,
        cause: None,
        traceparent: None,
    });
    work.out.tell(NewMessage {
        topic: DUE.into(),
        subject: rule.to_string(),
        order_key: format!("rule:{rule}"),
        data,
        task: None,
        depth: 0,
        traceparent: None,
    });
    work.done().await?;
    Ok(true)
}
