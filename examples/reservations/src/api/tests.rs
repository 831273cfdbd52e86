//! The API on an engine in memory, without a network between client and service.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use streambox::testing::EmbeddedDynamoDb;
use tower::ServiceExt as _;

use super::*;
use crate::table;

const OWN: &str = "own";

/// A service, and the engine of its tables.
struct Running {
    router: Router,
    service: Service,
}

impl Running {
    /// With a concert of two seats.
    async fn start() -> Self {
        let engine = EmbeddedDynamoDb::start().await;
        table::create(&engine.client(), OWN).await.unwrap();
        let free_seats = FreeSeats::new(engine.client(), OWN);
        let concerts = Repository::new(engine.event_store().await);
        let service = Service { concerts, emails: Emails::new(OWN), free_seats };
        let running = Self { router: router(service.clone()), service };
        for concert in ["1", "2"] {
            let announced = running.send("PUT", &format!("/concerts/{concert}"), &[], json!({ "seats": 2 })).await;
            assert_eq!((announced.status, announced.header("etag")), (204, "\"1\""));
        }
        running
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = axum::body::to_bytes(body, 10_000).await.unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn reserve(&self, concert: &str, email: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("POST", &format!("/concerts/{concert}/reservations"), headers, json!({ "email": email })).await
    }

    async fn release(&self, concert: &str, seat: u32, headers: &[(&str, &str)]) -> Answer {
        self.send("DELETE", &format!("/concerts/{concert}/reservations/{seat}"), headers, Value::Null).await
    }

    async fn events(&self, concert: &str) -> u64 {
        self.service.concerts.load(concert).await.unwrap().version()
    }
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    headers: header::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[tokio::test]
async fn a_request_with_the_same_key_gets_the_same_answer_and_reserves_once() {
    let running = Running::start().await;
    let key = [("Idempotency-Key", "checkout-9")];
    let first = running.reserve("1", "Ann@example.org", &key).await;
    assert_eq!((first.status, first.header("etag"), first.body.as_str()), (200, "\"2\"", "{\"seat\":1}"));
    // What has happened since does not show in the answer.
    assert_eq!(running.reserve("1", "bob@example.org", &[]).await.body, "{\"seat\":2}");
    running.release("1", 1, &[]).await;
    assert_eq!(running.reserve("1", "Ann@example.org", &key).await, first);
    assert_eq!(running.reserve("1", "eve@example.org", &key).await.status, 422);
    assert_eq!(running.events("1").await, 4);
}

#[tokio::test]
async fn a_request_that_expects_another_version_changes_nothing() {
    let running = Running::start().await;
    running.reserve("1", "ann@example.org", &[("If-Match", "\"1\"")]).await;
    assert_eq!(running.release("1", 1, &[("If-Match", "\"1\"")]).await.status, 412);
    assert_eq!(running.release("1", 1, &[("If-Match", "not one of ours")]).await.status, 400);
    assert_eq!(running.events("1").await, 2);
    let shown = running.send("GET", "/concerts/1", &[], Value::Null).await;
    assert_eq!((shown.status, shown.body.as_str()), (200, "[2]"));
    let released = running.release("1", 1, &[("If-Match", shown.header("etag"))]).await;
    assert_eq!((released.status, released.header("etag")), (204, "\"3\""));
}

#[tokio::test]
async fn an_address_has_one_reservation_of_all_concerts_until_it_is_released() {
    let running = Running::start().await;
    assert_eq!(running.reserve("1", "ann@example.org", &[]).await.status, 200);
    assert_eq!(running.reserve("2", "Ann@example.org", &[]).await.status, 409);
    assert_eq!(running.events("2").await, 1);
    assert_eq!(running.release("1", 1, &[]).await.status, 204);
    assert_eq!(running.reserve("2", "ann@example.org", &[]).await.status, 200);
}

#[tokio::test]
async fn each_refusal_has_its_status() {
    let running = Running::start().await;
    assert_eq!(running.reserve("3", "ann@example.org", &[]).await.status, 404);
    assert_eq!(running.send("GET", "/concerts/3", &[], Value::Null).await.status, 404);
    assert_eq!(running.reserve(&"9".repeat(2_048), "ann@example.org", &[]).await.status, 400);
    for email in ["ann@example.org", "bob@example.org"] {
        running.reserve("1", email, &[]).await;
    }
    let sold_out = running.reserve("1", "eve@example.org", &[]).await;
    assert_eq!((sold_out.status, sold_out.body.as_str()), (409, "the concert is sold out"));

    let unavailable = Problem::from(Error::Busy { operation: "append", subject: "concert-1".to_owned(), attempts: 9 });
    let answer = unavailable.into_response();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[header::RETRY_AFTER]),
        (503, &header::HeaderValue::from_static("1"))
    );
}
