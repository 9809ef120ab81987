//! What requests say, and what is wrong with them, in the words of those who served them before: each mistake
//! with its kind, its place and what stands there.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

/// The most repositories, tests and ids of a request.
pub(super) const ENTRIES_MAX: usize = 1000;

/// Mistakes of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Mistakes(Vec<Value>);

impl Mistakes {
    /// One mistake.
    pub(super) fn one(kind: &str, place: &[Value], message: &str, input: &Value) -> Self {
        let mut mistakes = Self::default();
        mistakes.add(kind, place, message, input);
        mistakes
    }

    fn add(&mut self, kind: &str, place: &[Value], message: &str, input: &Value) {
        let mut all = vec![json!("body")];
        all.extend_from_slice(place);
        self.0.push(json!({"type": kind, "loc": all, "msg": message, "input": input}));
    }

    /// Notes what a literal should have been.
    fn literal(&mut self, place: &[Value], expected: &str, input: &Value) {
        self.add("literal_error", place, &format!("Input should be {expected}"), input);
        if let Some(last) = self.0.last_mut() {
            last["ctx"] = json!({"expected": expected});
        }
    }
}

impl IntoResponse for Mistakes {
    fn into_response(self) -> Response {
        (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"detail": self.0}))).into_response()
    }
}

/// The object that a request's body is.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Mistakes> {
    if body.is_empty() {
        return Err(Mistakes::one("missing", &[], "Field required", &Value::Null));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            let message = "Input should be a valid dictionary or object to extract fields from";
            Err(Mistakes::one("model_attributes_type", &[], message, &other))
        }
        Err(error) => {
            let at = json!(offset(body, error.line(), error.column()));
            let mut mistakes = Mistakes::one("json_invalid", &[at], "JSON decode error", &json!({}));
            if let Some(last) = mistakes.0.last_mut() {
                last["ctx"] = json!({"error": error.to_string()});
            }
            Err(mistakes)
        }
    }
}

/// Where a line and column are, in bytes.
fn offset(body: &[u8], line: usize, column: usize) -> usize {
    let lines = body.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
    (lines.map(<[u8]>::len).sum::<usize>() + column.saturating_sub(1)).min(body.len())
}

/// The longest address of a repository in bytes.
const URL_BYTES_MAX: usize = 2048;

/// A request to test a package.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Payload {
    /// `any`, `docker` or `opennebula`, as it stands there.
    pub(super) runner_type: String,
    /// The distribution.
    pub(super) dist_name: String,
    /// Its version.
    pub(super) dist_version: String,
    /// The architecture.
    pub(super) dist_arch: String,
    /// The package.
    pub(super) package_name: String,
    /// Its version, when one is meant.
    pub(super) package_version: Option<String>,
    /// Its epoch, when one is meant.
    pub(super) package_epoch: Option<i64>,
    /// `stable` or `beta`.
    pub(super) package_channel: Option<String>,
    /// A module to enable before.
    pub(super) module_name: Option<String>,
    /// Its stream.
    pub(super) module_stream: Option<String>,
    /// Its version.
    pub(super) module_version: Option<String>,
    /// What to add before the package is installed.
    pub(super) repositories: Vec<Repository>,
    /// Third-party tests.
    pub(super) tests: Vec<ThirdParty>,
    /// What their environment has, by name.
    pub(super) test_env: Vec<(String, String)>,
    /// Where to tell the result to.
    pub(super) callback_href: Option<String>,
    /// The build system's own number of the task.
    pub(super) bs_task_id: Option<i64>,
}

/// A repository of third-party tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ThirdParty {
    /// Where it is.
    pub(super) url: String,
    /// A branch, tag or commit.
    pub(super) git_ref: String,
    /// The folder in it.
    pub(super) folder: String,
    /// The tests in the folder; all of them when none is named.
    pub(super) files: Vec<String>,
}

/// A repository to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// Its name, when it has one.
    pub(super) name: Option<String>,
    /// Where it is.
    pub(super) url: String,
}

struct Fields<'b> {
    body: &'b Map<String, Value>,
    mistakes: Mistakes,
}

