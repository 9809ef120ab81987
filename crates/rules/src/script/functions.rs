//! What scripts may call: nothing else. The documentation of rules is made of this table, and every example
//! of it is run by a test.

/// A function, for documentation and checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// How many arguments it takes; what stands before the dot counts as the first.
    pub arguments: &'static [usize],
    /// How it is called, and what it gives.
    pub signature: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// An expression.
    pub example: &'static str,
    /// What the example gives, as JSON.
    pub gives: &'static str,
}

/// The documentation of a function.
pub(super) fn documentation(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

macro_rules! functions {
    ($(($name:literal, $arguments:expr, $signature:literal, $summary:literal, $example:literal, $gives:literal)),* $(,)?) => {
        &[$(Function {
            name: $name,
            arguments: &$arguments,
            signature: $signature,
            summary: $summary,
            example: $example,
            gives: $gives,
        }),*]
    };
}

/// All functions: first those for this field, then those for texts, lists, maps and numbers.
pub const FUNCTIONS: &[Function] = functions![
    (
        "nvr",
        [1],
        "nvr(text) -> map",
        "Name, version and release of a build, and the epoch where it is written.",
        r#"nvr("python-arrow-1.0-1.fc42").name"#,
        r#""python-arrow""#
    ),
    (
        "nevra",
        [1],
        "nevra(text) -> map",
        "The same of a package, and its `arch`; also of a file's name.",
        r#"nevra("bash-5.2-1.fc42.x86_64.rpm").arch"#,
        r#""x86_64""#
    ),
    (
        "version_compare",
        [2],
        "version_compare(a, b) -> -1, 0 or 1",
        "Compares `[epoch:]version[-release]` as RPM does; `rpm_compare` is the same.",
        r#"version_compare("1.0~rc1-1", "1.0-1")"#,
        "-1"
    ),
    (
        "rpm_compare",
        [2],
        "rpm_compare(a, b) -> -1, 0 or 1",
        "Compares `[epoch:]version[-release]` as RPM does.",
        r#"rpm_compare("5.10", "5.9") > 0"#,
        "true"
    ),
    (
        "debian_compare",
        [2],
        "debian_compare(a, b) -> -1, 0 or 1",
        "Compares `[epoch:]version[-revision]` as Debian does.",
        r#"debian_compare("1:1.0-1", "2.0-1")"#,
        "1"
    ),
    (
        "glob",
        [2],
        "glob(text, pattern) -> boolean",
        "Whether the whole text matches: `*`, `?`, `[abc]`, `{a,b}`; `*` also covers `/`.",
        r#"glob("python-arrow", "python-*")"#,
        "true"
    ),
    (
        "regex",
        [2],
        "regex(text, pattern) -> boolean",
        "Whether the regular expression is found in the text; `^` and `$` tie it to the ends.",
        r#"regex("bash-5.2", "-[0-9.]+$")"#,
        "true"
    ),
    (
        "fact",
        [2],
        "fact(table, key) -> value",
        "A row of a table beside the rules. A missing key gives (), in a table that is a list of keys false.",
        r#"fact("critpath", "kernel")"#,
        "true"
    ),
    (
        "now",
        [0],
        "now() -> seconds",
        "The time of the evaluation in seconds since 1970.",
        "now()",
        "1750000000"
    ),
    (
        "parse_time",
        [1],
        "parse_time(text) -> seconds",
        "A time such as `2025-06-15T12:00:00Z` or `2025-06-15` in seconds since 1970; UTC where no zone is written.",
        r#"parse_time("2025-06-15T15:06:40Z")"#,
        "1750000000"
    ),
    (
        "age",
        [1],
        "age(time) -> seconds",
        "How long ago a time is, given as text or as seconds since 1970; below 0 for the future.",
        r#"age("2025-06-15T15:06:30Z")"#,
        "10"
    ),
    (
        "starts_with",
        [2],
        "text.starts_with(part) -> boolean",
        "Whether the text starts so.",
        r#""python-arrow".starts_with("python-")"#,
        "true"
    ),
    (
        "ends_with",
        [2],
        "text.ends_with(part) -> boolean",
        "Whether the text ends so.",
        r#""1.fc42".ends_with(".fc42")"#,
        "true"
    ),
    (
        "contains",
        [2],
        "text, list, map or range.contains(value) -> boolean",
        "Whether the part, element, key or number is in it; `value in list` is the same.",
        r#"["x86_64", "aarch64"].contains("aarch64")"#,
        "true"
    ),
    (
        "index_of",
        [2, 3],
        "text or list.index_of(value or closure, from) -> number",
        "Where it is found first, counted from 0, or -1.",
        r#"["a", "b"].index_of("b")"#,
        "1"
    ),
    (
        "sub_string",
        [2, 3],
        "text.sub_string(start, length) -> text",
        "A part of the text; characters count from 0, from the end by -1.",
        r#""fc42".sub_string(2)"#,
        r#""42""#
    ),
    (
        "split",
        [1, 2, 3],
        "text.split(separator, parts) -> list",
        "The parts between the separators, at most so many; without one, the words.",
        r#""a-b-c".split("-", 2)"#,
        r#"["a", "b-c"]"#
    ),
    (
        "split_rev",
        [2, 3],
        "text.split_rev(separator, parts) -> list",
        "The same from the end.",
        r#""a-b-c".split_rev("-", 2)"#,
        r#"["c", "a-b"]"#
    ),
    (
        "join",
        [2],
        "list.join(separator) -> text",
        "Texts and numbers in one text.",
        r#"["a", 1].join("/")"#,
        r#""a/1""#
    ),
    (
        "replace",
        [3],
        "text.replace(part, by) -> text",
        "The text with every such part replaced.",
        r#""F42".replace("F", "fc")"#,
        r#""fc42""#
    ),
    (
        "trim",
        [1],
        "text.trim() -> text",
        "The text without white space at its ends.",
        r#"" a ".trim()"#,
        r#""a""#
    ),
    ("to_upper", [1], "text.to_upper() -> text", "In capital letters.", r#""fc".to_upper()"#, r#""FC""#),
    ("to_lower", [1], "text.to_lower() -> text", "In small letters.", r#""FC".to_lower()"#, r#""fc""#),
    (
        "to_string",
        [1],
        "value.to_string() -> text",
        "The value as text; lists and maps as JSON.",
        "42.to_string()",
        r#""42""#
    ),
    (
        "to_json",
        [1],
        "list or map.to_json() -> text",
        "As JSON.",
        r#"#{a: [1]}.to_json()"#,
        r#""{\"a\":[1]}""#
    ),
    (
        "parse_int",
        [1, 2],
        "parse_int(text, base) -> number",
        "The whole number that the text is.",
        r#"parse_int("42")"#,
        "42"
    ),
    (
        "parse_float",
        [1],
        "parse_float(text) -> number",
        "The number that the text is.",
        r#"parse_float("4.5")"#,
        "4.5"
    ),
    (
        "len",
        [1],
        "text, list or map.len() -> number",
        "How many characters, elements or entries it has.",
        r#"["a", "b"].len()"#,
        "2"
    ),
    (
        "is_empty",
        [1],
        "text, list or map.is_empty() -> boolean",
        "Whether it has none.",
        r#""".is_empty()"#,
        "true"
    ),
    (
        "get",
        [2],
        "list or map.get(index or key) -> value",
        "The element or entry, or () where there is none.",
        r#"["a"].get(5)"#,
        "null"
    ),
    (
        "extract",
        [2, 3],
        "list.extract(start, length) -> list",
        "A part of the list.",
        "[1, 2, 3].extract(1)",
        "[2, 3]"
    ),
    (
        "map",
        [2],
        "list.map(|x| …) -> list",
        "What the closure makes of each element.",
        "[1, 2].map(|x| x * 2)",
        "[2, 4]"
    ),
    (
        "filter",
        [2],
        "list.filter(|x| …) -> list",
        "The elements for which it holds.",
        "[1, 2, 3].filter(|x| x > 1)",
        "[2, 3]"
    ),
    (
        "some",
        [2],
        "list.some(|x| …) -> boolean",
        "Whether it holds for any element.",
        "[1, 2].some(|x| x > 1)",
        "true"
    ),
    (
        "all",
        [2],
        "list.all(|x| …) -> boolean",
        "Whether it holds for all elements.",
        "[1, 2].all(|x| x > 1)",
        "false"
    ),
    (
        "find",
        [2],
        "list.find(|x| …) -> value",
        "The first element for which it holds, or ().",
        "[1, 2, 3].find(|x| x > 1)",
        "2"
    ),
    (
        "find_map",
        [2],
        "list.find_map(|x| …) -> value",
        "The first that the closure makes and that is not ().",
        "[1, 2].find_map(|x| if x > 1 { x * 10 } else { () })",
        "20"
    ),
    (
        "reduce",
        [2, 3],
        "list.reduce(|sum, x| …, start) -> value",
        "One value of all elements.",
        "[1, 2, 3].reduce(|sum, x| sum + x, 0)",
        "6"
    ),
    (
        "order",
        [1],
        "list.order() -> list",
        "Sorted; all elements must be texts or all numbers.",
        r#"["b", "a"].order()"#,
        r#"["a", "b"]"#
    ),
    (
        "order_desc",
        [1],
        "list.order_desc() -> list",
        "Sorted, the largest first.",
        "[1, 2].order_desc()",
        "[2, 1]"
    ),
    (
        "order_by",
        [2],
        "list.order_by(|a, b| …) -> list",
        "Sorted by a closure that gives a number below, of or above 0.",
        r#"["1.10", "1.9"].order_by(|a, b| rpm_compare(a, b))"#,
        r#"["1.9", "1.10"]"#
    ),
    (
        "unique",
        [1],
        "list.unique() -> list",
        "Each element once, in the order of their first.",
        "[1, 2, 1].unique()",
        "[1, 2]"
    ),
    ("keys", [1], "map.keys() -> list", "The keys.", "#{a: 1}.keys()", r#"["a"]"#),
    ("values", [1], "map.values() -> list", "The values.", "#{a: 1}.values()", "[1]"),
    ("abs", [1], "abs(number) -> number", "Without its sign.", "abs(-2)", "2"),
    ("min", [2], "min(a, b) -> the smaller", "Of two numbers or texts.", "min(1, 2)", "1"),
    ("max", [2], "max(a, b) -> the larger", "Of two numbers or texts.", "max(1, 2)", "2"),
    ("floor", [1], "number.floor() -> number", "Rounded down.", "1.7.floor()", "1.0"),
    ("ceiling", [1], "number.ceiling() -> number", "Rounded up.", "1.2.ceiling()", "2.0"),
    ("round", [1], "number.round() -> number", "Rounded.", "1.5.round()", "2.0"),
    ("to_int", [1], "number.to_int() -> number", "Without what is after the point.", "1.7.to_int()", "1"),
    ("to_float", [1], "number.to_float() -> number", "The same with a point.", "1.to_float()", "1.0"),
    (
        "type_of",
        [1],
        "type_of(value) -> text",
        "The kind of value: `()`, `bool`, `i64`, `f64`, `string`, `array` or `map`.",
        r#"type_of("a")"#,
        r#""string""#
    ),
];
