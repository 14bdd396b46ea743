//! Fields as maps: heatmap, cursor, tooltip, profiles, table, controls, downloads.

pub mod chart;
pub mod columns;
pub mod controls;
pub mod cursor;
pub mod export;
pub mod grids;
pub mod heatmap;
pub mod picture;
pub mod pixels;
pub mod plot;
pub mod profile;
pub mod readout;
pub mod steps;
pub mod strips;
pub mod table;
pub mod tooltip;
