//! Limits: how many tasks a rule may make within an hour and a day. They are exact for any number of servers, since
//! who counts holds the rule's lock until what it made is counted.

use super::{
    applying::Judged,
    holds::Holds,
    session::{Bulk, Dialect, Kind, Session, Sql},
    value::{Value, values},
};
use crate::{NewTask, Result};
use model::{
    RuleName, TaskKey,
    limits::{Limits, OnExcess},
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

const MINUTE_SECONDS: i64 = 60;
/// Minutes are counted as wholes: one more than an hour has, so that no hour is ever over its limit.
const HOUR_MINUTES: i64 = 60;
const DAY_MINUTES: i64 = 24 * HOUR_MINUTES;

const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended($1, 7262))";
const MADE: Sql = Sql {
    sqlite: "select rule, sum(case when minute >= $2 then made else 0 end) as hour, sum(made) as day \
        from rule_rate where rule in (select value from json_each($1)) and minute >= $3 group by rule",
    postgres: "select rule, sum(case when minute >= $2 then made else 0 end)::bigint as hour, \
        sum(made)::bigint as day from rule_rate where rule = any($1) and minute >= $3 group by rule",
};
const COUNT: Bulk = Bulk {
    table: "rule_rate",
    columns: &[("rule", Kind::Text), ("minute", Kind::Int), ("made", Kind::Int)],
    tail: "on conflict (rule, minute) do update set made = rule_rate.made + excluded.made",
};
const THERE: Sql = Sql {
    sqlite: "select key from task where key in (select unhex(value) from json_each($1))",
    postgres: "select key from task where key = any($1)",
};
const FORGET: &str = "delete from rule_rate where minute < $1";

/// What becomes of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It is made; or it is there already, and its key says so.
    Made,
    /// It is over this limit.
    Over(OnExcess, String),
}

/// What the limited rules of a transaction made before and make now.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    limits: BTreeMap<RuleName, (Limits, u64, u64)>,
    /// Keys of tasks that were made when their event was judged before.
    there: HashSet<TaskKey>,
    made: HashMap<RuleName, u64>,
}

fn minute(session: &Session) -> i64 {
    session.now.timestamp().div_euclid(MINUTE_SECONDS)
}

impl Rates {
    /// Locks the limited rules that wish tasks, and reads what they made.
    pub(crate) async fn read(session: &mut Session, judged: &[Judged<'_>], holds: &Holds) -> Result<Self> {
        let mut rates = Self::default();
        let mut again = Vec::new();
        for one in judged {
            for task in &one.judgement.tasks {
                let Some(rule) = task.origin.rule() else { continue };
                let Some(limits) = one.judgement.limits.get(rule) else { continue };
                if holds.why(rule).is_none() {
                    rates.limits.insert(rule.clone(), (*limits, 0, 0));
                    if one.again {
                        again.push(task.key.0.to_vec());
                    }
                }
            }
        }
        if rates.limits.is_empty() {
            return Ok(rates);
        }
        let rules: BTreeSet<_> = rates.limits.keys().cloned().collect();
        if session.dialect() == Dialect::Postgres {
            for rule in &rules {
                session.all(LOCK, values![rule]).await?;
            }
        }
        let now = minute(session);
        let mut values = vec![Value::texts(rules.iter().map(RuleName::as_str))];
        values.extend(values![now - HOUR_MINUTES, now - DAY_MINUTES]);
        for row in session.all(MADE, values).await? {
            if let Some((_, hour, day)) = rates.limits.get_mut(&RuleName::from(row.text("rule")?)) {
                (*hour, *day) = (row.number("hour")?, row.number("day")?);
            }
        }
        if !again.is_empty() {
            for row in session.all(THERE, vec![Value::Hashes(again)]).await? {
                rates.there.insert(TaskKey(row.hash("key")?));
            }
        }
        Ok(rates)
    }

    /// What becomes of a wish; one that is made is counted.
    pub(crate) fn admit(&mut self, task: &NewTask) -> Admitted {
        let Some(rule) = task.origin.rule() else { return Admitted::Made };
        let Some((limits, hour, day)) = self.limits.get_mut(rule) else { return Admitted::Made };
        if self.there.contains(&task.key) {
            return Admitted::Made;
        }
        let over = |limit: Option<u32>, made: u64| limit.filter(|limit| made >= u64::from(*limit));
        if let Some(limit) = over(limits.per_hour, *hour) {
            return Admitted::Over(limits.on_excess, format!("{limit} per hour"));
        }
        if let Some(limit) = over(limits.per_day, *day) {
            return Admitted::Over(limits.on_excess, format!("{limit} per day"));
        }
        *hour += 1;
        *day += 1;
        *self.made.entry(rule.clone()).or_default() += 1;
        Admitted::Made
    }

    /// A wish that was admitted was not made, since a task with its key is there.
    pub(crate) fn not_made(&mut self, rule: &RuleName, key: &TaskKey) {
        if !self.there.contains(key)
            && let Some(made) = self.made.get_mut(rule)
        {
            *made = made.saturating_sub(1);
        }
    }

    /// Writes what was made.
    pub(crate) async fn write(self, session: &mut Session) -> Result<()> {
        let minute = minute(session);
        let mut made: Vec<_> = self.made.into_iter().filter(|(_, made)| *made > 0).collect();
        made.sort();
        let rows = made.iter().map(|(rule, made)| values![rule, minute, *made]).collect();
        session.insert(&COUNT, rows).await?;
        Ok(())
    }
}

/// Removes what no limit looks at any more.
pub(crate) async fn forget(session: &mut Session) -> Result<u64> {
    let before = minute(session) - DAY_MINUTES - 1;
    session.run(FORGET, values![before]).await
}
