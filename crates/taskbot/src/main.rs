//! taskbot, the one binary: command line, configuration, wiring and lifecycle.
//!
//! It decides nothing about events, rules or tasks: the other crates do, and it puts them together. It is the
//! only crate that reads the environment and writes to standard output.
//!
//! The modules stand in the order of a command's way: the command line ([`cli`]), the configuration
//! ([`config`], and those of other systems, [`import`]), the server that it talks to ([`client`]), what it does ([`commands`]) and shows ([`output`]);
//! then what runs a server and a worker in this process ([`server`]), and the [`demo`] on top of all.

mod fault;

mod cli;
mod config;
mod import;
mod logging;

mod client;

mod output;

mod commands;

mod server;

mod demo;

use std::process::ExitCode;

fn main() -> ExitCode {
    let (cli, given) = match cli::parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version go to standard output with 0, mistakes to standard error with 2.
            let code = u8::try_from(error.exit_code()).unwrap_or(fault::USAGE);
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::from(fault::INFRA),
            };
        }
    };
    match commands::run(cli, &given) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = fault::exit_code(&error);
            if code != fault::DONE {
                output::error(&error);
            }
            ExitCode::from(code)
        }
    }
}
