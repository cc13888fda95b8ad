//! The `millstream` program: reads the command line and runs what it asks for.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use millstream::cli::Cli;

fn main() -> ExitCode {
    match millstream::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            millstream::report(&error);
            ExitCode::FAILURE
        }
    }
}
