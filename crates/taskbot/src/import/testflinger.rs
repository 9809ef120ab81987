//! The configuration of Testflinger's server: `testflinger.conf` as its first documentation has it, or the environment
//! that today's is started with.

use super::{Imported, quoted};
use model::diagnostic::Report;
use std::collections::BTreeMap;

/// Where gunicorn listens when nothing else is said.
const LISTEN: &str = "127.0.0.1:8000";
/// The longest name of a setting in bytes.
const NAME_BYTES_MAX: usize = 200;

/// The configuration of Testflinger's server in our form.
///
/// # Errors
/// A line is no setting.
pub(crate) fn testflinger(name: &str, text: &str) -> Result<Imported, Report> {
    let reader = model::yaml::Reader::new(name, text);
    let mut entries = BTreeMap::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let span = at..at + line.trim_end().len();
        at += line.len();
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match setting(line) {
            Some((name, value)) => {
                entries.insert(name, value);
            }
            None => reader.error_help(
                &span,
                "this is no setting of Testflinger's server",
                "expected NAME = VALUE, as in testflinger.conf, or NAME=VALUE, as in a file for its environment",
            ),
        }
    }
    if reader.failed() {
        return Err(reader.into_report());
    }
    Ok(of(entries))
}

/// `NAME = 'VALUE'`, `NAME=VALUE`, `export NAME="VALUE"`, and `NAME: VALUE` as a service's description has it.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start_matches("- ");
    let split = line.find(['=', ':'])?;
    let (name, value) = (line[..split].trim(), line[split + 1..].trim());
    let fits = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    fits.then(|| (name.to_owned(), unquoted(value)))
}

/// A value without its quotes, or without the comment behind it.
fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote)
            && let Some((inside, _)) = rest.split_once(quote)
        {
            return inside.to_owned();
        }
    }
    value.split(" #").next().unwrap_or_default().trim().to_owned()
}

fn of(mut entries: BTreeMap<String, String>) -> Imported {
    let mut ours = Imported::default();
    if entries.contains_key("server_address") && entries.contains_key("agent_id") {
        ours.note("this is an agent's configuration: nothing in it changes but server_address");
        for name in entries.into_keys() {
            ours.note(name);
        }
        return ours;
    }
    let mut take = |name: &str| entries.remove(name).filter(|value| !value.is_empty());
    let bound = take("GUNICORN_CMD_ARGS").and_then(|arguments| bind_of(&arguments)).or_else(|| take("BIND"));
    let listen = bound.unwrap_or_else(|| LISTEN.to_owned());
    ours.set("server:");
    ours.set("  # Older agents and command lines show no token: name the networks that they are in.");
    ours.set("  anonymous: {role: submitter, networks: [127.0.0.0/8]}");
    ours.set("interfaces:");
    ours.set("  testflinger:");
    ours.set(format!("    listen: {}", quoted(&listen)));
    if let Some(url) = take("WEBHOOK_URL") {
        let host = reqwest::Url::parse(&url).ok().and_then(|url| {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            url.host_str().map(|host| format!("{host}{port}"))
        });
        ours.set(format!("    webhook_host: {}", quoted(&host.unwrap_or(url))));
    }
    if let Some(token) = take("WEBHOOK_AUTH") {
        ours.set("    webhook_token_file: webhook.token");
        ours.secret("webhook.token", token);
    }
    let vault: Vec<_> = ["TESTFLINGER_VAULT_URL", "TESTFLINGER_VAULT_TOKEN"]
        .into_iter()
        .filter(|name| take(name).is_some())
        .collect();
    if !vault.is_empty() {
        ours.set("    secrets_key_file: testflinger.key");
        ours.note(format!(
            "{}: secrets are sealed in our own database; make the key by `openssl rand -hex 32 > testflinger.key`, and \
             let clients put their secrets once more",
            vault.join(", ")
        ));
    }
    if let Some(path) = take("DATA_PATH") {
        ours.set("files:");
        ours.set(format!("  url: {}", quoted(&format!("file://{}/taskbot", path.trim_end_matches('/')))));
        ours.note(
            "DATA_PATH: what lies there stays with the old server; ours keeps its files in a folder beside",
        );
    }
    let database: Vec<_> = entries
        .keys()
        .filter(|name| name.starts_with("REDIS_") || name.starts_with("MONGODB_") || *name == "MONGO_URI")
        .cloned()
        .collect();
    for name in &database {
        entries.remove(name);
    }
    if !database.is_empty() {
        ours.note(format!(
            "{}: a database of its own comes with taskbot; `database.url` for PostgreSQL",
            database.join(", ")
        ));
    }
    if entries.remove("JWT_SIGNING_KEY").is_some() {
        ours.note("JWT_SIGNING_KEY: the key is made once, and kept in the database; clients ask for new tokens by themselves");
    }
    for (name, value) in entries {
        ours.not_known(&name, &value);
    }
    ours
}

