//! What an operator sees and does: both programs' commands, logs, status, health and metrics, and what things cost.

mod cli;
mod cost;
mod emf;
mod health;
mod logs;
mod observations;
mod observe;
mod programs;
mod reservations;
mod scale;
mod setup;
mod slow_link;
mod spans;
mod status;
mod status_page;
mod telemetry;
