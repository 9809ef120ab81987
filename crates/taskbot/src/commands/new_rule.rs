//! `rule new`: a rule with a test from a real event.

use super::{explain::Named, rule};
use crate::{
    cli::{Global, NewRule},
    fault::{self, Fault},
    output::{self, paint},
};
use anyhow::{Context as _, Result};
use rules::{
    registry::REGISTRY_FILE,
    rule_new::{NewError, Wanted, write},
    schema,
};
use serde_json::json;
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

/// Where the schema of rule files lies in a rules folder whose authors want completion.
const SCHEMA_FILE: &str = "rules.schema.json";

/// Carries `rule new` out.
///
/// # Errors
/// The event cannot be had, a name is none, or a file is there already.
pub(super) fn run(args: &NewRule, global: &Global) -> Result<u8> {
    let named = Named::of(&args.from_event)?;
    let event = super::block_on(named.event(global))?;
    let inputs: Vec<&str> = args.inputs.iter().map(String::as_str).collect();
    let wanted = Wanted {
        event: &event,
        task: &args.task,
        inputs: &inputs,
        name: args.name.as_deref(),
        fixture: args.fixture,
    };
    let mut written = write(&wanted).map_err(|error| match error {
        NewError::Refused(_) => Fault::new(fault::FAILED, error.to_string()),
        NewError::Event(_) | NewError::Name(_) => Fault::usage(error.to_string()),
    })?;
    if !args.print {
        check_task(&args.path, &args.task, global)?;
    }
    if args.path.join(SCHEMA_FILE).is_file() {
        written.text.insert_str(0, &schema::modeline(SCHEMA_FILE));
    }
    if args.print {
        output::write(written.text.as_bytes())?;
        return Ok(fault::DONE);
    }
    let files = std::iter::once((&written.path, &written.text));
    let files: Vec<_> = files.chain(written.fixture.as_ref().map(|(path, text)| (path, text))).collect();
    // None is written when one is there already.
    for (path, _) in &files {
        let path = args.path.join(path);
        if path.exists() {
            let message = format!("{} is there already; give another name", path.display());
            return Err(Fault::new(fault::CONFLICT, message).into());
        }
    }
    for (path, text) in &files {
        write_new(&args.path.join(path), text)?;
    }
    let made = json!({
        "rule": written.name,
        "files": files.iter().map(|(path, _)| args.path.join(path)).collect::<Vec<_>>(),
    });
    output::document(global.output, &made, || {
        for (path, _) in &files {
            output::say(args.path.join(path).display())?;
        }
        output::note(format_args!(
            "rule {} with a test; next: taskbot rule check {dir}, taskbot rule test {dir}",
            paint(output::title(), &written.name),
            dir = args.path.display()
        ));
        Ok(())
    })?;
    // What is wrong with it beside the others (an unknown task, a name that is taken) is told at once.
    rule::check_quietly(&args.path, global)?;
    Ok(fault::DONE)
}

/// Refuses a task that the folder does not register. A folder whose rules are wrong is told of when the rule is written.
fn check_task(folder: &Path, task: &str, global: &Global) -> Result<(), Fault> {
    if !folder.is_dir() {
        let message =
            format!("there is no folder {}; give the one with the rules (--path)", folder.display());
        return Err(Fault::new(fault::NOT_FOUND, message));
    }
    let Ok(files) = rules::read_folder(folder) else { return Ok(()) };
    let Ok(compiled) = rules::compile(&files, &rule::options(global).unwrap_or_default()) else {
        return Ok(());
    };
    let tasks = compiled.rule_set.tasks();
    if tasks.get(task).is_some() {
        return Ok(());
    }
    let near = tasks.nearest(task).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    let file = folder.join(REGISTRY_FILE);
    let message = format!(
        "there is no task `{task}`{near}; register it in {} first, or print the rule with --print",
        file.display()
    );
    Err(Fault::new(fault::NOT_FOUND, message))
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut file = File::create_new(path).with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