/// The address of `--bind ADDR`, `--bind=ADDR`, `-b ADDR`.
fn bind_of(arguments: &str) -> Option<String> {
    let mut words = arguments.split_whitespace();
    while let Some(word) = words.next() {
        if let Some(address) = word.strip_prefix("--bind=") {
            return Some(address.to_owned());
        }
        if word == "--bind" || word == "-b" {
            return words.next().map(str::to_owned);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Imported {
        testflinger("testflinger.conf", text).unwrap_or_else(|report| panic!("{report}"))
    }

    #[test]
    fn what_is_known_is_set_and_nothing_is_lost() {
        let ours = read(
            "# the server\nMONGODB_HOST=mongo\nMONGODB_PASSWORD=hunter2\nJWT_SIGNING_KEY=abcdef\n\
             GUNICORN_CMD_ARGS=\"--workers 4 --bind 0.0.0.0:8000\"\nWEBHOOK_URL='https://hooks.example.org/status'\n\
             export WEBHOOK_AUTH=sesame\nTESTFLINGER_VAULT_URL=http://vault:8200\nTESTFLINGER_VAULT_TOKEN=v\n\
             HTTP_PROXY=http://proxy:3128\nSOME_API_KEY=xyzzy\n",
        );
        insta::assert_snapshot!(ours.yaml("testflinger.env"), @r#"
        # From testflinger.env.
        # webhook.token: a secret of its own; beside this file, readable by the server only
        server:
          # Older agents and command lines show no token: name the networks that they are in.
          anonymous: {role: submitter, networks: [127.0.0.0/8]}
        interfaces:
          testflinger:
            listen: "0.0.0.0:8000"
            webhook_host: "hooks.example.org"
            webhook_token_file: webhook.token
            secrets_key_file: testflinger.key
        #
        # Taken over in another way, or not needed:
        # - TESTFLINGER_VAULT_URL, TESTFLINGER_VAULT_TOKEN: secrets are sealed in our own database; make the key by `openssl rand -hex 32 > testflinger.key`, and let clients put their secrets once more
        # - MONGODB_HOST, MONGODB_PASSWORD: a database of its own comes with taskbot; `database.url` for PostgreSQL
        # - JWT_SIGNING_KEY: the key is made once, and kept in the database; clients ask for new tokens by themselves
        #
        # Not known, and not taken over:
        # - HTTP_PROXY: http://proxy:3128
        # - SOME_API_KEY: ***
        "#);
        for secret in ["hunter2", "abcdef", "sesame", "xyzzy"] {
            assert!(!ours.yaml("x").contains(secret), "{secret}");
        }
        assert_eq!(ours.secrets, [("webhook.token", "sesame".to_owned())]);
    }

    #[test]
    fn what_is_printed_is_right() {
        for text in [
            "",
            "DATA_PATH = '/srv/testflinger/'\nREDIS_HOST = 'redis'  # the old one\nREDIS_PORT = 6379\n",
            "  BIND: \"[::1]:8000\"\n  - MONGODB_URI=x\n",
            "server_address: http://t:8000\nagent_id: rpi-1\njob_queues: rpi\n",
        ] {
            let yaml = read(text).yaml("testflinger.conf");
            let (_, report) = crate::config::check(Path::new("/etc/taskbot.yaml"), &yaml);
            assert!(!report.has_errors(), "{yaml}\n{report}");
        }
        let wrong = testflinger("t.conf", "A = 1\nimport os\n").unwrap_err().to_string();
        assert!(wrong.contains("2:1") && wrong.contains("no setting"), "{wrong}");
    }
}
