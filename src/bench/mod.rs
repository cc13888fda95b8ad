//! `millstream bench`: measures this program, beside a peer or a floor in the same run.

use anyhow::Result;
use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {}

/// Runs a measurement and prints it.
///
/// # Errors
/// When it cannot be carried out.
pub fn run(what: Bench) -> Result<()> {
    match what {}
}
