//! ALTS' configuration (`alts_config.yaml`).

use super::{Imported, quoted};
use crate::config::{by_secret, web_url};
use anyhow::Result;
use model::{
    diagnostic::Report,
    yaml::{Node, Reader, Value},
};
use std::collections::BTreeMap;

/// Where ALTS' scheduler listens when nothing else is said.
const LISTEN: &str = "127.0.0.1:8000";
/// What is for RabbitMQ and Celery, which are not needed here.
const BROKER: [&str; 8] = [
    "rabbitmq_host",
    "rabbitqm_host",
    "rabbitmq_port",
    "rabbitmq_ssl_port",
    "rabbitmq_user",
    "rabbitmq_password",
    "rabbitmq_vhost",
    "use_ssl",
];

/// ALTS' configuration in our form.
///
/// # Errors
/// The text is no YAML, or no mapping.
pub(crate) fn alts(name: &str, text: &str) -> Result<Imported, Report> {
    let reader = Reader::new(name, text);
    let mut entries = BTreeMap::new();
    if let Some(root) = reader.parse() {
        match root.value {
            Value::Map(all) => {
                entries.extend(all.into_iter().filter_map(|(key, node)| Some((key.text, scalar(&node)?))));
            }
            // An empty file says nothing.
            Value::Null => {}
            _ => reader.error(&root.span, "ALTS' configuration must be a mapping from names to values"),
        }
    }
    if reader.failed() {
        return Err(reader.into_report());
    }
    Ok(of(entries))
}

/// A value as text; nothing for one that is not said.
fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::Null => None,
        Value::Map(_) | Value::List(_) => Some("…".to_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => node.as_text().map(str::to_owned),
    }
}

fn of(mut entries: BTreeMap<String, String>) -> Imported {
    let mut ours = Imported::default();
    let mut take = |name: &str| entries.remove(name).filter(|value| !value.is_empty());
    ours.set("interfaces:");
    ours.set("  alts:");
    ours.set(format!("    listen: {}", quoted(LISTEN)));
    match take("jwt_secret") {
        Some(secret) => {
            ours.set("    secret_file: alts.secret");
            ours.secret("alts.secret", secret);
        }
        None => ours.note(
            "jwt_secret is missing: set interfaces.alts.secret_file, or its clients need tokens of ours",
        ),
    }
    match take("hashing_algorithm") {
        Some(algorithm) if by_secret(&algorithm).is_ok() => {
            ours.set(format!("    algorithm: {}", quoted(&algorithm)));
        }
        Some(algorithm) => ours.not_known("hashing_algorithm", &algorithm),
        None => {}
    }
    match (take("bs_host"), take("bs_token")) {
        (Some(host), _) if web_url(&host).is_err() => {
            ours.note(format!("bs_host {host}: its token would be read on the way; set interfaces.alts.callback to an https URL"));
        }
        (Some(host), token) => {
            let file = if token.is_some() { ", token_file: build-system.token" } else { "" };
            ours.set(format!("    callback: {{url: {}{file}}}", quoted(&host)));
            ours.note("the build system is told what came of a task, and is not asked for work: let it post to /tasks/schedule");
            if let Some(token) = token {
                ours.secret("build-system.token", token);
            }
        }
        (None, Some(_)) => ours.note("bs_token is of no use without bs_host"),
        (None, None) => {}
    }
    let backend = take("result_backend");
    let s3 = S3 {
        bucket: take("s3_bucket"),
        path: take("s3_base_path"),
        region: take("s3_region"),
        endpoint: take("s3_endpoint_url"),
        id: take("s3_access_key_id"),
        key: take("s3_secret_access_key"),
    };
    let azure = Azure {
        container: take("azureblockblob_container_name"),
        path: take("azureblockblob_base_path"),
        connection: take("azure_connection_string")
            .or_else(|| backend.as_deref()?.strip_prefix("azureblockblob://").map(str::to_owned)),
        logs: take("azure_logs_container"),
    };
    let broker: Vec<_> = BROKER.into_iter().filter(|name| take(name).is_some()).collect();
    let (names, others) = (s3.names(), azure.names());
    let chosen = match backend.as_deref() {
        // What is said of a store means it, where nothing else is said.
        None if !names.is_empty() && others.is_empty() => Some("s3"),
        None if !others.is_empty() && names.is_empty() => Some("azure"),
        said => said,
    };
    let unused = match chosen {
        Some("s3") => {
            s3.say(&mut ours);
            others
        }
        Some(text) if text.starts_with("azure") => {
            azure.say(&mut ours);
            names
        }
        other => {
            if let Some(other) = other {
                ours.note(format!(
                    "result_backend {other}: results are in our database, files in its data folder"
                ));
            }
            [names, others].concat()
        }
    };
    if !unused.is_empty() {
        let chosen = backend.as_deref().and_then(|text| text.split(':').next()).unwrap_or("none");
        ours.note(format!("{}: of no use while result_backend is {chosen}", unused.join(", ")));
    }
    if !broker.is_empty() {
        ours.note(format!("{}: no broker is needed; our own workers take the tasks", broker.join(", ")));
    }
    for (name, value) in entries {
        ours.not_known(&name, &value);
    }
    ours
}

