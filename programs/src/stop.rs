//! Ctrl-C and SIGTERM.

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::flag;
use tokio::signal::unix::{SignalKind, signal as listen};

use crate::failure::Failure;

/// As shells have it: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// Resolves at Ctrl-C or SIGTERM. A second one ends the program at once, in the signal's handler: also while every thread waits
/// for something.
///
/// # Errors
/// Signals can't be received.
pub fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let refuse = |error| Failure::new(format!("signals can't be received: {error}"));
    let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
    let is_second = Arc::new(AtomicBool::new(false));
    for kind in kinds {
        let number = kind.as_raw_value();
        flag::register_conditional_shutdown(number, INTERRUPTED, Arc::clone(&is_second)).map_err(refuse)?;
        flag::register(number, Arc::clone(&is_second)).map_err(refuse)?;
    }
    let [mut terminate, mut interrupt] = match kinds.map(listen) {
        [Ok(terminate), Ok(interrupt)] => [terminate, interrupt],
        [Err(error), _] | [_, Err(error)] => return Err(refuse(error)),
    };
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
    })
}
