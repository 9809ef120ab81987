//! Who may bring which topics in. Topics under `taskbot.` tell what this program did, and rules trust them:
//! anybody who could send one could fake a result.

use model::{Event, SourceName, Topic, topic::OWN_PREFIX};
use std::collections::BTreeSet;

/// Own topics that only this installation's timers and windows make: no other installation's mean anything here.
const OURS_ALONE: [&str; 2] = ["schedule", "collect"];

/// Whether an event may come in from outside. What this installation made itself never comes this way: it enters
/// the inbox in the transaction that made it, and copies that a bus brings back are dropped before.
///
/// # Errors
/// Why not, and what would be right.
pub(crate) fn check(event: &Event, foreign_sources: &BTreeSet<SourceName>) -> Result<(), String> {
    let Event { topic, source, .. } = event;
    if !topic.is_own() {
        return Ok(());
    }
    if is_ours_alone(topic) {
        return Err(format!(
            "`{topic}` is made by this server's own timers and windows alone; nobody can send it"
        ));
    }
    if foreign_sources.contains(source) {
        return Ok(());
    }
    Err(format!(
        "`{topic}` tells what a taskbot did; topics under `{OWN_PREFIX}.` are taken in only from a source that says \
         `foreign: true` in the configuration (another installation's bus), and `{source}` does not. Send what \
         happened under a topic of its own; rules on own topics are tried by `rule test`"
    ))
}

fn is_ours_alone(topic: &Topic) -> bool {
    topic.tokens().nth(1).is_some_and(|token| OURS_ALONE.contains(&token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::event::OWN_SOURCE;

    #[test]
    fn who_may_bring_what() {
        let foreign = BTreeSet::from([SourceName::from("partner")]);
        let check = |source: &str, topic: &str, expect: Option<&str>| {
            let event = Event {
                source: source.into(),
                domain: source.into(),
                id: "1".into(),
                topic: topic.into(),
                time: None,
                received_at: chrono::DateTime::UNIX_EPOCH,
                headers: serde_json::Map::new(),
                payload: (*b"{}").into(),
                depth: 0,
                cause: None,
                traceparent: None,
            };
            let got = super::check(&event, &foreign).err();
            let as_expected = match expect {
                None => got.is_none(),
                Some(part) => got.as_deref().is_some_and(|got| got.contains(part)),
            };
            assert!(as_expected, "{source} {topic}: {got:?}");
        };
        check("api", "org.example.build", None);
        check("api", "taskbots.build", None);
        check("api", "taskbot.task.finished", Some("`api` does not"));
        check("bus", "taskbot.artifact.published", Some("foreign: true"));
        check(OWN_SOURCE, "taskbot.result.new", Some("`taskbot` does not"));
        check("partner", "taskbot.task.finished", None);
        check("partner", "taskbot.schedule.due", Some("nobody can send it"));
        check("partner", "taskbot.collect.due", Some("nobody can send it"));
        check("api", "taskbot", Some("`taskbot` tells"));
    }
}
