//! What the results look like on paper.

pub mod plot;
pub mod table;
