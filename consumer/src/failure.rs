//! What a projection can answer beside what it should: an error, a panic, or nothing for too long.

use std::{any::Any, error::Error, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::timeout;

/// Why a projection's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure<E: Error> {
    #[error(transparent)]
    Refused(E),
    #[error("the projection panicked: {0}")]
    Panicked(String),
    #[error("the projection has taken longer than {0:?}")]
    Late(Duration),
}

/// A projection's answer, within its time, also if it panics: what one event does is no end of whoever applies it.
pub(crate) async fn guarded<T, E: Error>(
    longest: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure<E>> {
    match timeout(longest, AssertUnwindSafe(answer).catch_unwind()).await {
        Ok(Ok(answer)) => answer.map_err(Failure::Refused),
        Ok(Err(panic)) => Err(Failure::Panicked(words_of(&*panic).to_owned())),
        Err(_) => Err(Failure::Late(longest)),
    }
}

/// An error with its sources, each said once.
pub(crate) fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = error.source();
    }
    text
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
