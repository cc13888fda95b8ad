//! The command line: what a person types and what is printed back.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Parser, Subcommand};

use crate::access::links::{self, Links};
use crate::access::passwords;
use crate::config::{Layer, LoadError, Settings, Store};
use crate::identity::{self, DataDir};

/// Bytes that are read of a password.
const PASSWORD_BYTES_MAX: u64 = 1024;

/// An edge streaming server with a media-first pipeline.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all roles in one process; every published stream gets the default graph
    Up {
        /// Roles, `gateway,orchestrator` say
        #[arg(long, value_name = "A,B")]
        roles: Option<String>,
        /// Add a stream `demo` with a moving test picture and a tone
        #[arg(long)]
        demo: bool,
        /// Options of every role
        #[command(flatten)]
        common: Common,
    },
    /// Run a gateway: face publishers and viewers, choose and pay orchestrators
    Gateway {
        /// Orchestrators to choose from, `https://host:8935,...`
        #[arg(long, value_name = "URLS")]
        orchestrators: Option<String>,
        /// Options of every role
        #[command(flatten)]
        common: Common,
    },
    /// Run an orchestrator: process streams for gateways and be paid
    Orchestrator {
        /// Options of every role
        #[command(flatten)]
        common: Common,
    },
    /// Make a link that lets somebody watch (or publish) a stream until a time, without an account
    Link {
        /// The stream
        stream: String,
        /// How long the link is good, in seconds
        #[arg(long, default_value_t = 3600)]
        seconds: u64,
        /// What it allows: read, publish or playback
        #[arg(long, default_value = "read")]
        action: String,
        /// Where people reach the node [default: http:// and http.listen]
        #[arg(long, value_name = "URL")]
        base: Option<String>,
        /// Options of every role
        #[command(flatten)]
        common: Common,
    },
    /// Say which port, address, candidate or client fails, and why
    Doctor {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// Options of every role
        #[command(flatten)]
        common: Common,
    },
    /// Check or print settings
    Config {
        /// What to do with them
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Measure
    Bench {
        /// What to measure
        #[command(subcommand)]
        what: crate::bench::Bench,
    },
}

/// What `config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Say whether settings are right, and where each that is not a default comes from
    Check {
        /// Options of every role
        #[command(flatten)]
        common: Common,
    },
    /// Print the default settings as a file to begin with
    Default,
    /// Read a password from standard input and print its argon2 hash for `auth`
    Hash,
}

/// Options that every role takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// Settings file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where keys, tickets and the ledger are kept [default: data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Bind to all addresses (needs a publish credential)
    #[arg(long)]
    pub public: bool,
    /// Any setting by its name, `rtmp.listen=127.0.0.1:1935` say; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

impl Common {
    /// Settings from all sources: `presets` are the command's own defaults, `flags` its own flags.
    ///
    /// # Errors
    /// What [`Store::open`] refuses, and `--set` without `=`.
    pub fn load(
        &self,
        presets: &[(&str, &str)],
        flags: &[(&str, String)],
    ) -> Result<Store, LoadError> {
        let mut layers = Layer::environment(std::env::vars());
        layers.extend(presets.iter().map(|(name, value)| Layer::preset(name, value)));
        layers.extend(flags.iter().map(|(name, value)| Layer::flag(name, value)));
        if let Some(dir) = &self.data_dir {
            layers.push(Layer::flag("data_dir", &dir.display().to_string()));
        }
        if self.public {
            layers.push(Layer::flag("public", "true"));
        }
        for pair in &self.set {
            let (name, value) = pair.split_once('=').ok_or_else(|| LoadError::Value {
                origin: format!("--set {pair}"),
                key: pair.clone(),
                reason: "write NAME=VALUE".into(),
            })?;
            layers.push(Layer::flag(name.trim(), value.trim()));
        }
        Store::open(layers, self.config.as_deref())
    }
}

/// Runs `config`. Returns the exit code.
///
/// # Errors
/// When the settings are wrong.
#[allow(clippy::print_stdout, reason = "printing is what the command is for")]
pub fn config(action: &ConfigAction) -> anyhow::Result<()> {
    match action {
        ConfigAction::Default => print!("{}", default_file()?),
        ConfigAction::Hash => {
            let mut password = String::new();
            std::io::stdin().take(PASSWORD_BYTES_MAX).read_to_string(&mut password)?;
            let password = password.trim_end_matches(['\r', '\n']);
            anyhow::ensure!(!password.is_empty(), "write the password to standard input");
            println!("{}", passwords::hash(password).map_err(anyhow::Error::msg)?);
        }
        ConfigAction::Check { common } => {
            let loaded = common.load(&[], &[])?.current();
            println!("settings are right");
            for (name, source) in &loaded.sources {
                println!("  {name}  ({source})");
            }
        }
    }
    Ok(())
}

/// Runs `link`: prints the addresses with the signature, a line each.
///
/// # Errors
/// A name, an action or a time that is none, and what keeps the secret from being read.
#[allow(clippy::print_stdout, reason = "printing is what the command is for")]
pub fn link(
    stream: &str,
    seconds: u64,
    action: &str,
    base: Option<&str>,
    common: &Common,
) -> anyhow::Result<()> {
    let settings = common.load(&[], &[])?.current().settings.clone();
    let secret = match settings.auth.link_secret.is_empty() {
        true => identity::link_secret(&DataDir::open(&settings.data_dir)?)?,
        false => settings.auth.link_secret.clone(),
    };
    let base = base.map_or_else(|| format!("http://{}", settings.http.listen), str::to_owned);
    let made =
        links::Made::new(&Links::new(&secret), action, stream, seconds, &base, SystemTime::now())
            .map_err(anyhow::Error::msg)?;
    for (kind, url) in &made.urls {
        println!("{kind}  {url}");
    }
    Ok(())
}

/// The default settings as a file.
///
/// # Errors
/// Never with the settings as they are; the writer may refuse in principle.
pub fn default_file() -> anyhow::Result<String> {
    let body = toml::to_string_pretty(&Settings::default())?;
    Ok(format!(
        "# Millstream settings: every one with its default. Delete what you do not change.\n\
         # Order of strength: flag (--set name=value), environment (MILLSTREAM_SECTION__KEY),\n\
         # changes by the API, this file, default. docs/settings.md says what each one means.\n\n\
         {body}\n\
         # Settings of one stream win over the sections above:\n\
         # [streams.cam]\n\
         # graph = \"default\"\n"
    ))
}
