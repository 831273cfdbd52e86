//! The listener: few connections, short ones, and every answer with the headers that keep a browser from doing more than it
//! was asked to.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{Show, page};
use crate::metrics::TextFormat;

/// Most connections at the same time. For one more the oldest is closed: so a probe is always answered, even if others keep connections
/// open without a request.
pub const MAX_CONNECTIONS: usize = 32;

/// The longest that a request's head may take.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest that a connection may take, from accepting it to its last byte. Each carries one request.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// After an error of the listener, out of files for instance.
const ACCEPT_DELAY: Duration = Duration::from_millis(200);

/// Nothing but our own style sheet, script and answers; no frame around it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const TEXT: &str = "text/plain; charset=utf-8";

/// Serves what `show` shows, for ever, until the future is dropped.
pub async fn serve(listener: TcpListener, show: Arc<impl Show>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(MAX_CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() == MAX_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                // A client that is too slow, or has disconnected, gets no answer.
                let connection = timeout(ANSWER_TIMEOUT, connection(stream, Arc::clone(&show)));
                open.push_back(tokio::spawn(connection).abort_handle());
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the status page can't be accepted");
                sleep(ACCEPT_DELAY).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, show: Arc<impl Show>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request, &*show);
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn answer<B>(request: &Request<B>, show: &impl Show) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/livez" => health(show.view().not_live.as_slice()),
        "/readyz" => health(&show.view().not_ready),
        "/metrics" => {
            let accept: Vec<_> =
                request.headers().get_all(header::ACCEPT).iter().flat_map(|value| value.to_str()).collect();
            let format = TextFormat::accepted(&accept.join(","));
            respond(StatusCode::OK, format.content_type(), show.metrics(format))
        }
        "/status.json" => {
            let json = serde_json::to_string(&show.view()).expect("a view is plain data");
            respond(StatusCode::OK, "application/json", json)
        }
        "/" => respond(StatusCode::OK, "text/html; charset=utf-8", page::page(&show.view())),
        "/page.css" => respond(StatusCode::OK, "text/css; charset=utf-8", page::STYLE.to_owned()),
        "/page.js" => respond(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT.to_owned()),
        "/icon.svg" => respond(StatusCode::OK, "image/svg+xml", page::ICON.to_owned()),
        _ => respond(
            StatusCode::NOT_FOUND,
            TEXT,
            "not found; there are /livez, /readyz, /metrics, /status.json and the status page at /\n".to_owned(),
        ),
    }
}

fn health(reasons: &[String]) -> Response<Full<Bytes>> {
    match reasons {
        [] => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
        reasons => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{}\n", reasons.join("\n"))),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, content_type);
    set(header::CACHE_CONTROL, "no-store");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{metrics::Metrics, view::View};

    struct Shown;

    impl Show for Shown {
        fn view(&self) -> View {
            View::default()
        }

        fn metrics(&self, format: TextFormat) -> String {
            Metrics::default().text(&View::default(), format)
        }
    }

    async fn served() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(Shown)));
        address
    }

    /// Connects, and sends a part of a request.
    async fn half_open(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        stream
    }

    async fn ask(address: SocketAddr, path: &str, more: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_probe_is_answered_while_others_keep_connections_open_without_asking() {
        let address = served().await;
        let mut held = Vec::new();
        for _ in 0..40 {
            held.push(half_open(address).await);
        }
        // It does not wait for one of those to reach its time limit.
        let answer = tokio::select! {
            biased;
            answer = ask(address, "/livez", "") => answer,
            _ = held[30].read_u8() => panic!("a connection came to its end before the probe was answered"),
        };
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for _ in 0..160 {
            held.push(half_open(address).await);
        }
        assert!(ask(address, "/livez", "").await.starts_with("HTTP/1.1 200"));
        assert!(held[0].read_u8().await.is_err(), "the oldest is closed");
    }

    #[tokio::test]
    async fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
        let mut stream = half_open(served().await).await;
        let mut answer = String::new();
        // Either way it is closed.
        let _ = stream.read_to_string(&mut answer).await;
        assert!(!answer.contains("200"), "{answer}");
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_that_is_asked_for() {
        let address = served().await;
        let open = ask(address, "/metrics", "Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n").await;
        assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open}");
        assert!(open.ends_with("# EOF\n") && open.contains("# TYPE streambox_relay_events counter"), "{open}");
        for accept in ["", "Accept: */*\r\n", "Accept: text/plain;version=0.0.4\r\n"] {
            let plain = ask(address, "/metrics", accept).await;
            assert!(plain.contains("content-type: text/plain; version=0.0.4"), "{plain}");
            assert!(
                !plain.contains("# EOF") && plain.contains("# TYPE streambox_relay_events_total counter"),
                "{plain}"
            );
        }
    }
}
