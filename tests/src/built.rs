//! The programs of this workspace, built once.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The path of a program of this workspace, or of an example: `examples/NAME`. The first call builds them all, which is quick if nothing has
/// changed.
///
/// # Panics
/// If they can't be built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(build).join(name)
}

fn build() -> PathBuf {
    // target/<profile>/deps/<test> or target/<profile>/<program>
    let this = std::env::current_exe().expect("a running program has a path");
    let mut directory = this.parent().expect("a program is in a directory").to_owned();
    if directory.ends_with("deps") {
        directory.pop();
    }
    let is_release = directory.ends_with("release");
    let target = directory.parent().expect("a profile's directory is in the target directory");
    let status = Command::new(env!("CARGO"))
        // The features of every other build: with others, Cargo would build the AWS SDK a second time.
        .args(["build", "--quiet", "--workspace", "--all-features", "--bins", "--examples", "--profile"])
        .arg(if is_release { "release" } else { "dev" })
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the programs can't be built");
    directory
}
