//! A headless Chromium: what a page looks like to a browser, its script and its content security policy included.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::PATIENCE;

/// Names the browser, if it is not chromium, chromium-browser, google-chrome or google-chrome-stable.
pub const BROWSER_VARIABLE: &str = "STREAMBOX_TEST_CHROMIUM";

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A browser with a profile of its own.
#[derive(Debug)]
pub struct Browser {
    program: PathBuf,
    profile: TempDir,
}

/// A page as the browser has it.
#[derive(Debug)]
pub struct Page {
    /// The document, after its scripts have run for a while.
    pub dom: String,
    /// What was written to the console: errors, and what the content security policy has refused.
    pub console: Vec<String>,
}

impl Browser {
    /// The browser of this machine. If there is none, this prints so and returns none; in CI it panics.
    ///
    /// # Panics
    /// If there is none though the variable `CI` is set.
    #[must_use]
    pub fn find() -> Option<Self> {
        let named = std::env::var_os(BROWSER_VARIABLE).map(PathBuf::from);
        let Some(program) = named.or_else(|| NAMES.into_iter().find_map(in_path)) else {
            let missing = format!("there is no Chromium: install the package `chromium`, or set {BROWSER_VARIABLE}");
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("SKIPPED: {missing}");
            return None;
        };
        let profile = tempfile::Builder::new().prefix("streambox-browser-").tempdir().expect("a directory");
        Some(Self { program, profile })
    }

    /// Opens a page and lets its timers run for this many milliseconds of the page's own time.
    ///
    /// # Panics
    /// If the browser does not start, fails, or does not end within [`PATIENCE`].
    pub async fn open(&self, url: &str, milliseconds: u32) -> Page {
        let (dom, log) = self.run(&[&format!("--virtual-time-budget={milliseconds}"), "--dump-dom", url]).await;
        let console = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
        Page { dom, console }
    }

    /// Draws a page into a PNG file.
    ///
    /// # Panics
    /// As [`open`](Self::open).
    pub async fn draw(&self, url: &str, file: &Path, (width, height): (u32, u32), is_dark: bool) {
        let (shot, size) = (format!("--screenshot={}", file.display()), format!("--window-size={width},{height}"));
        let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!is_dark));
        self.run(&[&shot, &size, &scheme, "--hide-scrollbars", "--virtual-time-budget=1000", url]).await;
    }

    async fn run(&self, arguments: &[&str]) -> (String, String) {
        let mut command = Command::new(&self.program);
        command
            .args(["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"])
            .args(["--no-proxy-server", "--disable-background-networking", "--enable-logging=stderr"])
            // As root, which is what a container often is, its sandbox does not work. It opens nothing but our own page.
            .arg("--no-sandbox")
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await.expect("the browser ends").expect("the browser starts");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{} failed:\n{log}", self.program.display());
        (String::from_utf8_lossy(&output.stdout).into_owned(), log)
    }
}

pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file())
}
