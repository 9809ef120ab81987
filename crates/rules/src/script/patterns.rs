//! Globs and regular expressions, compiled once.

use super::limits::{PATTERN_BYTES_MAX, PATTERNS_KEPT_MAX};
use crate::predicate::{self, Glob};
use regex::Regex;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// A glob over a whole text: `*`, `?`, `[…]`, `{a,b}`; `*` also covers `/` and `.`.
pub(super) fn glob(pattern: &str) -> Result<Glob, String> {
    check_length(pattern)?;
    Glob::parse(pattern)
}

/// A regular expression, found anywhere in a text unless anchored; matching takes linear time.
pub(super) fn regex(pattern: &str) -> Result<Regex, String> {
    check_length(pattern)?;
    predicate::regex(pattern)
}

fn check_length(pattern: &str) -> Result<(), String> {
    if pattern.len() <= PATTERN_BYTES_MAX {
        return Ok(());
    }
    Err(format!("the pattern has {} bytes, at most {PATTERN_BYTES_MAX} are taken", pattern.len()))
}

/// Patterns that were compiled before, by their text.
#[derive(Debug)]
pub(super) struct Cache<P> {
    compile: fn(&str) -> Result<P, String>,
    kept: RwLock<HashMap<Box<str>, Arc<P>>>,
}

impl<P> Cache<P> {
    pub(super) fn new(compile: fn(&str) -> Result<P, String>) -> Self {
        Self { compile, kept: RwLock::default() }
    }

    /// The compiled pattern.
    pub(super) fn get(&self, pattern: &str) -> Result<Arc<P>, String> {
        // A panic while the lock is held leaves whole entries only.
        if let Some(known) = self.kept.read().unwrap_or_else(PoisonError::into_inner).get(pattern) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new((self.compile)(pattern)?);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= PATTERNS_KEPT_MAX {
            kept.clear();
        }
        kept.insert(pattern.into(), Arc::clone(&made));
        Ok(made)
    }
}
