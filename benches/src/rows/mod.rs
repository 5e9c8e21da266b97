//! The rows of the table, each in a file of its own.

use crate::row::Row;

mod build;
mod cancel;
mod cleanup;
mod cores;
mod echo;
mod http;
mod latency;
mod memory;
mod nested;
mod offload;
mod ping_pong;
mod process;
mod recording;
pub mod servers;
mod spawn;
mod switch;
mod timer;

pub const ROWS: &[Row] = &[
    spawn::ROW,
    switch::ROW,
    nested::ROW,
    timer::MADE,
    timer::TIMEOUT,
    timer::FIRED,
    memory::ROW,
    ping_pong::ROW,
    echo::ROW,
    http::ROW,
    offload::ROW,
    process::ROW,
    build::ROW,
    cancel::ROW,
    cleanup::ROW,
    latency::ROW,
    cores::JOBS,
    cores::MAP,
    cores::TEAM,
    cores::LATENESS,
    servers::ECHO,
    servers::HTTP,
    recording::ROW,
];
