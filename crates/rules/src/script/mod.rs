//! Scripts: Rhai expressions over an event, without any way out of them.
//!
//! A script is one expression: no statements, no loops, no modules, no files, no `eval`. It sees the variable
//! `event` (`topic`, `source`, `headers`, `body`) and those that its place in the rule gives it, and may call
//! what [`FUNCTIONS`] lists and nothing else. Words that Rhai reserves are plain field names after a dot. What
//! it may take is in [`limits`]; a script that wants more ends with an error of its own.

mod check;
mod conjuncts;
mod error;
mod functions;
mod library;
pub mod limits;
mod patterns;
mod run;
mod scope;
mod tokens;
mod value;
mod views;

#[cfg(test)]
mod tests;

pub(crate) use conjuncts::{event_paths, proposals};
pub(crate) use error::span_at;
pub use error::{ErrorKind, ScriptError};
pub use functions::{FUNCTIONS, Function};
pub use scope::Scope;
pub(crate) use scope::{EventSource, EventValue};
pub(crate) use tokens::reset as reset_tokens;

use crate::facts::Facts;
use limits::{
    CALL_LEVELS_MAX, CLOSURE_DEPTH_MAX, CLOSURES_MAX, EXPRESSION_DEPTH_MAX, LIST_ITEMS_MAX, MAP_ENTRIES_MAX,
    OPERATIONS_MAX, SOURCE_BYTES_MAX, TEXT_BYTES_MAX, VARIABLES_MAX,
};
use rhai::{AST, Dynamic, packages::Package};
use serde_json::Value;
use std::{fmt, sync::Arc};

/// The fields of `event`.
pub const EVENT_FIELDS: [&str; 4] = ["topic", "source", "headers", "body"];

/// Compiles and evaluates the scripts of one rule set.
pub struct Engine {
    rhai: rhai::Engine,
    facts: Arc<Facts>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine whose scripts see these tables.
    #[must_use]
    pub fn new(facts: Arc<Facts>) -> Self {
        use rhai::packages as p;
        let mut rhai = rhai::Engine::new_raw();
        // Not the core language package: its `sleep` and `exit` escape every limit.
        rhai.register_global_module(p::ArithmeticPackage::new().as_shared_module())
            .register_global_module(p::BasicStringPackage::new().as_shared_module())
            .register_global_module(p::BasicIteratorPackage::new().as_shared_module())
            .register_global_module(p::LogicPackage::new().as_shared_module())
            .register_global_module(p::BasicMathPackage::new().as_shared_module())
            .register_global_module(p::BasicArrayPackage::new().as_shared_module())
            .register_global_module(p::BasicMapPackage::new().as_shared_module())
            .register_global_module(p::MoreStringPackage::new().as_shared_module());
        rhai.set_max_operations(OPERATIONS_MAX)
            .set_max_expr_depths(EXPRESSION_DEPTH_MAX, CLOSURE_DEPTH_MAX)
            .set_max_call_levels(CALL_LEVELS_MAX)
            .set_max_functions(CLOSURES_MAX)
            .set_max_string_size(TEXT_BYTES_MAX)
            .set_max_array_size(LIST_ITEMS_MAX)
            .set_max_map_size(MAP_ENTRIES_MAX)
            .set_max_variables(VARIABLES_MAX)
            .set_strict_variables(true)
            .set_allow_looping(false);
        rhai.on_progress(|_| run::operation());
        tokens::register(&mut rhai);
        read_shared_by_copy(&mut rhai);
        views::register(&mut rhai);
        library::register(&mut rhai, &facts);
        Self { rhai, facts }
    }

    /// Compiles a script that sees `event` only.
    ///
    /// # Errors
    /// The first mistake.
    pub fn compile(&self, source: &str) -> Result<Script, ScriptError> {
        self.compile_with(source, &[])
    }

