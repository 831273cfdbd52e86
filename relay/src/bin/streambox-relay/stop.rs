//! Ctrl-C and SIGTERM.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal as listen};

use crate::failure::Failure;

/// As shells have it: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// Resolves at SIGTERM or Ctrl-C. A second one ends the program at once.
pub(crate) fn signal() -> Result<impl Future<Output = ()>, Failure> {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
    let [mut terminate, mut interrupt] = match kinds.map(listen) {
        [Ok(terminate), Ok(interrupt)] => [terminate, interrupt],
        [Err(error), _] | [_, Err(error)] => return Err(Failure::new(format!("signals can't be received: {error}"))),
    };
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            std::process::exit(INTERRUPTED);
        });
    })
}
