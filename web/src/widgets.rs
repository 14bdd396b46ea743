//! Parts that any page may have.

pub mod heading;
pub mod inputs;
pub mod markdown;
pub mod notices;
pub mod open;
pub mod problem;
pub mod token;
