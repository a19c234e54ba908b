//! `fulmar`: the server's command line.

mod cluster;
mod plan;
mod settings;
mod size;

use std::error::Error;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fulmar_server::{Server, Shutdown};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

use crate::settings::Settings;

/// A distributed in-memory cache. Without a command it serves with the defaults.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve RESP and HTTP until SIGTERM or SIGINT; a second one does not wait for the cluster.
    Serve(Box<Settings>),
    /// Look at a running cluster, or change it.
    Cluster(cluster::Arguments),
    /// Tell how many nodes a load needs.
    Plan(plan::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = match arguments.command {
        Some(Command::Serve(settings)) => *settings,
        Some(Command::Cluster(arguments)) => return cluster::run(&arguments),
        Some(Command::Plan(arguments)) => return plan::run(&arguments),
        // The environment still counts.
        None => match Arguments::parse_from(["fulmar", "serve"]).command {
            Some(Command::Serve(settings)) => *settings,
            _ => Settings::default(),
        },
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("FULMAR_LOG").unwrap_or_else(|_| "info".into()))
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .init();
    match serve(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fulmar: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let config = settings.resolve()?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let server = Server::start(config)?;
    println!("{}", greeting(&server));
    let shutdown = server.shutdown();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || drain_at_signal(&mut signals, &shutdown))?;
    Ok(server.join()?)
}

fn drain_at_signal(signals: &mut Signals, shutdown: &Shutdown) {
    let mut signals = signals.forever();
    if let Some(signal) = signals.next() {
        tracing::info!(signal, "draining");
        shutdown.begin();
    }
    if let Some(signal) = signals.next() {
        tracing::info!(signal, "stopping at once");
        shutdown.hurry();
    }
}

/// What a person needs to know at start.
fn greeting(server: &Server) -> String {
    let summary = server.summary();
    let mut text = format!(
        "fulmar {}: {} shards on CPUs {:?}, dispatch {}, eviction {}\n\
         memory: limit {} for data and connections, plus a fixed base of {} at most\n\
         resp listening on {}\n",
        env!("CARGO_PKG_VERSION"),
        summary.shards,
        summary.cpus,
        summary.dispatch.name(),
        summary.eviction.name(),
        size::Size(summary.memory_bytes_max),
        size::Size(summary.base_bytes_max),
        summary.resp,
    );
    if let Some(http) = summary.http {
        text.push_str(&format!("http listening on {http}\n"));
    }
    text.push_str(&format!(
        "try: redis-cli -h {} -p {} SET greeting hello\n",
        summary.resp.ip(),
        summary.resp.port()
    ));
    if let Some(http) = summary.http {
        text.push_str(&format!("try: curl http://{http}/greeting\n"));
    }
    text
}
