//! A model on a server: opened there, and swept through a helper that is started when there is need
//! of one.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use shared::specification::vocabulary::UNKNOWN;

use super::protocol::{Answer, Ask, Opened};
use super::{Event, Helper, Limits, Listener, NdifError, Settings, Summary, run};
use crate::experiment::{Experiment, Part};
use crate::model::{Description, Elsewhere, VERSION};

/// The host that is no server.
pub const LOCAL: &str = "local";
/// A server that was asked longer ago may have become another.
const FRESH: Duration = Duration::from_secs(60);
/// A longer time limit is none.
const MAX_LIMIT_SECS: f64 = 1e6;

/// A model, and where it is asked for.
#[derive(Debug, Clone)]
pub struct Place {
    /// The server's address, or [`LOCAL`] for the helper's own process; `None` for what `NDIF_HOST`
    /// names or nnsight is configured for.
    pub host: Option<String>,
    /// An id of the hub.
    pub name: String,
    /// The commit or branch; `None` for the one that the server runs.
    pub revision: Option<String>,
    /// The folder with its configuration and tokenizer; of [`LOCAL`] with its weights, too.
    pub folder: PathBuf,
}

/// A model on a server.
pub struct Remote {
    place: Place,
    settings: Settings,
    /// What is known of the model since it was opened for the first time.
    model: OnceLock<Description>,
    connection: Mutex<Option<Connection>>,
}

/// A helper that has opened the model.
struct Connection {
    helper: Helper,
    time_limit: Option<Duration>,
    asked_at: Instant,
}

impl Remote {
    /// A model that is not opened yet.
    pub fn new(place: Place, settings: Settings) -> Self {
        Self { place, settings, model: OnceLock::new(), connection: Mutex::default() }
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// What is known of the model; `None` until it is opened.
    pub fn model(&self) -> Option<&Description> {
        self.model.get()
    }

    /// Asks the server for the model, and says what it is, in a line. A model that does not run there
    /// is asked for, which takes its time.
    ///
    /// # Errors
    /// A helper that cannot be started, a server that cannot be reached, a model that cannot be had
    /// there, or that is not computed as it was when it was opened before.
    pub fn open(&self, listener: &mut Listener) -> Result<String, NdifError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let (new, line) = self.connected(connection.take(), listener)?;
        *connection = Some(new);
        Ok(line)
    }

    /// Sweeps `table`, of which `begun` has what arrived before an interruption.
    ///
    /// # Errors
    /// As for [`Self::open`] and [`run`].
    pub fn sweep(
        &self,
        table: &[&Experiment],
        begun: &[Part],
        limits: Limits,
        listener: &mut Listener,
    ) -> Result<Summary, NdifError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = match connection.take() {
            Some(connection) if connection.asked_at.elapsed() < FRESH => connection,
            old => self.connected(old, listener)?.0,
        };
        let model = self.model.get().expect("it is connected");
        let limits = Limits { time_limit: new.time_limit, ..limits };
        // A helper in the middle of a request hears nothing else: after a failure, another is started.
        let summary = run(&mut new.helper, model, table, begun, limits, listener)?;
        *connection = Some(new);
        Ok(summary)
    }

    fn connected(
        &self,
        old: Option<Connection>,
        listener: &mut Listener,
    ) -> Result<(Connection, String), NdifError> {
        if let Some(old) = old {
            match self.asked(old.helper, listener) {
                // While nobody had a use for it.
                Err(NdifError::Died(_)) => {}
                outcome => return outcome,
            }
        }
        self.asked(Helper::start(&self.settings)?, listener)
    }

    fn asked(
        &self,
        mut helper: Helper,
        listener: &mut Listener,
    ) -> Result<(Connection, String), NdifError> {
        let Place { host, name, revision, folder } = &self.place;
        helper.ask(&Ask::Open {
            host: host.as_deref(),
            model: name,
            folder,
            revision: revision.as_deref(),
        })?;
        let opened = loop {
            match helper.answer(&mut || listener(Event::Waiting).is_break())? {
                Answer::Opened(opened) => break opened,
                Answer::Said { text } => {
                    if let ControlFlow::Break(()) = listener(Event::Said(&text)) {
                        return Err(NdifError::Cancelled);
                    }
                }
                Answer::Alive => {}
                Answer::Failed { reason, message } => {
                    return Err(NdifError::Failed { reason, message });
                }
                _ => return Err(NdifError::bad("found numbers before a model")),
            }
        };
        let elsewhere = self.elsewhere(&opened);
        let model = match self.model.get() {
            Some(model) => model,
            None => {
                let model = Description::of_folder(folder, &elsewhere)?;
                self.model.get_or_init(|| model)
            }
        };
        // Ids and documents are of what was said first.
        let said =
            |dtype: &str, device: &str, engine: &str| format!("{dtype} on {device} by {engine}");
        let before = said(&model.dtype, &model.device, &model.engine);
        let now = said(&elsewhere.dtype, &elsewhere.device, &elsewhere.engine);
        if before != now {
            return Err(NdifError::Changed { name: name.clone(), before, now });
        }
        let time_limit = opened.time_limit_secs.filter(|secs| *secs > 0.0 && secs.is_finite());
        let time_limit = time_limit.map(|secs| Duration::from_secs_f64(secs.min(MAX_LIMIT_SECS)));
        let line = line(model, &opened);
        Ok((Connection { helper, time_limit, asked_at: Instant::now() }, line))
    }

    /// What the description of the model says of where it is computed.
    fn elsewhere(&self, opened: &Opened) -> Elsewhere {
        let dtype = match opened.dtype.as_deref().map(|dtype| dtype.trim_start_matches("torch.")) {
            Some("float32") => "f32",
            Some("bfloat16") => "bf16",
            Some("float16") => "f16",
            Some(other) => other,
            None => UNKNOWN,
        };
        let ndif = opened.ndif.as_ref().map(|version| format!(", ndif {version}"));
        Elsewhere {
            name: self.place.name.clone(),
            revision: self.place.revision.clone(),
            dtype: dtype.to_string(),
            device: format!("ndif {}", opened.host),
            engine: format!(
                "patchboard {VERSION}, nnsight {}{}",
                opened.server_nnsight.as_ref().unwrap_or(&opened.nnsight),
                ndif.unwrap_or_default()
            ),
        }
    }
}

/// The server and the model there, in a line.
fn line(model: &Description, opened: &Opened) -> String {
    let limit = match opened.time_limit_secs {
        Some(secs) => format!("{secs:.0} s a request at most"),
        None => "no time limit known".into(),
    };
    let key = match opened.is_trusted {
        Some(true) => ", with a trusted key",
        Some(false) => ", with a key whose requests run in a sandbox, which is slower",
        None => "",
    };
    format!(
        "{}: {} layers of width {} on {} ({}), {}, computed in {}, {limit}{key}",
        model.name,
        model.config.n_layers,
        model.config.d_model,
        model.device,
        model.engine,
        opened.state,
        model.dtype
    )
}