impl Fields<'_> {
    /// What a field holds; null is as if it were missing.
    fn get(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.get(name).cloned() {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => {
                self.mistakes.add("string_type", &[json!(name)], "Input should be a valid string", &other);
                None
            }
        }
    }

    fn required(&mut self, name: &str) -> String {
        if !self.body.contains_key(name) {
            let body = Value::Object(self.body.clone());
            self.mistakes.add("missing", &[json!(name)], "Field required", &body);
            return String::new();
        }
        if self.get(name).is_none() {
            let message = "Input should be a valid string";
            self.mistakes.add("string_type", &[json!(name)], message, &Value::Null);
        }
        self.text(name).unwrap_or_default()
    }

    /// A text or a whole number.
    fn version(&mut self, name: &str, required: bool) -> Option<String> {
        match self.body.get(name).cloned() {
            None if !required => None,
            Some(Value::Null) if !required => None,
            None => {
                let body = Value::Object(self.body.clone());
                self.mistakes.add("missing", &[json!(name)], "Field required", &body);
                None
            }
            Some(Value::String(text)) => Some(text),
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Some(number.to_string()),
            Some(other) => {
                let place = |kind: &str| [json!(name), json!(kind)];
                self.mistakes.add("string_type", &place("str"), "Input should be a valid string", &other);
                self.mistakes.add("int_type", &place("int"), "Input should be a valid integer", &other);
                None
            }
        }
    }

    fn int(&mut self, name: &str) -> Option<i64> {
        let value = self.get(name)?.clone();
        match int_of(&value) {
            Ok(number) => Some(number),
            Err((kind, message)) => {
                self.mistakes.add(kind, &[json!(name)], message, &value);
                None
            }
        }
    }

    fn list(&mut self, name: &str) -> Vec<Value> {
        match self.get(name).cloned() {
            None => Vec::new(),
            Some(Value::Array(values)) if values.len() <= ENTRIES_MAX => values,
            Some(Value::Array(values)) => {
                let message = format!(
                    "List should have at most {ENTRIES_MAX} items after validation, not {}",
                    values.len()
                );
                self.mistakes.add("too_long", &[json!(name)], &message, &Value::Null);
                Vec::new()
            }
            Some(other) => {
                self.mistakes.add("list_type", &[json!(name)], "Input should be a valid list", &other);
                Vec::new()
            }
        }
    }

    fn mapping(&mut self, place: &[Value], value: Option<&Value>) -> Map<String, Value> {
        match value {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(object)) => object.clone(),
            Some(other) => {
                self.mistakes.add("dict_type", place, "Input should be a valid dictionary", other);
                Map::new()
            }
        }
    }

    /// `{tests: [{url, git_ref, test_dir, tests_to_run}], test_env: {…}}`
    fn test_configuration(&mut self) -> (Vec<ThirdParty>, Vec<(String, String)>) {
        let said = self.get("test_configuration").cloned();
        let said = self.mapping(&[json!("test_configuration")], said.as_ref());
        let place = |names: &[Value]| [&[json!("test_configuration")], names].concat();
        let mut tests = Vec::new();
        match said.get("tests") {
            None | Some(Value::Null) => {}
            Some(Value::Array(entries)) if entries.len() <= ENTRIES_MAX => {
                for (at, entry) in entries.iter().enumerate() {
                    tests.extend(self.third_party(&place(&[json!("tests"), json!(at)]), entry));
                }
            }
            Some(other) => {
                self.mistakes.add(
                    "list_type",
                    &place(&[json!("tests")]),
                    "Input should be a valid list",
                    other,
                );
            }
        }
        let mut env = Vec::new();
        for (name, value) in self.mapping(&place(&[json!("test_env")]), said.get("test_env")) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let is_name = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_name && is_plain(&text) {
                env.push((name, text));
            } else {
                let message = "Value error, expected the name of a variable, and a text of one line";
                self.mistakes.add("value_error", &place(&[json!("test_env"), json!(name)]), message, &value);
            }
        }
        (tests, env)
    }

    fn third_party(&mut self, place: &[Value], entry: &Value) -> Option<ThirdParty> {
        let fields = self.mapping(place, Some(entry));
        let at = |name: &str| [place, &[json!(name)]].concat();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let url = text("url");
        let known = ["https://", "http://", "git://", "ssh://"];
        if !known.iter().any(|scheme| url.starts_with(scheme)) || url.contains(' ') {
            let message =
                "Value error, expected the address of a git repository, such as https://HOST/NAME.git";
            self.mistakes.add("value_error", &at("url"), message, &json!(fields.get("url")));
            return None;
        }
        let files = match fields.get("tests_to_run") {
            Some(Value::Array(files)) => files.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::String(file)) if !file.is_empty() => vec![file.clone()],
            _ => Vec::new(),
        };
        let found = ThirdParty { url, git_ref: text("git_ref"), folder: text("test_dir"), files };
        let all = [&found.url, &found.git_ref, &found.folder];
        if !all.into_iter().chain(&found.files).all(|text| is_plain(text))
            || found.git_ref.starts_with('-')
            || found.files.iter().any(|file| file.contains(','))
        {
            let message = "Value error, expected names of one line, and tests without commas";
            self.mistakes.add("value_error", place, message, entry);
            return None;
        }
        Some(found)
    }

    fn repositories(&mut self) -> Vec<Repository> {
        let mut all = Vec::new();
        for (at, entry) in self.list("repositories").iter().enumerate() {
            let place = |name: &str| [json!("repositories"), json!(at), json!(name)];
            let fields = self.mapping(&place("")[..2], Some(entry));
            if !entry.is_object() {
                continue;
            }
            // Its page says `url`, its program `baseurl`.
            let url = ["baseurl", "url"].iter().find_map(|name| fields.get(*name));
            match url {
                Some(Value::String(url)) if is_web(url) => {
                    let name = fields.get("name").and_then(Value::as_str).map(str::to_owned);
                    all.push(Repository { name, url: url.clone() });
                }
                Some(url @ Value::String(_)) => {
                    let message = "Value error, a repository's address begins with http:// or https://";
                    self.mistakes.add("value_error", &place("url"), message, url);
                }
                Some(other) => {
                    let message = "Input should be a valid string";
                    self.mistakes.add("string_type", &place("url"), message, other);
                }
                None => self.mistakes.add("missing", &place("url"), "Field required", entry),
            }
        }
        all
    }
}

