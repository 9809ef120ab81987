//! What a script may take. The operations decide; the time is only a backstop.

use std::time::Duration;

/// The longest script in bytes.
pub const SOURCE_BYTES_MAX: usize = 16 * 1024;
/// The most operations of one evaluation.
pub const OPERATIONS_MAX: u64 = 100_000;
/// The longest time of one evaluation on the processor, far above what the operations need.
pub const TIME_MAX: Duration = Duration::from_millis(100);
/// The deepest nesting of an expression.
pub const EXPRESSION_DEPTH_MAX: usize = 64;
/// The deepest nesting of an expression in a closure.
pub const CLOSURE_DEPTH_MAX: usize = 32;
/// The deepest nesting of calls.
pub const CALL_LEVELS_MAX: usize = 16;
/// The most closures in one script.
pub const CLOSURES_MAX: usize = 32;
/// The longest text that a script may make, in bytes.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;
/// The most elements of a list that a script may make, those of lists in it included.
pub const LIST_ITEMS_MAX: usize = 10_000;
/// The most entries of a map that a script may make, those of maps in it included.
pub const MAP_ENTRIES_MAX: usize = 10_000;
/// The most variables at a time.
pub const VARIABLES_MAX: usize = 64;
/// The most values in what a script gives, all levels counted.
pub const RESULT_VALUES_MAX: usize = 20_000;
/// The most bytes of text in what a script gives, keys included.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;
/// The longest pattern of `regex` and `glob` in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// How many compiled patterns are kept; beyond them all are dropped and made again.
pub const PATTERNS_KEPT_MAX: usize = 512;
/// The most that closures may make and lists keep of it, in bytes, counted by [`VALUE_BYTES`].
pub const MADE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a value counts besides its text, in bytes.
pub const VALUE_BYTES: usize = 32;
