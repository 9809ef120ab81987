//! From files to a rule set: reads all of them, notes every mistake, and puts together what is left.

mod rules;
mod tests;
mod then;
mod values;

pub(crate) use then::{check_git, check_topic};

use crate::{
    check,
    facts::Facts,
    index::Index,
    language::{Mode, Rule},
    load::{FACTS_FOLDER, FileKind, Options, RuleFiles},
    registry::{self, REGISTRY_FILE, Registry},
    rule_test::TestCase,
    schedule::Schedule,
    script::Engine,
    source::SourceFile,
};
use model::{
    Revision, RuleName, Topic,
    diagnostic::Report,
    yaml::{Node, Reader},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// The most rules of one rule set.
pub const RULES_MAX: usize = 20_000;
/// The most patterns in `on`.
pub const ON_MAX: usize = 100;
/// The most blocks in `any` or `unless`.
pub const BLOCKS_MAX: usize = 100;
/// The most loops of a rule, and axes of a matrix.
pub const LOOPS_MAX: usize = 8;
/// The most names in `let`.
pub const LETS_MAX: usize = 32;
/// The longest time over which wishes are joined or events are collected: 366 days.
pub const WINDOW_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The largest number of tasks in `limits`.
pub const LIMIT_MAX: i64 = 1_000_000;
/// The most entries in `then`.
pub const ENTRIES_MAX: usize = 100;

/// A rule set, and what is worth a look in its files.
#[derive(Debug)]
pub struct Compiled {
    /// The rule set.
    pub rule_set: RuleSet,
    /// Warnings.
    pub report: Report,
}

/// All rules, registered tasks and facts of one revision.
#[derive(Debug)]
pub struct RuleSet {
    pub(crate) revision: Revision,
    pub(crate) rules: Vec<Rule>,
    pub(crate) by_name: HashMap<RuleName, usize>,
    pub(crate) registry: Registry,
    pub(crate) engine: Engine,
    pub(crate) options: Options,
    pub(crate) tests: Vec<TestCase>,
    pub(crate) index: Index,
}

impl RuleSet {
    /// The content address.
    #[must_use]
    pub const fn revision(&self) -> &Revision {
        &self.revision
    }

    /// All rules, in the order of files and places.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A rule by its name.
    #[must_use]
    pub fn rule(&self, name: &RuleName) -> Option<&Rule> {
        self.by_name.get(name).map(|at| &self.rules[*at])
    }

    /// The registered tasks.
    #[must_use]
    pub const fn tasks(&self) -> &Registry {
        &self.registry
    }

    /// The tests that came with the rules.
    #[must_use]
    pub fn tests(&self) -> &[TestCase] {
        &self.tests
    }

    /// The times of all rules on a schedule that act or are in shadow mode.
    #[must_use]
    pub fn schedules(&self) -> Vec<Schedule> {
        let scheduled = |rule: &Rule| {
            let entry = rule.schedule.as_ref().filter(|_| rule.mode != Mode::Off)?;
            let (times, missed) = (entry.times.clone(), entry.missed);
            Some(Schedule { rule: rule.name.clone(), times, missed })
        };
        self.rules.iter().filter_map(scheduled).collect()
    }

    /// The rules that listen to the topic, in their order.
    pub(crate) fn listening(&self, topic: &Topic) -> impl Iterator<Item = &Rule> {
        self.index.listening(topic).into_iter().map(|at| &self.rules[at as usize])
    }

    /// The rules that are looked at for each event of their topics, since none of their clauses can be indexed.
    pub fn unindexed(&self) -> impl Iterator<Item = &Rule> {
        self.index.unindexed().iter().map(|at| &self.rules[*at as usize])
    }
}

/// Makes a rule set of files.
///
/// # Errors
/// The report, with every mistake that was found in any of the files, and the warnings.
pub fn compile(files: &RuleFiles, options: &Options) -> Result<Compiled, Report> {
    let mut report = Report::default();
    let engine = Engine::new(Arc::new(read_facts(files, &mut report)));
    let registry = read_registry(files, options, &mut report);
    let (mut rules, documents) = read_rules(files, &engine, &registry, options, &mut report);
    for rule in &mut rules {
        if let Some(mode) = files.modes.get(&rule.name) {
            rule.mode = *mode;
        }
    }
    let by_name: HashMap<_, _> = rules.iter().enumerate().map(|(at, rule)| (rule.name.clone(), at)).collect();
    // After a mistake in a rule, "no such rule" in a test would only be noise.
    let failed = report.has_errors() || documents.iter().any(|document| document.reader.failed());
    let names = (!failed).then_some(&by_name);
    let tests: Vec<_> = documents
        .into_iter()
        .flat_map(|document| {
            let tests = tests::read(&document, files, names);
            report.merge(document.reader.into_report());
            tests
        })
        .collect();
    if !report.has_errors() {
        check::check(&rules, &mut report);
    }
    report.sort();
    if report.has_errors() {
        return Err(report);
    }
    let index = Index::of(&rules);
    let rule_set = RuleSet {
        revision: files.revision(),
        rules,
        by_name,
        registry,
        engine,
        options: options.clone(),
        tests,
        index,
    };
    Ok(Compiled { rule_set, report })
}

fn read_facts(files: &RuleFiles, report: &mut Report) -> Facts {
    let mut facts = Facts::default();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (path, text) in files.files.iter().filter(|(path, _)| FileKind::of(path) == Some(FileKind::Facts)) {
        let inner = path.strip_prefix(FACTS_FOLDER).unwrap_or(path).trim_start_matches('/');
        let table = inner.rsplit_once('.').map_or(inner, |(stem, _)| stem);
        if let Some(other) = seen.insert(table, path) {
            report.sources.insert(path.clone(), Arc::clone(text));
            report.push_file_error(path, format!("the table `{table}` is also in {other}"));
            continue;
        }
        facts.add_table(table, path, text, report);
    }
    facts
}

fn read_registry(files: &RuleFiles, options: &Options, report: &mut Report) -> Registry {
    let Some(text) = files.files.get(REGISTRY_FILE) else { return Registry::default() };
    let reader = Reader::new(REGISTRY_FILE, text);
    let file = Arc::new(SourceFile::new(REGISTRY_FILE, text));
    let registry = registry::read(&reader, &file, files.base.as_deref(), options);
    report.merge(reader.into_report());
    registry
}

/// A file with rules or tests, while it is read.
pub(crate) struct Document {
    pub(crate) reader: Reader,
    pub(crate) file: Arc<SourceFile>,
    /// The node under `tests`.
    pub(crate) tests: Option<Node>,
}

fn read_rules(
    files: &RuleFiles,
    engine: &Engine,
    registry: &Registry,
    options: &Options,
    report: &mut Report,
) -> (Vec<Rule>, Vec<Document>) {
    let mut all: Vec<Rule> = Vec::new();
    let mut documents = Vec::new();
    let mut places = HashMap::new();
    for (path, text) in &files.files {
        let kind = match FileKind::of(path) {
            Some(kind @ (FileKind::Rules | FileKind::Tests)) => kind,
            _ => continue,
        };
        let reader = Reader::new(path, text);
        let file = Arc::new(SourceFile::new(path, text));
        let mut document = Document { reader, file, tests: None };
        if let Some(root) = document.reader.parse() {
            let (rules, tests) = rules::read(&document, &root, kind, engine, registry, options);
            document.tests = tests;
            for rule in rules {
                note_duplicate(&document, &rule, &mut places);
                all.push(rule);
            }
        }
        documents.push(document);
    }
    if all.len() > RULES_MAX {
        report.push_file_error("", format!("there are {} rules, at most {RULES_MAX} are taken", all.len()));
    }
    (all, documents)
}

fn note_duplicate(document: &Document, rule: &Rule, places: &mut HashMap<RuleName, String>) {
    if let Some(first) = places.get(&rule.name) {
        let message = format!("there are two rules named `{}`; the other one is at {first}", rule.name);
        document.reader.error_help(&rule.span, message, "a rule's name must be unique over all files");
    } else {
        places.insert(rule.name.clone(), rule.place.to_string());
    }
}
