//! `config …`.

use crate::{
    cli::{ConfigCommand, Format, Global},
    config::{self, Config},
    fault::{self, Fault},
    import,
    output::{self, column, paint, text_at},
};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Carries `config …` out.
pub(super) fn run(command: ConfigCommand, global: &Global) -> Result<u8> {
    match command {
        ConfigCommand::Check { file } => {
            let text = std::fs::read_to_string(&file).map_err(|error| {
                Fault::unread(format_args!("the configuration {}", file.display()), &error)
            })?;
            let (loaded, report) = config::check(&file, &text);
            let server = loaded.as_ref().map(|loaded| &loaded.config.server);
            // Whether there are tokens, only the database knows.
            let reachable = server.filter(|server| server.anonymous.is_none() && server.jwt.is_empty());
            let reachable = reachable.map(|server| server.listen).filter(|listen| !listen.ip().is_loopback());
            let found = json!({"ok": !report.has_errors(), "diagnostics": report.diagnostics});
            output::document(global.output, &found, || {
                if !report.diagnostics.is_empty() {
                    output::note(report.render(std::io::IsTerminal::is_terminal(&std::io::stderr())));
                }
                let word = if report.has_errors() {
                    paint(output::bad(), "wrong")
                } else {
                    paint(output::good(), "ok")
                };
                output::say(format_args!("{word}: {}", output::counted(report.errors(), "error")))?;
                if let Some(listens) = reachable {
                    let text = "can be reached from other machines: the server starts there only once there are tokens";
                    output::note(format_args!(
                        "{listens} {text}; `taskbot doctor` looks whether there are any"
                    ));
                }
                Ok(())
            })?;
            Ok(if report.has_errors() { fault::FAILED } else { fault::DONE })
        }
        ConfigCommand::Show { origin } => {
            let loaded = Config::load(global.config.as_deref())?.lay_environment_over()?;
            let rows: Vec<Value> = loaded
                .rows()
                .into_iter()
                .map(|row| json!({"path": row.path, "value": row.value, "origin": row.origin}))
                .collect();
            if global.output == Format::Table || origin {
                let mut columns = vec![
                    column("PATH", |row| text_at(row, "path")),
                    column("VALUE", |row| text_at(row, "value")),
                ];
                if origin {
                    columns.push(column("ORIGIN", |row| text_at(row, "origin")));
                }
                output::list(global.output, &rows, &columns, "nothing")?;
            } else {
                output::document(global.output, &loaded.values(), || Ok(()))?;
            }
            Ok(fault::DONE)
        }
        ConfigCommand::Import { alts, testflinger, secrets } => {
            let imported = match (&alts, &testflinger) {
                (Some(file), _) => import::alts(&file.display().to_string(), &foreign(file)?),
                (None, Some(file)) => import::testflinger(&file.display().to_string(), &foreign(file)?),
                (None, None) => return Err(Fault::usage("give --alts FILE or --testflinger FILE").into()),
            };
            let imported = imported.map_err(|report| {
                Fault::usage(report.render(std::io::IsTerminal::is_terminal(&std::io::stderr())))
            })?;
            let file = alts.or(testflinger).unwrap_or_default();
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            output::write(imported.yaml(&name).as_bytes())?;
            for line in &imported.unknown {
                output::note(paint(output::odd(), format_args!("not known, and not taken over: {line}")));
            }
            write_secrets(&imported.secrets, secrets.as_deref())?;
            Ok(fault::DONE)
        }
    }
}

/// The text of another system's configuration.
fn foreign(file: &Path) -> Result<String, Fault> {
    let wrong = |error: std::io::Error| Fault::unread(file.display(), &error);
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(wrong)?;
    opened.take(import::IMPORT_BYTES_MAX + 1).read_to_string(&mut text).map_err(wrong)?;
    if text.len() as u64 > import::IMPORT_BYTES_MAX {
        let most = import::IMPORT_BYTES_MAX;
        return Err(Fault::usage(format!("{} has more than {most} bytes", file.display())));
    }
    Ok(text)
}

/// Writes secrets into files that only their owner reads, and never over one; their folder is made.
fn write_secrets(secrets: &[(&str, String)], folder: Option<&Path>) -> Result<()> {
    if let Some(folder) = folder.filter(|_| !secrets.is_empty()) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| Fault::usage(format!("cannot make {}: {error}", folder.display())))?;
    }
    for (name, text) in secrets {
        let Some(folder) = folder else {
            output::note(format_args!("{name} is to be written: give --secrets DIR, or write it by hand"));
            continue;
        };
        let path = folder.join(name);
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                output::note(format_args!("{} is there already, and left alone", path.display()));
                continue;
            }
            Err(error) => {
                return Err(Fault::usage(format!("cannot write {}: {error}", path.display())).into());
            }
        };
        writeln!(file, "{text}").with_context(|| format!("cannot write {}", path.display()))?;
        output::note(format_args!("{} is written", path.display()));
    }
    Ok(())
}
