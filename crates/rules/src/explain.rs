//! Why a rule fired or not: every clause marked, by the same code that decides.

use crate::{
    compile::RuleSet,
    evaluate::{BlockName, Input, Said, guarded, verdict_kind},
    language::{Mode, Rule},
    predicate::{Block, Clause, Judged},
    source::RuleError,
};
use chrono::{DateTime, Utc};
use model::{
    Event, RuleName,
    event::EventError,
    verdict::{ClauseState, ClauseVerdict, Verdict, VerdictKind},
};
use serde_json::Value;

/// The longest that a found value or a script is shown, in characters.
pub const SHOWN_CHARS_MAX: usize = 200;

/// What is written down while a rule is judged; nothing where only the answer is wanted.
#[derive(Debug)]
pub(crate) struct Trace(Option<Vec<ClauseVerdict>>);

impl Trace {
    pub(crate) const fn off() -> Self {
        Self(None)
    }

    const fn on() -> Self {
        Self(Some(Vec::new()))
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn push(&mut self, make: impl FnOnce() -> ClauseVerdict) {
        if let Some(clauses) = &mut self.0 {
            clauses.push(make());
        }
    }

    pub(crate) fn clause(&mut self, block: BlockName, clause: &Clause, judged: &Judged<'_>) {
        self.push(|| ClauseVerdict {
            block: block.to_string(),
            path: clause.path.to_string(),
            wanted: clause.predicate.to_string(),
            found: judged.found.map(shortened),
            state: judged.state,
            note: judged.note(),
        });
    }

    /// Adds a note to the last clause.
    pub(crate) fn note_block(&mut self, note: &str) {
        if let Some(last) = self.0.as_mut().and_then(|clauses| clauses.last_mut()) {
            last.note = Some(note.to_owned());
        }
    }

    pub(crate) fn script(&mut self, block: &str, source: &str, held: Result<&bool, &RuleError>) {
        self.push(|| ClauseVerdict {
            block: block.to_owned(),
            path: String::new(),
            wanted: script_words(source),
            found: None,
            state: match held {
                Ok(true) => ClauseState::Held,
                Ok(false) => ClauseState::Failed,
                Err(_) => ClauseState::Error,
            },
            note: held.err().map(ToString::to_string),
        });
    }

    /// The loops: how many elements they found.
    pub(crate) fn loops(&mut self, rule: &Rule, elements: Result<usize, &RuleError>) {
        if rule.for_each.is_empty() {
            return;
        }
        self.push(|| ClauseVerdict {
            block: "for_each".to_owned(),
            path: String::new(),
            wanted: loop_words(rule),
            found: elements.as_ref().ok().map(|count| Value::from(*count)),
            state: match elements {
                Ok(0) => ClauseState::Failed,
                Ok(_) => ClauseState::Held,
                Err(_) => ClauseState::Error,
            },
            note: elements.err().map(ToString::to_string),
        });
    }

    /// The script and the loops, which no event reaches whose clauses do not hold.
    pub(crate) fn not_reached(&mut self, rule: &Rule) {
        if let Some(condition) = &rule.condition {
            self.push(|| not_reached("if", "", script_words(condition.source())));
        }
        self.loops_not_reached(rule);
    }

    pub(crate) fn loops_not_reached(&mut self, rule: &Rule) {
        if !rule.for_each.is_empty() {
            self.push(|| not_reached("for_each", "", loop_words(rule)));
        }
    }

    /// All blocks of clauses of a rule that does not listen to the event's topic.
    fn clauses_not_reached(&mut self, rule: &Rule) {
        let unless = rule
            .unless
            .iter()
            .enumerate()
            .map(|(at, block)| (BlockName::Unless((rule.unless.len() > 1).then_some(at)), block));
        let any = rule.any.iter().enumerate().map(|(at, block)| (BlockName::Any(at), block));
        for (name, block) in std::iter::once((BlockName::When, &rule.when)).chain(unless).chain(any) {
            for clause in block {
                self.push(|| {
                    not_reached(&name.to_string(), clause.path.as_str(), clause.predicate.to_string())
                });
            }
        }
        self.not_reached(rule);
    }
}

fn not_reached(block: &str, path: &str, wanted: String) -> ClauseVerdict {
    ClauseVerdict {
        block: block.to_owned(),
        path: path.to_owned(),
        wanted,
        found: None,
        state: ClauseState::NotReached,
        note: None,
    }
}

fn script_words(source: &str) -> String {
    format!("holds: {}", one_line(source))
}

fn loop_words(rule: &Rule) -> String {
    let names: Vec<&str> = rule.for_each.iter().map(|each| each.variable.as_str()).collect();
    format!("gives at least one element ({})", names.join(", "))
}

/// A text in one line, shortened.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    shortened_text(&line)
}

fn shortened_text(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A value that fits a line: long texts are cut, large lists and objects become the beginning of their text.
#[must_use]
pub fn shortened(value: &Value) -> Value {
    match value {
        Value::String(text) => shortened_text(text).into(),
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            if text.chars().nth(SHOWN_CHARS_MAX).is_none() {
                value.clone()
            } else {
                shortened_text(&text).into()
            }
        }
        _ => value.clone(),
    }
}

