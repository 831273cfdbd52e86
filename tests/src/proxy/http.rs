//! The proxy's HTTP: one request of a program, one to the engine.

use std::{convert::Into, error::Error, sync::Arc};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Passage, State};
use crate::fault::Exchange;

type Failure = Box<dyn Error + Send + Sync>;
type Upstream = Client<HttpConnector, Full<Bytes>>;

const TARGET: &str = "x-amz-target";
const JSON: &str = "application/x-amz-json-1.0";

pub(super) async fn accept(listener: TcpListener, state: Arc<State>) {
    let upstream: Upstream = Client::builder(TokioExecutor::new()).build_http();
    while let Ok((socket, _)) = listener.accept().await {
        let (state, upstream) = (Arc::clone(&state), upstream.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| pass(Arc::clone(&state), upstream.clone(), request));
            // An error cuts the connection: that is how an answer is lost.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn pass(
    state: Arc<State>,
    upstream: Upstream,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut sent: Value = serde_json::from_slice(&body)?;
    let target = parts.headers.get(TARGET).and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();

    let passage = match state.gatekeeper.lock().expect("no gatekeeper has panicked").as_mut() {
        Some(gatekeeper) => gatekeeper(&operation, &sent),
        None => Passage::Forward,
    };
    let mut left_out = None;
    match &passage {
        Passage::Refuse(refusal) => {
            let (status, answer) = refusal.answer();
            state.refused.send_modify(|refused| *refused += 1);
            return respond(status, &answer);
        }
        Passage::Split => left_out = split(&mut sent),
        Passage::Forward | Passage::Hold(_) => {}
    }

    parts.uri = format!("{}{}", state.upstream, parts.uri).parse()?;
    parts.headers.remove(HOST);
    parts.headers.remove(CONTENT_LENGTH);
    let forwarded = Request::from_parts(parts, Full::from(sent.to_string()));
    let answered = upstream.request(forwarded).await?;
    let status = answered.status().as_u16();
    let answer = answered.into_body().collect().await?.to_bytes();
    let mut exchange = Exchange::new(operation, sent, serde_json::from_slice(&answer)?);
    if let Some(left_out) = left_out {
        exchange.answer["UnprocessedItems"] = left_out;
    }
    if let Passage::Hold(gate) = passage {
        gate.pass().await;
    }
    if let Some(fault) = state.fault.lock().expect("no fault has panicked").as_mut() {
        fault(&mut exchange);
    }
    let (is_lost, answer) = (exchange.is_lost, exchange.answer.clone());
    state.exchanges.lock().expect("no fault has panicked").push(exchange);
    if is_lost { Err("the answer is lost".into()) } else { respond(status, &answer) }
}

fn respond(status: u16, answer: &Value) -> Result<Response<Full<Bytes>>, Failure> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, JSON);
    response.body(Full::from(answer.to_string())).map_err(Into::into)
}

/// Takes the second half of a batch write out of the request.
fn split(request: &mut Value) -> Option<Value> {
    let tables = request.get_mut("RequestItems")?.as_object_mut()?;
    let (table, writes) = tables.iter_mut().next()?;
    let writes = writes.as_array_mut()?;
    if writes.len() < 2 {
        return None;
    }
    let left_out = writes.split_off(writes.len() / 2);
    Some(json!({ table: left_out }))
}