/// Whether this is one line's worth of text without tabs, as what a task is given is divided by these.
fn is_plain(text: &str) -> bool {
    text.len() <= URL_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Whether this is an address that a package manager can take, alone on its line; for Debian also a whole line.
fn is_web(url: &str) -> bool {
    let address = url.strip_prefix("deb ").map_or(url, |line| match line.trim_start().split_once("] ") {
        Some((options, rest)) if options.starts_with('[') => rest,
        _ => line.trim_start(),
    });
    (address.starts_with("http://") || address.starts_with("https://"))
        && !url.chars().any(char::is_control)
        && url.len() <= URL_BYTES_MAX
}

fn int_of(value: &Value) -> Result<i64, (&'static str, &'static str)> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64))
            .ok_or((
                "int_from_float",
                "Input should be a valid integer, got a number with a fractional part",
            )),
        Value::String(text) => text.trim().parse().map_err(|_| {
            ("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
        }),
        _ => Err(("int_type", "Input should be a valid integer")),
    }
}

impl Payload {
    /// Reads a request. Fields that are not known are left alone.
    pub(super) fn read(body: &Map<String, Value>) -> Result<Self, Mistakes> {
        let mut fields = Fields { body, mistakes: Mistakes::default() };
        let (tests, test_env) = fields.test_configuration();
        let payload = Self {
            runner_type: fields.text("runner_type").unwrap_or_else(|| "any".to_owned()),
            dist_name: fields.required("dist_name"),
            dist_version: fields.version("dist_version", true).unwrap_or_default(),
            dist_arch: fields.required("dist_arch"),
            package_name: fields.required("package_name"),
            package_version: fields.text("package_version").filter(|text| !text.is_empty()),
            package_epoch: fields.int("package_epoch"),
            package_channel: fields.text("package_channel").filter(|text| !text.is_empty()),
            module_name: fields.text("module_name").filter(|text| !text.is_empty()),
            module_stream: fields.version("module_stream", false).filter(|text| !text.is_empty()),
            module_version: fields.version("module_version", false).filter(|text| !text.is_empty()),
            repositories: fields.repositories(),
            tests,
            test_env,
            callback_href: fields.text("callback_href").filter(|text| !text.is_empty()),
            bs_task_id: fields.int("bs_task_id"),
        };
        if let Some(channel) = payload.package_channel.as_deref()
            && !["stable", "beta"].contains(&channel)
        {
            fields.mistakes.literal(&[json!("package_channel")], "'stable' or 'beta'", &json!(channel));
        }
        if super::platforms::Runner::of(&payload.runner_type).is_none() {
            let expected = "'any', 'docker' or 'opennebula'";
            fields.mistakes.literal(&[json!("runner_type")], expected, &json!(payload.runner_type));
        }
        for (name, text) in [
            ("package_name", Some(&payload.package_name)),
            ("package_version", payload.package_version.as_ref()),
            ("module_name", payload.module_name.as_ref()),
            ("module_stream", payload.module_stream.as_ref()),
            ("module_version", payload.module_version.as_ref()),
        ] {
            let Some(text) = text else { continue };
            let stated = body.get(name).is_some_and(Value::is_string);
            if stated && !is_package_word(text) {
                let message =
                    "Value error, expected letters, digits and . _ + ~ ^ : @ - only, and no - first";
                fields.mistakes.add("value_error", &[json!(name)], message, &json!(text));
            }
        }
        if fields.mistakes.0.is_empty() { Ok(payload) } else { Err(fields.mistakes) }
    }
}

/// Whether this can be a package's or module's name or version: an option or a path is none.
fn is_package_word(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._+~^:@-".contains(c);
    (1..=255).contains(&text.len()) && text.chars().all(fits) && !text.starts_with(['-', '.'])
}

/// The numbers of a request to cancel tasks.
pub(super) fn task_numbers(body: &Map<String, Value>) -> Result<Vec<i64>, Mistakes> {
    let mut fields = Fields { body, mistakes: Mistakes::default() };
    if fields.get("bs_task_ids").is_none() {
        fields.required("bs_task_ids");
        if body.contains_key("bs_task_ids") {
            return Err(Mistakes::one(
                "list_type",
                &[json!("bs_task_ids")],
                "Input should be a valid list",
                &Value::Null,
            ));
        }
        return Err(fields.mistakes);
    }
    let mut numbers = Vec::new();
    for (at, value) in fields.list("bs_task_ids").iter().enumerate() {
        match int_of(value) {
            Ok(number) => numbers.push(number),
            Err((kind, message)) => {
                fields.mistakes.add(kind, &[json!("bs_task_ids"), json!(at)], message, value);
            }
        }
    }
    if fields.mistakes.0.is_empty() { Ok(numbers) } else { Err(fields.mistakes) }
}
