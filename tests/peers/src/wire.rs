//! Counts what goes to the engine, whether or not the side asks for it.

use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    shared::IntoShared as _,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use serde_json::Value;

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Costs {
    pub(crate) requests: u64,
    /// Capacity units, read or write.
    pub(crate) units: f64,
}

/// An HTTP client that counts. A clone counts the same.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    real: SharedHttpClient,
    costs: Arc<Mutex<Costs>>,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self { real: aws_smithy_http_client::Builder::new().build_http(), costs: Arc::default() }
    }

    /// What was sent since the last call.
    pub(crate) fn take(&self) -> Costs {
        std::mem::take(&mut self.costs.lock().expect("nothing panics that holds it"))
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let real = self.real.http_connector(settings, components);
        Connector { real, costs: Arc::clone(&self.costs) }.into_shared()
    }
}

#[derive(Debug)]
struct Connector {
    real: SharedHttpConnector,
    costs: Arc<Mutex<Costs>>,
}

impl HttpConnector for Connector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        ask_for_units(&mut request);
        let (answer, costs) = (self.real.call(request), Arc::clone(&self.costs));
        HttpConnectorFuture::new(async move {
            let mut response = answer.await?;
            let units = units(&mut response).await?;
            let mut costs = costs.lock().expect("nothing panics that holds it");
            costs.requests += 1;
            costs.units += units;
            Ok(response)
        })
    }
}

/// The engine checks no signature, so a request can be altered.
fn ask_for_units(request: &mut HttpRequest) {
    let Some(Ok(mut body)) = request.body().bytes().map(serde_json::from_slice::<Value>) else { return };
    body["ReturnConsumedCapacity"] = "TOTAL".into();
    let body = body.to_string();
    request.headers_mut().insert("content-length", body.len().to_string());
    *request.body_mut() = SdkBody::from(body);
}

async fn units(response: &mut HttpResponse) -> Result<f64, ConnectorError> {
    let body = std::mem::replace(response.body_mut(), SdkBody::taken());
    let body = ByteStream::new(body).collect().await.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    *response.body_mut() = SdkBody::from(body);
    let of_table = |consumed: &Value| consumed["CapacityUnits"].as_f64().unwrap_or_default();
    Ok(match &answer["ConsumedCapacity"] {
        Value::Array(tables) => tables.iter().map(of_table).sum(),
        one => of_table(one),
    })
}
