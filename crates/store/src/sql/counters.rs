//! What rules did, as sums.

use super::{
    session::{Bulk, Kind, Session},
    value::{Row, values},
};
use crate::{Result, RuleCount};
use model::RuleName;
use std::collections::BTreeMap;

const ADD: Bulk = Bulk {
    table: "rule_counter",
    columns: &[
        ("rule", Kind::Text),
        ("candidates", Kind::Int),
        ("fired", Kind::Int),
        ("errors", Kind::Int),
        ("suppressed", Kind::Int),
        ("last_fired_at", Kind::Time),
    ],
    tail: "on conflict (rule) do update set candidates = rule_counter.candidates + excluded.candidates, \
        fired = rule_counter.fired + excluded.fired, errors = rule_counter.errors + excluded.errors, \
        suppressed = rule_counter.suppressed + excluded.suppressed, \
        last_fired_at = case when rule_counter.last_fired_at is null \
            or excluded.last_fired_at > rule_counter.last_fired_at \
            then excluded.last_fired_at else rule_counter.last_fired_at end",
};
const ALL: &str = "select * from rule_counter order by rule";

/// Adds sums, in the order of rules: so no two transactions wait for each other.
pub(crate) async fn add(session: &mut Session, counts: &[RuleCount]) -> Result<()> {
    let by_rule: BTreeMap<_, _> = counts.iter().map(|count| (&count.rule, count)).collect();
    let rows = by_rule.into_iter().map(|(rule, count)| {
        values![rule, count.candidates, count.fired, count.errors, count.suppressed, count.last_fired_at]
    });
    session.insert(&ADD, rows.collect()).await?;
    Ok(())
}

/// Adds suppressions.
pub(crate) async fn suppressed(session: &mut Session, by_rule: BTreeMap<RuleName, u64>) -> Result<()> {
    let counts = by_rule.into_iter();
    let counts: Vec<_> =
        counts.map(|(rule, suppressed)| RuleCount { suppressed, ..RuleCount::new(rule) }).collect();
    add(session, &counts).await
}

pub(crate) async fn all(session: &mut Session) -> Result<Vec<RuleCount>> {
    let read = |row: &Row| {
        Ok(RuleCount {
            rule: row.text("rule")?.into(),
            candidates: row.number("candidates")?,
            fired: row.number("fired")?,
            errors: row.number("errors")?,
            suppressed: row.number("suppressed")?,
            last_fired_at: row.time_opt("last_fired_at")?,
        })
    };
    session.all(ALL, Vec::new()).await?.iter().map(read).collect()
}
