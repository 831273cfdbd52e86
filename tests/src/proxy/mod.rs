//! An HTTP proxy between a program and DynamoDB. A process can't be given another HTTP client, as [`wire`](crate::wire) does
//! it; it can be given another end point.
//!
//! Each request is first shown to a *gatekeeper*, which forwards, holds, splits or refuses it; what comes back is shown to a
//! *fault*, which may alter or lose it.

mod http;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::fault::{Exchange, Fault};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Passage {
    /// It goes through.
    Forward,
    /// It goes through; the answer waits until the gate opens.
    Hold(Gate),
    /// Of a `BatchWriteItem` the first half goes through, the rest is reported as unprocessed.
    Split,
    /// It does not go through.
    Refuse(Refusal),
}

/// An answer that DynamoDB gives without doing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The table's capacity is used up (400).
    ThroughputExceeded,
    /// The account's rate is (400).
    Throttled,
    /// A transaction is cancelled (400): the reason's code, `ThrottlingError` for instance.
    Cancelled(&'static str),
    /// Something is wrong inside (500).
    InternalError,
    /// The service is away (503).
    Unavailable,
    /// The request does not fit the table (400): what DynamoDB says.
    Invalid(&'static str),
    /// The role lacks a permission (400).
    Denied {
        /// The action, `dynamodb:Query` for instance.
        action: &'static str,
        /// What it is refused on, behind the account in its ARN: `table/orders` for instance.
        resource: &'static str,
    },
}

/// The principal that IAM names when it denies a permission.
pub const PRINCIPAL: &str = "arn:aws:sts::123456789012:assumed-role/somebody/i-1";

impl Refusal {
    fn answer(self) -> (u16, Value) {
        let (status, kind) = match self {
            Self::ThroughputExceeded => {
                (400, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException")
            }
            Self::Throttled => (400, "com.amazon.coral.availability#ThrottlingException"),
            Self::Cancelled(_) => (400, "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"),
            Self::InternalError => (500, "com.amazonaws.dynamodb.v20120810#InternalServerError"),
            Self::Unavailable => (503, "com.amazon.coral.service#ServiceUnavailableException"),
            Self::Invalid(_) => (400, "com.amazon.coral.validate#ValidationException"),
            Self::Denied { .. } => (400, "com.amazon.coral.service#AccessDeniedException"),
        };
        let message = match self {
            Self::Denied { action, resource } => format!(
                "User: {PRINCIPAL} is not authorized to perform: {action} on resource: \
                 arn:aws:dynamodb:us-east-1:123456789012:{resource} because no identity-based policy allows the {action} action"
            ),
            Self::Invalid(says) => says.to_owned(),
            _ => "refused on purpose".to_owned(),
        };
        let mut answer = json!({ "__type": kind, "message": message });
        if let Self::Cancelled(code) = self {
            answer["CancellationReasons"] =
                json!([{ "Code": "None" }, { "Code": code, "Message": "refused on purpose" }]);
        }
        (status, answer)
    }
}

/// Holds answers until it is opened. A clone is the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    is_open: watch::Sender<bool>,
    waiting: watch::Sender<u32>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { is_open: watch::channel(false).0, waiting: watch::channel(0).0 }
    }
}

impl Gate {
    /// Lets everything through that waits, and everything that comes.
    pub fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// Waits until somebody waits at it.
    ///
    /// # Panics
    /// If nobody comes within [`PATIENCE`](crate::PATIENCE).
    pub async fn is_reached(&self) {
        let mut waiting = self.waiting.subscribe();
        let reached = tokio::time::timeout(crate::PATIENCE, waiting.wait_for(|waiting| *waiting > 0)).await;
        assert!(matches!(reached, Ok(Ok(_))), "nobody comes to the gate");
    }

    async fn pass(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        // The gate itself holds the sender.
        let _ = self.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }
}

type Gatekeeper = Box<dyn FnMut(&str, &Value) -> Passage + Send>;

/// A proxy; it ends with the value.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    upstream: String,
    gatekeeper: Mutex<Option<Gatekeeper>>,
    fault: Mutex<Option<Fault>>,
    exchanges: Mutex<Vec<Exchange>>,
    refused: watch::Sender<u64>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts a proxy before an engine.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            gatekeeper: Mutex::default(),
            fault: Mutex::default(),
            exchanges: Mutex::default(),
            refused: watch::channel(0).0,
        });
        let accepting = tokio::spawn(http::accept(listener, Arc::clone(&state)));
        Self { url, state, accepting }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks `gatekeeper` about each request from now on.
    ///
    /// # Panics
    /// If one has panicked before.
    pub fn set_gatekeeper(&self, gatekeeper: impl FnMut(&str, &Value) -> Passage + Send + 'static) {
        *self.state.gatekeeper.lock().expect("no gatekeeper has panicked") = Some(Box::new(gatekeeper));
    }

    /// Shows each exchange from now on to `fault`, which may alter the answer or lose it.
    ///
    /// # Panics
    /// If a fault has panicked before.
    pub fn set_fault(&self, fault: impl FnMut(&mut Exchange) + Send + 'static) {
        *self.state.fault.lock().expect("no fault has panicked") = Some(Box::new(fault));
    }

    /// Does nothing any more to requests and answers.
    ///
    /// # Panics
    /// If a fault has panicked before.
    pub fn behave(&self) {
        *self.state.gatekeeper.lock().expect("no gatekeeper has panicked") = None;
        *self.state.fault.lock().expect("no fault has panicked") = None;
    }

    /// Waits until this many requests were refused.
    ///
    /// # Panics
    /// If they are not within [`PATIENCE`](crate::PATIENCE).
    pub async fn has_refused(&self, requests: u64) {
        let mut refused = self.state.refused.subscribe();
        let reached = tokio::time::timeout(crate::PATIENCE, refused.wait_for(|refused| *refused >= requests)).await;
        assert!(matches!(reached, Ok(Ok(_))), "{requests} requests are not refused");
    }

    /// What has gone through since the last call, as the program saw it.
    ///
    /// # Panics
    /// If a fault has panicked before.
    #[must_use]
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.state.exchanges.lock().expect("no fault has panicked"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
