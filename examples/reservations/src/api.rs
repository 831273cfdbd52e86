//! The HTTP API: what of a request reaches a command, and what of its outcome the answer.
//!
//! | header | |
//! |---|---|
//! | `Idempotency-Key` | The command's id: a repeated request gets the first one's answer, and changes nothing. |
//! | `ETag`, `If-Match` | The concert's version, which the command expects. |

use std::fmt::Display;

use axum::{
    Json, Router,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::{Deserialize, Serialize};
use streambox::{
    Error, Uuid,
    aggregate::{Aggregate as _, CommandContext, ExecuteError, Repository, Saved},
};

use crate::{
    concert::{Concert, ConcertEvent, Refused},
    table::{Emails, FreeSeats},
};

/// The ids of commands derive from keys under this name.
const KEYS: Uuid = Uuid::from_u128(0x6f8d_25a1_0c7e_4b8a_9a51_0e6f_2d1c_43b7);

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) concerts: Repository<Concert>,
    pub(crate) emails: Emails,
    pub(crate) free_seats: FreeSeats,
}

pub(crate) fn router(service: Service) -> Router {
    Router::new()
        .route("/concerts/{id}", get(show).put(announce))
        .route("/concerts/{id}/reservations", post(reserve))
        .route("/concerts/{id}/reservations/{seat}", delete(release))
        .route("/concerts/{id}/free-seats", get(free_seats))
        .with_state(service)
}

#[derive(Serialize, Deserialize)]
struct Seats {
    seats: u32,
}

#[derive(Deserialize)]
struct Wanted {
    email: String,
    seat: Option<u32>,
}

#[derive(Serialize)]
struct Seat {
    seat: u32,
}

async fn announce(
    State(service): State<Service>,
    Path(id): Path<String>,
    Command(command): Command,
    Json(Seats { seats }): Json<Seats>,
) -> Result<Response, Problem> {
    let saved = service.concerts.execute_with(id, &command, |concert| concert.announce(seats)).await?;
    Ok((StatusCode::NO_CONTENT, etag(&saved)).into_response())
}

async fn reserve(
    State(service): State<Service>,
    Path(id): Path<String>,
    Command(command): Command,
    Json(Wanted { email, seat: wanted }): Json<Wanted>,
) -> Result<Response, Problem> {
    let (concerts, emails, email) = (&service.concerts, &service.emails, email.to_lowercase());
    let saved = concerts.execute_with(id, &command, |concert| concert.reserve(&email, wanted, emails)).await?;
    let seat = match saved.returned {
        Some(seat) => seat,
        None => reserved_before(concerts, &saved, &email).await?,
    };
    Ok((StatusCode::OK, etag(&saved), Json(Seat { seat })).into_response())
}

/// What a repeat has reserved the first time. The aggregate may have changed since; the event has not.
async fn reserved_before<T>(
    concerts: &Repository<Concert>,
    saved: &Saved<Concert, T>,
    email: &str,
) -> Result<u32, Problem> {
    let first = saved.appended.as_ref().map_or(0, |appended| appended.first_version);
    let stored = concerts.store().event(saved.loaded.stream(), first).await?;
    let events = stored.and_then(|stored| Concert::decode(&stored.event_type, &stored.payload).ok());
    match events.as_deref() {
        Some([ConcertEvent::SeatReserved { seat, email: holder }]) if holder == email => Ok(*seat),
        _ => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the Idempotency-Key was used for another request")),
    }
}

async fn release(
    State(service): State<Service>,
    Path((id, seat)): Path<(String, u32)>,
    Command(command): Command,
) -> Result<Response, Problem> {
    let saved = service.concerts.execute_with(id, &command, |concert| concert.release(seat, &service.emails)).await?;
    Ok((StatusCode::NO_CONTENT, etag(&saved)).into_response())
}

/// The concert itself: always current.
async fn show(State(service): State<Service>, Path(id): Path<String>) -> Result<Response, Problem> {
    let concert = service.concerts.load(id).await?;
    if concert.version() == 0 {
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no such concert"));
    }
    let free: Vec<_> = concert.free().collect();
    Ok(([(header::ETAG, quoted(concert.version()))], Json(free)).into_response())
}

/// The read model: what has come over the queue.
async fn free_seats(State(service): State<Service>, Path(id): Path<String>) -> Result<Response, Problem> {
    let concert = Repository::<Concert>::stream_id(id)?;
    match service.free_seats.of(&concert).await {
        Ok(Some(free)) => Ok(Json(free).into_response()),
        Ok(None) => Err(Problem::new(StatusCode::NOT_FOUND, "nothing is known of such a concert yet")),
        Err(error) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, error)),
    }
}

/// The context of a command, from the headers.
struct Command(CommandContext);

impl<S: Sync> FromRequestParts<S> for Command {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut command = CommandContext::new();
        if let Some(key) = parts.headers.get("Idempotency-Key") {
            command = command.with_id(Uuid::new_v5(&KEYS, key.as_bytes()));
        }
        if let Some(etag) = parts.headers.get(header::IF_MATCH) {
            let version = etag.to_str().ok().and_then(|etag| etag.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
            let not_ours = || Problem::new(StatusCode::BAD_REQUEST, "If-Match is one ETag of this service");
            command = command.expecting(version.ok_or_else(not_ours)?);
        }
        Ok(Self(command))
    }
}

/// The version that the command has led to: for a repeat, the one that it led to the first time.
fn etag<T>(saved: &Saved<Concert, T>) -> [(header::HeaderName, String); 1] {
    [(header::ETAG, quoted(saved.version()))]
}

fn quoted(version: u64) -> String {
    format!("\"{version}\"")
}

/// An answer that is not the wanted one.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    why: String,
}

impl Problem {
    fn new(status: StatusCode, why: impl Display) -> Self {
        Self { status, why: format!("{why}") }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            eprintln!("{}: {}", self.status, self.why);
        }
        let mut response = (self.status, self.why).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<ExecuteError<Refused>> for Problem {
    fn from(error: ExecuteError<Refused>) -> Self {
        match error {
            ExecuteError::Rejected(why @ Refused::NotAnnounced) => Self::new(StatusCode::NOT_FOUND, why),
            ExecuteError::Rejected(why) => Self::new(StatusCode::CONFLICT, why),
            ExecuteError::Conflict(conflict) => Self::new(StatusCode::PRECONDITION_FAILED, conflict),
            ExecuteError::Contended { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, error),
            ExecuteError::Store(error) => error.into(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::ItemRefused(_) => Self::new(StatusCode::CONFLICT, "the address has a reservation"),
            Error::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, error),
            // Safe to repeat with the same key, whether or not it was stored.
            _ if error.is_retryable() => Self::new(StatusCode::SERVICE_UNAVAILABLE, error),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }
}

#[cfg(test)]
mod tests;
