//! What a rule set says to an event. Pure: the same event, rules and time always give the same answer.

mod due;
mod matrix;
mod then;

pub use due::COLLECT_DUE;

use crate::{
    backstop::Backstop,
    compile::RuleSet,
    explain::Trace,
    language::{ForEach, Mode, Rule, Values},
    path::Subject,
    predicate::Block,
    script::{Engine, EventSource, EventValue, Scope},
    source::{Place, RuleError},
    wish::{CancelWish, CollectWish, EmitWish, TaskWish},
};
use chrono::{DateTime, Utc};
use model::{
    Event, RuleName,
    event::{CHAIN_DEPTH_MAX, EventError, json_kind},
    verdict::{Verdict, VerdictKind},
};
use serde_json::Value;
use std::{
    borrow::Cow,
    cell::{OnceCell, RefCell},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

/// The most tasks, cancellations and messages that one rule may wish for one event.
pub const WISHES_MAX: usize = 1_000;
/// The most elements that the loops of a rule may go through for one event.
pub const ELEMENTS_MAX: usize = 1_000;
/// The most values that the loops of a rule look at for one event, those that their `if` leaves out included.
pub const LOOKED_AT_MAX: usize = 10_000;
/// The longest that one rule may take for one event. Only a backstop: the limits of its scripts come first.
pub const RULE_TIME_MAX: Duration = Duration::from_secs(2);
/// The most cells of a matrix.
pub const CELLS_MAX: usize = 256;
/// The largest body of an emitted message, as JSON text, in bytes.
pub const EMIT_BYTES_MAX: usize = 256 * 1024;

/// What a rule set says to one event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// Firings, shadows, errors, cut chains; plain non-matches are left out.
    pub verdicts: Vec<Verdict>,
    /// The tasks that are wished; those with `shadow` are only shown.
    pub tasks: Vec<TaskWish>,
    /// The cancellations that are wished; those with `shadow` are only shown.
    pub cancels: Vec<CancelWish>,
    /// The messages that are wished; those with `shadow` are only shown.
    pub emits: Vec<EmitWish>,
    /// The events that are to be collected for a later firing; those with `shadow`, too.
    pub collects: Vec<CollectWish>,
    /// The rules all of whose clauses were looked at: their places among [`RuleSet::rules`], in order.
    pub candidates: Vec<u32>,
}

impl Evaluation {
    fn add(&mut self, rule: &Rule, event: &Event, said: Result<Said, RuleError>) {
        let Some(verdict) = verdict_kind(rule, event, &said) else { return };
        self.verdicts.push(Verdict { rule: rule.name.clone(), verdict, clauses: Vec::new() });
        match said {
            Ok(Said::Fired(firing)) => {
                self.tasks.extend(firing.tasks);
                self.cancels.extend(firing.cancels);
                self.emits.extend(firing.emits);
            }
            Ok(Said::Collected(wish)) => self.collects.push(wish),
            _ => {}
        }
    }
}

/// The wishes of one rule.
#[derive(Debug, Default)]
pub(crate) struct Firing {
    pub(crate) tasks: Vec<TaskWish>,
    pub(crate) cancels: Vec<CancelWish>,
    pub(crate) emits: Vec<EmitWish>,
}

/// What one rule says.
#[derive(Debug)]
pub(crate) enum Said {
    NoMatch,
    TooDeep,
    Collected(CollectWish),
    Fired(Firing),
}

/// An event as rules see it. Its body is parsed, and what scripts read is made, when the first one asks.
#[derive(Debug)]
pub(crate) struct Input<'e> {
    pub(crate) event: &'e Event,
    body: OnceCell<Cow<'e, Value>>,
    topic: OnceCell<Value>,
    source: OnceCell<Value>,
    pub(crate) now: DateTime<Utc>,
    value: OnceCell<EventValue>,
    /// For an event that tells of others.
    collected: OnceCell<Scope<'static>>,
}

impl<'e> Input<'e> {
    pub(crate) fn new(event: &'e Event, body: &'e Value, now: DateTime<Utc>) -> Self {
        let input = Self::unparsed(event, now);
        Self { body: OnceCell::from(Cow::Borrowed(body)), ..input }
    }

    /// The body is known to be good.
    fn unparsed(event: &'e Event, now: DateTime<Utc>) -> Self {
        Self {
            event,
            body: OnceCell::new(),
            topic: OnceCell::new(),
            source: OnceCell::new(),
            now,
            value: OnceCell::new(),
            collected: OnceCell::new(),
        }
    }

    pub(crate) fn body(&self) -> &Value {
        self.body.get_or_init(|| Cow::Owned(self.event.body().unwrap_or_default()))
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject::Event {
            topic: self.topic(),
            source: self.source.get_or_init(|| self.event.source.as_str().into()),
            headers: &self.event.headers,
            body: self.body(),
        }
    }

