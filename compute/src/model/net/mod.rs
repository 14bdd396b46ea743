//! The forward pass of rows: the network, its one block, and what blocks are made of.

mod attention;
mod batched_attention;
mod block;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "no_cuda.rs"]
mod cuda;
mod device_spans;
mod elementwise;
mod functions;
mod indices;
mod linear;
mod network;
mod norm;
mod packed;
mod padded;
mod put;
mod rotary;
mod rows;
mod stream;

pub use attention::KeysValues;
pub use block::{Block, BlockRows, Hook, Shared};
pub use device_spans::DeviceSpans;
pub use functions::{dot, exp, reduced, vectorised};
pub use indices::{Indices, Slice, Uploaded};
pub use linear::Linear;
pub use network::{Network, Unembedding};
pub use padded::{MOST_PADDING, PaddedSpans};
pub use put::{put_rows, standard_normal};
pub use rotary::Rotary;
pub use rows::{Span, contiguous, index};
pub use stream::{BlockPass, PIECE_ROWS};
