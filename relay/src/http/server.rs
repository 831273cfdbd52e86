//! The listener: few connections, short ones, and every answer with the headers that keep a browser from doing more than it
//! was asked to.

use std::{convert::Infallible, sync::Arc, time::Duration};

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
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{Show, metrics, page};

/// Most connections at the same time; others wait.
pub const MAX_CONNECTIONS: usize = 32;

/// The longest that a connection may take, from accepting it to its last byte. Each carries one request.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// After an error of the listener, out of files for instance.
const ACCEPT_DELAY: Duration = Duration::from_millis(200);

/// Nothing but our own style sheet, script and answers; no frame around it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) async fn serve(listener: TcpListener, show: Arc<impl Show>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let show = Arc::clone(&show);
                tokio::spawn(async move {
                    // Whoever is too slow, or gone, gets no answer.
                    let _ = timeout(ANSWER_TIMEOUT, connection(stream, show)).await;
                    drop(place);
                });
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
        let response = answer(request.method(), request.uri().path(), &*show);
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(ANSWER_TIMEOUT);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(method: &Method, path: &str, show: &impl Show) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/livez" => health(show.view().not_live.as_slice()),
        "/readyz" => health(&show.view().not_ready),
        "/metrics" => respond(StatusCode::OK, metrics::CONTENT_TYPE, show.metrics()),
        "/status.json" => {
            let json = serde_json::to_string(&show.view()).expect("a view is plain data");
            respond(StatusCode::OK, "application/json", json)
        }
        "/" => respond(StatusCode::OK, "text/html; charset=utf-8", page::html(&show.view())),
        "/page.css" => respond(StatusCode::OK, "text/css; charset=utf-8", page::STYLE.to_owned()),
        "/page.js" => respond(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT.to_owned()),
        "/icon.svg" => respond(StatusCode::OK, "image/svg+xml", page::ICON.to_owned()),
        _ => respond(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /livez, /readyz, /metrics, /status.json and the status page at /\n".to_owned(),
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
