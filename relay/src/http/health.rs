//! Asks a running relay how it is: for health checks of containers, in whose image nothing else could.

use std::{io, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1::handshake, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// The longest to wait for the answer: below the 5 seconds that ECS gives a health check by default.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(4);

/// Most of an answer that is read: a relay's reasons are a few lines.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What a relay says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it is as it should be.
    pub is_well: bool,
    /// Its words: `ok`, or the reasons, each in a line.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing listens there.
    #[error("no relay answers at {address}: is one running, with this address in --http (STREAMBOX_HTTP)?")]
    Unreachable {
        /// Where it was asked.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Something listens, and does not speak HTTP.
    #[error("the program that listens at {address} gives no readable answer: is it a relay?")]
    NoAnswer {
        /// Where it was asked.
        address: SocketAddr,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It takes too long.
    #[error("the relay at {address} has not answered within {limit:?}")]
    Slow {
        /// Where it was asked.
        address: SocketAddr,
        /// The longest to wait.
        limit: Duration,
    },
}

/// Asks for `/livez` or `/readyz`, at most for [`ASK_TIMEOUT`].
///
/// # Errors
/// [`AskError`] if there is no answer. An answer that says no is not an error.
pub async fn ask(address: SocketAddr, path: &'static str) -> Result<Health, AskError> {
    let slow = AskError::Slow { address, limit: ASK_TIMEOUT };
    timeout(ASK_TIMEOUT, async {
        let stream = TcpStream::connect(address).await.map_err(|source| AskError::Unreachable { address, source })?;
        exchange(stream, address, path).await.map_err(|source| AskError::NoAnswer { address, source })
    })
    .await
    .map_err(|_| slow)?
}

async fn exchange(
    stream: TcpStream,
    address: SocketAddr,
    path: &'static str,
) -> Result<Health, Box<dyn std::error::Error + Send + Sync>> {
    let (mut requests, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the request's answer; what goes wrong shows there.
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let answer = requests.send_request(request).await?;
    let is_well = answer.status() == StatusCode::OK;
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await?.to_bytes();
    Ok(Health { is_well, text: String::from_utf8_lossy(&body).trim_end().to_owned() })
}