    /// Compiles a script that sees `event` and these variables. Unknown variables, functions, fields of
    /// `event`, tables, and bad patterns are found here.
    ///
    /// # Errors
    /// The first mistake.
    pub fn compile_with(&self, source: &str, variables: &[&str]) -> Result<Script, ScriptError> {
        if source.len() > SOURCE_BYTES_MAX {
            let message =
                format!("the script has {} bytes, at most {SOURCE_BYTES_MAX} are taken", source.len());
            return Err(ScriptError::new(ErrorKind::Parse, 0..source.len(), message));
        }
        if source.trim().is_empty() {
            let message = "an expression is missing";
            return Err(ScriptError::new(ErrorKind::Parse, 0..source.len(), message));
        }
        let mut known = rhai::Scope::new();
        for name in std::iter::once(&"event").chain(variables) {
            known.push(*name, ());
        }
        tokens::reset();
        let ast = self
            .rhai
            .compile_expression_with_scope(&known, source)
            .map_err(|error| check::of_parser(source, &error, variables))?;
        let variables = check::check(source, &ast, &self.facts)?;
        Ok(Script { source: source.into(), ast, variables })
    }

    pub(crate) const fn rhai(&self) -> &rhai::Engine {
        &self.rhai
    }

    #[cfg(test)]
    pub(crate) const fn rhai_mut(&mut self) -> &mut rhai::Engine {
        &mut self.rhai
    }
}

/// A closure shares the variables that it reads with their scope, under a lock; reading one while a chain of
/// calls holds the lock is then refused as a data race: `event.body.list.some(|x| x == event.body.wanted)`.
/// A copy takes no lock, and a copy of a view is a pointer.
fn read_shared_by_copy(rhai: &mut rhai::Engine) {
    #[expect(deprecated, reason = "marked volatile upstream; the version of Rhai is pinned")]
    rhai.on_var(|name, _, context| {
        let shared = context.scope().get(name).filter(|value| value.is_shared());
        Ok(shared.map(Dynamic::flatten_clone))
    });
}

/// A compiled expression.
#[derive(Debug)]
pub struct Script {
    source: Box<str>,
    ast: AST,
    variables: Vec<String>,
}

impl Script {
    /// Its text.
    #[must_use]
    pub const fn source(&self) -> &str {
        &self.source
    }

    /// The variables that it reads, each once.
    #[must_use]
    pub fn variables(&self) -> &[String] {
        &self.variables
    }

    /// Its value. A missing field is null.
    ///
    /// # Errors
    /// What it met that it cannot work with, or which limit it hit, and where.
    pub fn eval(&self, engine: &Engine, scope: &Scope) -> Result<Value, ScriptError> {
        let value = self.run(engine, scope)?;
        value::to_json(&value).map_err(|unfit| {
            let kind = match unfit {
                value::Unfit::Values | value::Unfit::Bytes => ErrorKind::TooLarge,
                value::Unfit::Kind(_) => ErrorKind::Runtime,
            };
            ScriptError::new(kind, 0..self.source.len(), unfit.to_string())
        })
    }

    /// Its value, which must be a boolean.
    ///
    /// # Errors
    /// As [`Self::eval`], and when it gives anything but true or false.
    pub fn eval_bool(&self, engine: &Engine, scope: &Scope) -> Result<bool, ScriptError> {
        let value = self.run(engine, scope)?;
        value.as_bool().map_err(|_| {
            let kind =
                value::to_json(&value).map_or("another value", |value| model::event::json_kind(&value));
            let message = format!("the expression must give true or false, it gives {kind}");
            let error = ScriptError::new(ErrorKind::Runtime, 0..self.source.len(), message);
            if value.is_unit() {
                error.help("compare it: `… != ()` asks whether it is there")
            } else {
                error
            }
        })
    }

    fn run(&self, engine: &Engine, scope: &Scope) -> Result<Dynamic, ScriptError> {
        let mut variables = scope.to_rhai();
        let guard = run::Guard::start(scope.now());
        let given = engine.rhai.eval_ast_with_scope::<Dynamic>(&mut variables, &self.ast);
        match (given, guard.stopped()) {
            (Ok(value), None) => Ok(value),
            (Ok(_), Some(why)) => Err(why.at(0..self.source.len())),
            (Err(error), Some(why)) => Err(why.at(span_at(&self.source, error.position()))),
            (Err(error), None) => Err(error::of_evaluation(&self.source, *error)),
        }
    }
}
