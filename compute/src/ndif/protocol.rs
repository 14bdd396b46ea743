//! What the program and its helper say to each other: an object of JSON a line, each way.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// What the program asks.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ask<'a> {
    /// Looks at the server, and at a model there, without running anything.
    Open {
        /// The server's address, or `local` for the helper's own process.
        host: Option<&'a str>,
        /// An id of the hub.
        model: &'a str,
        /// The folder with its configuration; of `local` with its weights, too.
        folder: &'a Path,
        /// The commit or branch; `None` for the one that the server runs.
        revision: Option<&'a str>,
    },
    /// Runs waves, in one request.
    Sweep {
        /// The pairs.
        pairs: Vec<AskPair<'a>>,
        /// How many of the most probable tokens are asked for.
        n_top: usize,
    },
}

/// A pair of prompts and waves of patches.
#[derive(Debug, Clone, Serialize)]
pub struct AskPair<'a> {
    /// Which pair, an index that comes back.
    pub pair: usize,
    /// The tokens of base and source.
    pub runs: [&'a [u32]; 2],
    /// The tokens of the true answer.
    pub true_ids: &'a [u32],
    /// The tokens of the false answer.
    pub false_ids: &'a [u32],
    /// What is patched.
    pub waves: Vec<AskWave>,
}

/// Patches of one run that go through the layers together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AskWave {
    /// Which of the runs receives.
    pub base: usize,
    /// The cells, those of the lowest layers first.
    pub cells: Vec<AskCell>,
}

/// One patch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AskCell {
    /// A number that comes back.
    pub cell: usize,
    /// The activation by its name.
    pub site: &'static str,
    /// The layer.
    pub layer: usize,
    /// What is written: a position of the receiving run, a run, and its position.
    pub writes: Vec<[usize; 3]>,
}

/// What the helper says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Answer {
    /// The server and the model that was asked for.
    Opened(Opened),
    /// Something to show.
    Said {
        /// The text.
        text: String,
    },
    /// It is still there.
    Alive,
    /// Both unpatched runs of a pair.
    Runs {
        /// Which pair.
        pair: usize,
        /// Base and source.
        numbers: Numbers,
    },
    /// A wave.
    Wave {
        /// Which pair.
        pair: usize,
        /// The cells that were asked for, in their order.
        cells: Vec<usize>,
        /// One each.
        numbers: Numbers,
    },
    /// All that was asked for has been computed.
    Done {
        /// Bytes that were sent.
        n_sent: u64,
        /// Bytes that came.
        n_received: u64,
    },
    /// It went wrong.
    Failed {
        /// The kind of failure.
        reason: Reason,
        /// The server's words.
        message: String,
    },
}

/// A server with a model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Opened {
    /// The server's address without a scheme.
    pub host: String,
    /// The version of nnsight here.
    pub nnsight: String,
    /// The version of nnsight there, where the server tells.
    pub server_nnsight: Option<String>,
    /// The version of NDIF there, where the server tells.
    pub ndif: Option<String>,
    /// Whether the model is loaded, and what else the server says of it.
    pub state: String,
    /// The type that is computed in, as torch calls it, where the server tells.
    pub dtype: Option<String>,
    /// How long a request may take, in seconds.
    pub time_limit_secs: Option<f64>,
    /// Whether the key's requests run in the model's process, where the server tells.
    pub is_trusted: Option<bool>,
}

impl Opened {
    /// The same with every text as `shown` makes it.
    pub(super) fn shown(self, shown: &dyn Fn(&str) -> String) -> Self {
        let some = |text: Option<String>| text.map(|text| shown(&text));
        Self {
            host: shown(&self.host),
            nnsight: shown(&self.nnsight),
            server_nnsight: some(self.server_nnsight),
            ndif: some(self.ndif),
            state: shown(&self.state),
            dtype: some(self.dtype),
            ..self
        }
    }
}

/// What the last position says, a number for each row.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Numbers {
    /// `logsumexp` of the true answer's logits.
    pub log_true: Vec<f32>,
    /// `logsumexp` of the false answer's.
    pub log_false: Vec<f32>,
    /// `logsumexp` of all logits.
    pub log_all: Vec<f32>,
    /// How many tokens have a larger logit than any of the true answer's.
    pub above_true: Vec<u32>,
    /// The same of the false answer.
    pub above_false: Vec<u32>,
    /// KL from base and from source, in nats.
    pub divergence: [Vec<f32>; 2],
    /// The tokens with the largest logits, the largest first.
    pub top: Vec<Vec<u32>>,
    /// Their logits.
    pub top_logits: Vec<Vec<f32>>,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No key, or a wrong one.
    Key,
    /// The server does not have the model.
    Model,
    /// A setting, a model's family or a version does not fit.
    Unsupported,
    /// Nobody answers.
    Unreachable,
    /// It took longer than the server allows.
    TimeOut,
    /// More was sent than the server takes.
    TooLarge,
    /// The server's memory did not suffice.
    Memory,
    /// Anything else.
    Other,
}

impl Reason {
    /// What happened.
    pub fn what(self) -> &'static str {
        match self {
            Self::Key => "the server does not accept the key",
            Self::Model => "the server does not run this model",
            Self::Unsupported => "the server, the helper and this model do not fit together",
            Self::Unreachable => "the server cannot be reached",
            Self::TimeOut => "the request took longer than the server allows",
            Self::TooLarge => "the request is larger than the server takes",
            Self::Memory => "the server ran out of memory",
            Self::Other => "the request failed",
        }
    }

    /// What to do, after a semicolon.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Key => "; set NDIF_API_KEY to a key of this server",
            Self::Model => {
                "; its status page lists those that it runs, and its operator may add one"
            }
            Self::Unsupported => "; see docs/ndif.md for what is supported",
            Self::Unreachable => "; see whether NDIF_HOST or `--ndif-host` names it, and try again",
            Self::TimeOut | Self::TooLarge | Self::Memory | Self::Other => "",
        }
    }
}
