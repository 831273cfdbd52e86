//! What the demo does by the programs, as a user would: it runs them and reads what they print.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::{Deserialize, de::DeserializeOwned};
use streambox_tests::programs::program;
use tokio::process::Command;

use crate::Failure;

/// What `streambox import --format json` prints.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Imported {
    pub(crate) events: u64,
    pub(crate) already_there: u64,
    pub(crate) streams: u64,
    pub(crate) appends: u64,
    pub(crate) seconds: f64,
    pub(crate) write_units: f64,
}

impl Imported {
    /// A part of a log, and then all of it.
    pub(crate) fn and_then(self, whole: Self) -> Self {
        Self {
            already_there: whole.already_there.saturating_sub(self.events),
            appends: self.appends + whole.appends,
            seconds: self.seconds + whole.seconds,
            write_units: self.write_units + whole.write_units,
            ..whole
        }
    }
}

/// What `streambox-relay drain --format json` prints.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Relayed {
    pub(crate) published: u64,
    pub(crate) entries_deleted: u64,
    pub(crate) seconds: f64,
    pub(crate) events_per_second: f64,
}

impl Relayed {
    /// One run, and another one.
    #[expect(clippy::cast_precision_loss, reason = "a rate is for reading")]
    pub(crate) fn and_then(self, next: Self) -> Self {
        let until_last = |one: &Self| one.published as f64 / one.events_per_second.max(0.001);
        let published = self.published + next.published;
        Self {
            published,
            entries_deleted: self.entries_deleted + next.entries_deleted,
            seconds: self.seconds + next.seconds,
            events_per_second: published as f64 / (until_last(&self) + until_last(&next)).max(0.001),
        }
    }
}

/// `streambox table create`.
pub(crate) async fn create_table(table: &str) -> Result<(), Failure> {
    let mut create = Command::new(program("streambox"));
    printed(create.args(["table", "create", "--format", "json", "--table", table])).await.map(|_: serde_json::Value| ())
}

/// `streambox import`.
pub(crate) async fn import(file: &Path, table: &str) -> Result<Imported, Failure> {
    let mut import = Command::new(program("streambox"));
    printed(import.arg("import").arg(file).args(["--format", "json", "--table", table])).await
}

/// `streambox-relay drain`.
pub(crate) async fn drain(table: &str, exchange: &str) -> Result<Relayed, Failure> {
    let mut drain = Command::new(program("streambox-relay"));
    drain.args(["drain", "--format", "json", "--log", "warn,lapin=off", "--table", table, "--exchange", exchange]);
    printed(&mut drain).await
}

/// Runs a program and reads what it prints. What it logs, and its progress bar, go where ours go.
async fn printed<T: DeserializeOwned>(command: &mut Command) -> Result<T, Failure> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = child.wait_with_output().await?;
    let name = PathBuf::from(command.as_std().get_program());
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    if !output.status.success() {
        return Err(format!("`{name}` has failed ({}); what it says stands above", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
