//! Sweeps on NDIF, a service that runs interventions on models which no machine at hand can hold
//! (arXiv 2407.14561).
//!
//! Tokens, alignment, answers and experiments are made here, from configuration and tokenizer alone.
//! What is sent are waves of cells ([`plan`]); what comes back are a few numbers a cell. A helper in
//! Python ([`helper`]) speaks nnsight's protocol, which is pickled Python in both directions, and the
//! program speaks lines of JSON with it ([`protocol`]). What it says comes from somebody else's
//! machine and is checked before it is believed ([`check`]). Command line and server use it by way of a
//! [`Remote`].

pub mod check;
mod error;
pub mod helper;
pub mod plan;
pub mod protocol;
mod remote;
mod run;
mod supported;

pub use error::NdifError;
pub use helper::{Helper, Settings, default_python};
pub use remote::{LOCAL, Place, Remote};
pub use run::{Event, Limits, Listener, MAX_CELLS, Summary, run};
pub use supported::{SITES, check_experiment, check_settings};
