//! `config …`.

use crate::{
    cli::{ConfigCommand, Format, Global},
    config::{self, Config},
    fault::{self, Fault},
    output::{self, column, paint, text_at},
};
use anyhow::Result;
use serde_json::{Value, json};

/// Carries `config …` out.
pub(super) fn run(command: ConfigCommand, global: &Global) -> Result<u8> {
    match command {
        ConfigCommand::Check { file } => {
            let text = std::fs::read_to_string(&file).map_err(|error| {
                Fault::usage(format!("cannot read the configuration {}: {error}", file.display()))
            })?;
            let report = config::check(&file, &text);
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
                Ok(output::say(format_args!("{word}: {} errors", report.errors()))?)
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
    }
}