    pub(crate) fn topic(&self) -> &Value {
        self.topic.get_or_init(|| self.event.topic.as_str().into())
    }

    /// The events that it tells of, if it is what a rule's `collect` came to.
    fn collected_events(&self) -> Option<&[Value]> {
        if self.event.topic.as_str() == COLLECT_DUE {
            due::collected_events(self.event, self.body())
        } else {
            None
        }
    }

    fn is_collected(&self) -> bool {
        self.collected_events().is_some()
    }

    fn scope(&self) -> Scope<'_> {
        match self.collected_events() {
            Some(events) => self.collected.get_or_init(|| due::scope(events, self.now)).clone(),
            None => Scope::later(self, self.now),
        }
    }
}

impl EventSource for Input<'_> {
    fn event_value(&self) -> &EventValue {
        self.value.get_or_init(|| EventValue::of(self.event, self.body()))
    }
}

/// The values of the loops' variables in one turn.
type Turn = Vec<(String, Value)>;

/// How long a rule works on its wishes.
struct Clock(RefCell<Backstop>);

impl Clock {
    fn start() -> Self {
        Self(RefCell::new(Backstop::start(RULE_TIME_MAX)))
    }

    fn check(&self, place: &Place) -> Result<(), RuleError> {
        if !self.0.borrow_mut().is_over() {
            return Ok(());
        }
        let seconds = RULE_TIME_MAX.as_secs();
        let message = format!(
            "the rule took longer than {seconds} s for one event (a backstop: another time it may pass)"
        );
        Err(RuleError { message, place: place.clone() })
    }
}

impl RuleSet {
    /// What the rules say to an event; `now` is the time that ages count from.
    ///
    /// # Errors
    /// What is wrong with its body, as [`Event::body`] says it.
    pub fn evaluate(&self, event: &Event, now: DateTime<Utc>) -> Result<Evaluation, EventError> {
        if due::is_due(event) {
            return self.evaluate_one_by_one(event, now);
        }
        let reading = self.index.read(event)?;
        let candidates = self.index.candidates(&reading);
        let input =
            reading.body().map_or_else(|| Input::unparsed(event, now), |body| Input::new(event, body, now));
        let mut out = Evaluation::default();
        for candidate in &candidates.rules {
            let rule = &self.rules[candidate.rule as usize];
            let said = guarded(rule, || {
                if !self.index.holds(*candidate, rule, &candidates, now) {
                    return Ok(Said::NoMatch);
                }
                self.judge_further(rule, &input, &mut Trace::off())
            });
            out.add(rule, event, said);
        }
        out.candidates = candidates.rules.iter().map(|candidate| candidate.rule).collect();
        Ok(out)
    }

