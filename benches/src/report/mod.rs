//! What the results look like on paper.

pub mod growth;
pub mod plot;
pub mod table;