struct S3 {
    bucket: Option<String>,
    path: Option<String>,
    region: Option<String>,
    endpoint: Option<String>,
    id: Option<String>,
    key: Option<String>,
}

/// The names of what is said.
fn said(all: &[(&'static str, &Option<String>)]) -> Vec<&'static str> {
    all.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect()
}

impl S3 {
    fn names(&self) -> Vec<&'static str> {
        said(&[
            ("s3_bucket", &self.bucket),
            ("s3_base_path", &self.path),
            ("s3_region", &self.region),
            ("s3_endpoint_url", &self.endpoint),
            ("s3_access_key_id", &self.id),
            ("s3_secret_access_key", &self.key),
        ])
    }

    fn say(self, ours: &mut Imported) {
        let Some(bucket) = self.bucket.clone() else {
            let rest = self.names();
            let rest =
                if rest.is_empty() { String::new() } else { format!(" ({} are of no use)", rest.join(", ")) };
            ours.note(format!(
                "result_backend is s3, and s3_bucket is missing: files stay in the data folder{rest}"
            ));
            return;
        };
        ours.set("files:");
        ours.set(format!("  url: {}", quoted(&url("s3", &bucket, self.path.as_deref()))));
        let mut options = Vec::new();
        if let Some(region) = self.region {
            options.push(format!("aws_region: {}", quoted(&region)));
        }
        if let Some(endpoint) = self.endpoint {
            if endpoint.starts_with("http://") {
                options.push("aws_allow_http: \"true\"".to_owned());
            }
            options.push(format!("aws_endpoint: {}", quoted(&endpoint)));
        }
        if !options.is_empty() {
            ours.set(format!("  options: {{{}}}", options.join(", ")));
        }
        match (self.id, self.key) {
            (Some(id), Some(key)) => {
                ours.set("  options_file: s3.options");
                ours.secret("s3.options", format!("aws_access_key_id={id}\naws_secret_access_key={key}"));
            }
            (None, None) => {}
            (id, _) => {
                let (there, missing) = if id.is_some() {
                    ("s3_access_key_id", "s3_secret_access_key")
                } else {
                    ("s3_secret_access_key", "s3_access_key_id")
                };
                ours.note(format!("{there} is of no use without {missing}"));
            }
        }
    }
}

struct Azure {
    container: Option<String>,
    path: Option<String>,
    connection: Option<String>,
    logs: Option<String>,
}

impl Azure {
    fn names(&self) -> Vec<&'static str> {
        said(&[
            ("azureblockblob_container_name", &self.container),
            ("azureblockblob_base_path", &self.path),
            ("azure_connection_string", &self.connection),
            ("azure_logs_container", &self.logs),
        ])
    }

    fn say(self, ours: &mut Imported) {
        let names = self.names().join(", ");
        let (Some(container), Some(connection)) = (self.container.or(self.logs.clone()), self.connection)
        else {
            ours.note(format!(
                "result_backend is Azure, and its container or connection string is missing: files stay in the data \
                 folder ({names})"
            ));
            return;
        };
        ours.set("files:");
        ours.set(format!("  url: {}", quoted(&url("az", &container, self.path.as_deref()))));
        ours.set("  options_file: azure.options");
        ours.secret("azure.options", format!("azure_connection_string={connection}"));
        if let Some(logs) = self.logs.filter(|logs| *logs != container) {
            ours.set("sinks:");
            ours.set("  - name: logs");
            let at = quoted(&url("az", &logs, None));
            ours.set(format!("    files: {{logs: {{url: {at}, options_file: azure.options}}}}"));
        }
    }
}

/// The URL of a base path.
fn url(scheme: &str, bucket: &str, path: Option<&str>) -> String {
    let path = path.unwrap_or_default().trim_matches('/');
    if path.is_empty() { format!("{scheme}://{bucket}") } else { format!("{scheme}://{bucket}/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Imported {
        alts("alts_config.yaml", text).unwrap_or_else(|report| panic!("{report}"))
    }

    #[test]
    fn what_is_known_is_set_and_nothing_is_lost() {
        let ours = read(
            "rabbitmq_host: broker\nrabbitmq_port: 5672\nrabbitmq_password: hunter2\nresult_backend: s3\n\
             s3_access_key_id: ID\ns3_secret_access_key: SEKRIT\ns3_bucket: results\ns3_base_path: 'celery/'\n\
             s3_region:\ns3_endpoint_url: http://minio.example.org:9000\njwt_secret: 0123456789abcdef\n\
             hashing_algorithm: HS512\nbs_host: https://build.example.org\nbs_token: TKN\nworkers: 7\nextra_token: abc\n",
        );
        insta::assert_snapshot!(ours.yaml("alts_config.yaml"), @r#"
        # From alts_config.yaml.
        # alts.secret: a secret of its own; beside this file, readable by the server only
        # build-system.token: a secret of its own; beside this file, readable by the server only
        # s3.options: a secret of its own; beside this file, readable by the server only
        interfaces:
          alts:
            listen: "127.0.0.1:8000"
            secret_file: alts.secret
            algorithm: "HS512"
            callback: {url: "https://build.example.org", token_file: build-system.token}
        files:
          url: "s3://results/celery"
          options: {aws_allow_http: "true", aws_endpoint: "http://minio.example.org:9000"}
          options_file: s3.options
        #
        # Taken over in another way, or not needed:
        # - the build system is told what came of a task, and is not asked for work: let it post to /tasks/schedule
        # - rabbitmq_host, rabbitmq_port, rabbitmq_password: no broker is needed; our own workers take the tasks
        #
        # Not known, and not taken over:
        # - extra_token: ***
        # - workers: 7
        "#);
        for secret in ["SEKRIT", "0123456789abcdef", "TKN", "hunter2", "abc\n"] {
            assert!(!ours.yaml("x").contains(secret), "{secret}");
        }
        let files: Vec<_> =
            ours.secrets.iter().map(|(file, text)| format!("{file} {}", text.replace('\n', ";"))).collect();
        assert_eq!(
            files,
            [
                "alts.secret 0123456789abcdef",
                "build-system.token TKN",
                "s3.options aws_access_key_id=ID;aws_secret_access_key=SEKRIT"
            ]
        );
    }

    #[test]
    fn what_is_said_of_stores_is_never_dropped() {
        let check = |text: &str, expect: &[&str]| {
            let yaml = read(text).yaml("x");
            for part in expect {
                assert!(yaml.contains(part), "{text}: {part}:\n{yaml}");
            }
        };
        let bucket = "s3_bucket: b\ns3_access_key_id: i\ns3_secret_access_key: k\n";
        check(bucket, &["url: \"s3://b\"", "options_file: s3.options"]);
        check(
            &format!("result_backend: rpc://\n{bucket}"),
            &["s3_bucket, s3_access_key_id, s3_secret_access_key: of no use while result_backend is rpc"],
        );
        check("result_backend: s3\ns3_region: eu\n", &["s3_bucket is missing", "s3_region are of no use"]);
        check(
            "result_backend: s3\ns3_bucket: b\ns3_access_key_id: i\n",
            &["s3_access_key_id is of no use without"],
        );
        check(
            "azure_connection_string: AccountName=a;AccountKey=a2V5\nazure_logs_container: logs\n",
            &["url: \"az://logs\"", "azure.options"],
        );
        check(&format!("{bucket}azure_logs_container: logs\n"), &["azure_logs_container: of no use"]);
    }

    #[test]
    fn what_is_printed_is_right() {
        for text in [
            "",
            "jwt_secret: x\nbs_host: http://build.example.org\nbs_token: t\n",
            "result_backend: s3\ns3_bucket: b\ns3_region: eu-1\n",
            "result_backend: s3\n",
            "result_backend: azureblockblob://AccountName=a;AccountKey=a2V5\nazureblockblob_container_name: c\n\
             azureblockblob_base_path: /x/y/\nazure_logs_container: logs\n",
            "s3_bucket: b\ns3_access_key_id: i\ns3_secret_access_key: k\n",
            "result_backend: s3\ns3_region: eu-1\ns3_secret_access_key: k\n",
            "result_backend: s3\ns3_bucket: b\ns3_secret_access_key: k\nazure_logs_container: logs\n",
            "result_backend: rpc://\nhashing_algorithm: RS256\nbs_token: t\nrunners: [docker, {a: b}]\n\"odd\\nname\": 1\n",
        ] {
            let yaml = read(text).yaml("alts_config.yaml");
            let (_, report) = crate::config::check(Path::new("/etc/taskbot.yaml"), &yaml);
            assert!(!report.has_errors(), "{yaml}\n{report}");
        }
        assert!(alts("a", "[1, 2]").unwrap_err().to_string().contains("must be a mapping"));
        assert!(alts("a", "a: [").is_err());
    }
}