    /// The rules whose clauses hold, by their places among [`Self::rules`]; scripts and loops are not asked. An
    /// event for one rule alone (something is due) has no clauses.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn matching(&self, event: &Event, now: DateTime<Utc>) -> Result<Vec<u32>, EventError> {
        let reading = self.index.read(event)?;
        let candidates = self.index.candidates(&reading);
        let matching = candidates.rules.iter().filter(|candidate| {
            self.index.holds(**candidate, &self.rules[candidate.rule as usize], &candidates, now)
        });
        Ok(matching.map(|candidate| candidate.rule).collect())
    }

    /// As [`Self::evaluate`], without the index: every rule that the event is for is judged. Slow, and meant for tests of
    /// the index and for measuring it.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_one_by_one(&self, event: &Event, now: DateTime<Utc>) -> Result<Evaluation, EventError> {
        let body = event.body()?;
        let input = Input::new(event, &body, now);
        let mut out = Evaluation::default();
        for (number, rule) in (0..).zip(&self.rules).filter(|(_, rule)| rule.mode != Mode::Off) {
            if self.hears(rule, &input) {
                out.candidates.push(number);
                out.add(rule, event, guarded(rule, || self.judge(rule, &input, &mut Trace::off())));
            }
        }
        Ok(out)
    }

    /// What one rule says to an event; nothing if there is no such rule, or it is switched off.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_rule(
        &self,
        name: &RuleName,
        event: &Event,
        now: DateTime<Utc>,
    ) -> Result<Option<Evaluation>, EventError> {
        let body = event.body()?;
        let Some(number) = self.by_name.get(name) else { return Ok(None) };
        let rule = &self.rules[*number];
        if rule.mode == Mode::Off {
            return Ok(None);
        }
        let input = Input::new(event, &body, now);
        let mut out = Evaluation::default();
        if self.hears(rule, &input) {
            out.candidates.extend(u32::try_from(*number));
            out.add(rule, event, guarded(rule, || self.judge(rule, &input, &mut Trace::off())));
        }
        Ok(Some(out))
    }

    /// What one rule says; its topic is known to match.
    pub(crate) fn judge(&self, rule: &Rule, input: &Input<'_>, trace: &mut Trace) -> Result<Said, RuleError> {
        if !input.is_collected() && !clauses_hold(rule, input, trace) {
            trace.not_reached(rule);
            return Ok(Said::NoMatch);
        }
        self.judge_further(rule, input, trace)
    }

    /// What a rule says whose clauses hold.
    fn judge_further(&self, rule: &Rule, input: &Input<'_>, trace: &mut Trace) -> Result<Said, RuleError> {
        if let Some(condition) = &rule.condition
            && !input.is_collected()
        {
            let held = condition.holds(&self.engine, &input.scope());
            trace.script("if", condition.source(), held.as_ref());
            if !held? {
                trace.loops_not_reached(rule);
                return Ok(Said::NoMatch);
            }
        }
        if let Some(collect) = &rule.collect
            && !input.is_collected()
        {
            trace.loops_not_reached(rule);
            if input.event.depth >= CHAIN_DEPTH_MAX {
                return Ok(Said::TooDeep);
            }
            return due::collected(self, rule, collect, input).map(Said::Collected);
        }
        let clock = Clock::start();
        let elements = self.elements(rule, input, &clock);
        trace.loops(rule, elements.as_ref().map(Vec::len));
        let elements = elements?;
        if elements.is_empty() {
            return Ok(Said::NoMatch);
        }
        if input.event.depth >= CHAIN_DEPTH_MAX {
            return Ok(Said::TooDeep);
        }
        then::wishes(self, rule, input, &elements, &clock).map(Said::Fired)
    }

    /// The values of the loops' variables, one list for each turn; one empty list without loops.
    fn elements(&self, rule: &Rule, input: &Input<'_>, clock: &Clock) -> Result<Vec<Turn>, RuleError> {
        let mut turns: Vec<Turn> = vec![Vec::new()];
        let mut looked_at = 0;
        for each in &rule.for_each {
            let mut next = Vec::new();
            for turn in turns {
                let values = self.loop_values(each, &turn, input, &mut looked_at)?;
                for value in values {
                    clock.check(&rule.place)?;
                    self.turn(each, &turn, value, input, &mut next)?;
                }
            }
            turns = next;
        }
        Ok(turns)
    }

    fn loop_values(
        &self,
        each: &ForEach,
        turn: &Turn,
        input: &Input<'_>,
        looked_at: &mut usize,
    ) -> Result<Vec<Value>, RuleError> {
        let values = with_scope(&input.scope(), turn, |scope| values(&each.values, &self.engine, scope))?;
        *looked_at += values.len();
        if *looked_at > LOOKED_AT_MAX {
            let message = format!("the loops look at more than {LOOKED_AT_MAX} values");
            return Err(mistake_of(&each.values, message));
        }
        Ok(values)
    }

    /// Adds one more turn, unless the loop's `if` does not hold of it.
    fn turn(
        &self,
        each: &ForEach,
        turn: &Turn,
        value: Value,
        input: &Input<'_>,
        into: &mut Vec<Turn>,
    ) -> Result<(), RuleError> {
        let mut turn = turn.clone();
        turn.push((each.variable.clone(), value));
        if let Some(condition) = &each.condition
            && !with_scope(&input.scope(), &turn, |scope| condition.holds(&self.engine, scope))?
        {
            return Ok(());
        }
        if into.len() == ELEMENTS_MAX {
            let message = format!("the loops go through more than {ELEMENTS_MAX} elements");
            return Err(mistake_of(&each.values, message));
        }
        into.push(turn);
        Ok(())
    }
}

/// Calls a function with a scope that also has these variables.
fn with_scope<T>(scope: &Scope, vars: &[(String, Value)], call: impl FnOnce(&Scope) -> T) -> T {
    if vars.is_empty() {
        return call(scope);
    }
    let vars: Vec<(&str, Value)> = vars.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    call(&scope.with(&vars))
}

/// The values of a list, or of an expression that must give one.
fn values(values: &Values, engine: &Engine, scope: &Scope) -> Result<Vec<Value>, RuleError> {
    let given = match values {
        Values::List(items, _) => return items.iter().map(|item| item.value(engine, scope)).collect(),
        Values::Script(script) => script.value(engine, scope)?,
        Values::Template(template) => template.render(engine, scope)?,
    };
    match given {
        Value::Array(items) => Ok(items),
        other => {
            let kind = json_kind(&other);
            Err(mistake_of(values, format!("the expression must give a list, it gives {kind}")))
        }
    }
}

fn mistake_of(values: &Values, message: String) -> RuleError {
    match values {
        Values::Script(script) => script.mistake(message),
        Values::Template(template) => template.mistake(message),
        Values::List(_, place) => RuleError { message, place: place.clone() },
    }
}