impl RuleSet {
    /// What every rule says to an event, with every clause marked.
    #[must_use]
    pub fn explain(&self, event: &Event, body: &Value, now: DateTime<Utc>) -> Vec<Verdict> {
        let input = Input::new(event, body, now);
        self.rules().iter().map(|rule| self.explained(rule, &input)).collect()
    }

    /// What one rule says to an event, with every clause marked; nothing if there is no such rule.
    #[must_use]
    pub fn explain_rule(
        &self,
        rule: &RuleName,
        event: &Event,
        body: &Value,
        now: DateTime<Utc>,
    ) -> Option<Verdict> {
        let input = Input::new(event, body, now);
        self.rule(rule).map(|rule| self.explained(rule, &input))
    }

    /// Rules that do not fire, but miss by one clause only, with every clause marked: at most `max`, those that
    /// listen to the event's topic first. To miss by the topic alone counts for rules with clauses that hold.
    ///
    /// # Errors
    /// What is wrong with its body, as [`Event::body`] says it.
    pub fn near_misses(
        &self,
        event: &Event,
        now: DateTime<Utc>,
        max: usize,
    ) -> Result<Vec<Verdict>, EventError> {
        let body = event.body()?;
        let input = Input::new(event, &body, now);
        let (near, elsewhere): (Vec<&Rule>, Vec<&Rule>) = self
            .rules()
            .iter()
            .filter(|rule| rule.mode != Mode::Off)
            .partition(|rule| self.hears(rule, &input));
        let near = near.into_iter().filter(|rule| match misses(rule, &input) {
            0 => matches!(guarded(rule, || self.judge(rule, &input, &mut Trace::off())), Ok(Said::NoMatch)),
            misses => misses == 1,
        });
        let has_clauses = |rule: &&Rule| !(rule.when.is_empty() && rule.any.is_empty());
        let elsewhere = elsewhere.into_iter().filter(has_clauses).filter(|rule| misses(rule, &input) == 0);
        Ok(near.chain(elsewhere).take(max).map(|rule| self.explained(rule, &input)).collect())
    }

    fn explained(&self, rule: &Rule, input: &Input<'_>) -> Verdict {
        if rule.mode != Mode::Off {
            return self.explained_as_active(rule, input);
        }
        let mut trace = Trace::on();
        trace.push(|| ClauseVerdict {
            block: "mode".to_owned(),
            path: String::new(),
            wanted: "is not off".to_owned(),
            found: Some("off".into()),
            state: ClauseState::Failed,
            note: None,
        });
        trace.push(|| not_reached("on", "topic", on_words(rule)));
        trace.clauses_not_reached(rule);
        let clauses = trace.0.unwrap_or_default();
        Verdict { rule: rule.name.clone(), verdict: VerdictKind::NoMatch, clauses }
    }

    /// What a rule says, also if it is switched off.
    pub(crate) fn explained_as_active(&self, rule: &Rule, input: &Input<'_>) -> Verdict {
        let mut trace = Trace::on();
        let listens = self.hears(rule, input);
        let own = input.event.topic.is_own() && !listens;
        let note = "our own topics are matched only by patterns that begin with `taskbot.`";
        trace.push(|| ClauseVerdict {
            block: "on".to_owned(),
            path: "topic".to_owned(),
            wanted: on_words(rule),
            found: Some(shortened(input.topic())),
            state: if listens { ClauseState::Held } else { ClauseState::Failed },
            note: own.then(|| note.to_owned()),
        });
        let kind = if listens {
            let said = guarded(rule, || self.judge(rule, input, &mut trace));
            verdict_kind(rule, input.event, &said)
        } else {
            trace.clauses_not_reached(rule);
            None
        };
        let clauses = trace.0.unwrap_or_default();
        Verdict { rule: rule.name.clone(), verdict: kind.unwrap_or(VerdictKind::NoMatch), clauses }
    }
}

/// How many clauses of a rule do not hold: of `any` those of the block that misses least, of a block of `unless`
/// that holds one. Not counted beyond 2.
fn misses(rule: &Rule, input: &Input<'_>) -> usize {
    let failing = |block: &Block| {
        block.iter().filter(|clause| !clause.judge(input.subject(), input.now).held()).take(2).count()
    };
    let mut misses = failing(&rule.when);
    for block in &rule.unless {
        if misses < 2 && failing(block) == 0 {
            misses += 1;
        }
    }
    if misses < 2 {
        misses += rule.any.iter().map(failing).min().unwrap_or_default();
    }
    misses
}

fn on_words(rule: &Rule) -> String {
    if let Some(entry) = &rule.schedule {
        return format!("is one of its times: {} in {}", entry.times.source(), entry.times.timezone());
    }
    let patterns: Vec<&str> = rule.on.iter().map(model::TopicPattern::as_str).collect();
    match patterns.as_slice() {
        [one] => format!("matches {one}"),
        several => format!("matches any of [{}]", several.join(", ")),
    }
}
