//! A real Prometheus that scrapes a relay, if this machine has one.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Uri, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{PATIENCE, browser::in_path, programs::Process};

/// Names the program, if it is not `prometheus` in the path.
pub const PROMETHEUS_VARIABLE: &str = "STREAMBOX_TEST_PROMETHEUS";

/// A Prometheus with a directory of its own.
#[derive(Debug)]
pub struct Prometheus {
    address: String,
    _process: Process,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts the Prometheus of this machine, which scrapes `target` (host and port) and evaluates `rules` several times a second. If
    /// there is none, this prints so and returns none; in CI it panics.
    ///
    /// # Panics
    /// If there is none though the variable `CI` is set, or it does not start.
    pub async fn start(target: &str, rules: &Path) -> Option<Self> {
        let named = std::env::var_os(PROMETHEUS_VARIABLE).map(PathBuf::from);
        let Some(program) = named.or_else(|| in_path("prometheus")) else {
            let missing = format!("there is no Prometheus: see infra/prometheus/install, or set {PROMETHEUS_VARIABLE}");
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("SKIPPED: {missing}");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("streambox-prometheus-").tempdir().expect("a directory");
        // JSON is YAML.
        let configuration = json!({
            "global": { "scrape_interval": "200ms", "evaluation_interval": "200ms" },
            "rule_files": [rules],
            "scrape_configs": [{ "job_name": "relay", "static_configs": [{ "targets": [target] }] }],
        });
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, configuration.to_string()).expect("the directory can be written to");
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", directory.path().join("data").display()),
            "--web.listen-address=127.0.0.1:0".to_owned(),
        ];
        let mut process = Process::start_other(program, arguments);
        let line = process.log_line("msg=\"Listening on\"").await;
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("no address: {line}")).to_owned();
        process.logs("Server is ready to receive web requests").await;
        Some(Self { address, _process: process, _directory: directory })
    }

    /// What a query gives now: samples, each with its labels (`metric`) and its time and value (`value`).
    ///
    /// # Panics
    /// If the query is refused, or the answer does not come within [`PATIENCE`].
    pub async fn query(&self, query: &str) -> Vec<Value> {
        let encoded: Vec<_> = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let encoded = encoded.concat();
        let uri: Uri = format!("http://{}/api/v1/query?query={encoded}", self.address).parse().expect("a URI");
        let asked = async {
            let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
            let answer = client.get(uri).await.expect("Prometheus answers");
            answer.into_body().collect().await.expect("the answer is whole").to_bytes()
        };
        let answer = timeout(PATIENCE, asked).await.expect("Prometheus answers in time");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().expect("a vector").clone()
    }

    /// What a query gives as soon as it gives something. There is no signal, so this asks again and again.
    ///
    /// # Panics
    /// As [`query`](Self::query), or if it gives nothing within [`PATIENCE`].
    pub async fn query_until_some(&self, query: &str) -> Vec<Value> {
        let asked = async {
            loop {
                let found = self.query(query).await;
                if !found.is_empty() {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{query} gives nothing"))
    }
}