/// `when`, `unless` and `any`. Without a trace the first clause that decides is the last one judged.
fn clauses_hold(rule: &Rule, input: &Input<'_>, trace: &mut Trace) -> bool {
    let mut held = block_holds(BlockName::When, &rule.when, input, trace);
    if !held && !trace.is_on() {
        return false;
    }
    for (at, block) in rule.unless.iter().enumerate() {
        let at = (rule.unless.len() > 1).then_some(at);
        if block_holds(BlockName::Unless(at), block, input, trace) {
            trace.note_block("the whole block holds, so the rule does not");
            held = false;
            if !trace.is_on() {
                return false;
            }
        }
    }
    let mut any = rule.any.is_empty();
    for (at, block) in rule.any.iter().enumerate() {
        any |= block_holds(BlockName::Any(at), block, input, trace);
        if any && !trace.is_on() {
            break;
        }
    }
    held && any
}

/// A block of clauses; its name is only spelt out for explanations.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BlockName {
    When,
    /// Its place, where there are several.
    Unless(Option<usize>),
    Any(usize),
}

impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::When => f.write_str("when"),
            Self::Unless(None) => f.write_str("unless"),
            Self::Unless(Some(at)) => write!(f, "unless[{at}]"),
            Self::Any(at) => write!(f, "any[{at}]"),
        }
    }
}

fn block_holds(name: BlockName, block: &Block, input: &Input<'_>, trace: &mut Trace) -> bool {
    let mut held = true;
    for clause in block {
        let judged = clause.judge(input.subject(), input.now);
        held &= judged.held();
        if trace.is_on() {
            trace.clause(name, clause, &judged);
        } else if !held {
            return false;
        }
    }
    held
}

/// The verdict to record; nothing for a plain non-match.
pub(crate) fn verdict_kind(
    rule: &Rule,
    event: &Event,
    said: &Result<Said, RuleError>,
) -> Option<VerdictKind> {
    Some(match said {
        Ok(Said::NoMatch) => return None,
        Ok(Said::TooDeep) => VerdictKind::TooDeep { depth: event.depth },
        Ok(Said::Collected(wish)) => VerdictKind::Collected { key: wish.key.clone() },
        Ok(Said::Fired(firing)) => {
            let tasks = u32::try_from(firing.tasks.len()).unwrap_or(u32::MAX);
            match rule.mode {
                Mode::Shadow => VerdictKind::Shadow { tasks },
                Mode::Active | Mode::Off => VerdictKind::Fired { tasks },
            }
        }
        Err(error) => error.clone().into(),
    })
}

/// A panic while a rule is judged costs that rule only.
pub(crate) fn guarded<T>(rule: &Rule, judge: impl FnOnce() -> Result<T, RuleError>) -> Result<T, RuleError> {
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let message = format!("internal error while judging the rule: {what}");
        Err(RuleError { message, place: rule.place.clone() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, RuleFiles, compile};

    #[test]
    fn a_panic_is_an_error_of_its_rule() {
        let files = RuleFiles::of([
            ("tasks.yaml", "tasks: {t: {git: \"https://git.example.org/t\"}}"),
            ("rules.yaml", "rules:\n  - name: r\n    on: a\n    then: [{task: t}]\n"),
        ]);
        let rules = compile(&files, &Options::default()).unwrap().rule_set;
        let rule = &rules.rules()[0];
        let error = guarded::<()>(rule, || panic!("index {} is out of bounds", 5)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rules.yaml:2:11: internal error while judging the rule: index 5 is out of bounds"
        );
        assert_eq!(guarded(rule, || Ok(1)), Ok(1));
    }
    #[test]
    fn a_function_that_panics_costs_its_rule_only() {
        let files = RuleFiles::of([
            ("tasks.yaml", "tasks: {t: {git: \"https://git.example.org/t\"}}"),
            (
                "rules.yaml",
                "rules:\n- {name: bad, on: a, if: 'nvr(\"x\") == 1', then: [{task: t}]}\n- {name: good, on: a, then: [{task: t}]}\n",
            ),
        ]);
        let mut rules = compile(&files, &Options::default()).unwrap().rule_set;
        rules.engine.rhai_mut().register_fn("nvr", |_: &str| -> i64 { panic!("broken") });
        let message = r#"{"topic": "a", "body": {}}"#;
        let message: model::event::RecordedMessage = serde_json::from_str(message).unwrap();
        let event = message.into_event(&"bus".into(), DateTime::UNIX_EPOCH);
        let evaluation = rules.evaluate(&event, DateTime::UNIX_EPOCH).unwrap();
        let verdicts: Vec<_> = evaluation.verdicts.iter().map(|verdict| verdict.verdict.as_str()).collect();
        assert_eq!((verdicts, evaluation.tasks.len()), (vec!["error", "fired"], 1));
    }
}
