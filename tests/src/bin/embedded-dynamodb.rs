//! A stand-in for `DynamoDB` on a developer's machine: an in-memory engine behind its HTTP API.
//!
//! It prints one line, its URL, when it listens, and ends on Ctrl-C or SIGTERM. What was stored is gone then.
//! The engine takes bodies of up to 16 MB, so a transaction of 4 MB passes as it does on AWS.

use std::{
    future::pending,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use dynoxide::{Database, server};
use streambox_tests::without_tokens;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::sleep,
};

/// How long requests that are being answered may take to finish after the signal to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(about = "Serve an in-memory DynamoDB for development and tests", version)]
struct Arguments {
    /// Address to listen on; with port 0 the system chooses one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Stay quick for as long as it runs: forget the tokens of transactions, so that one that is sent twice with one token is
    /// carried out twice, and hold at most 1 GiB
    #[arg(long)]
    stay_quick: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("embedded-dynamodb: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &Arguments) -> Result<(), String> {
    // Before the URL is out: a reader may send a signal immediately.
    let interrupt = listen_for(SignalKind::interrupt())?;
    let terminate = listen_for(SignalKind::terminate())?;
    let database = database(arguments.stay_quick).map_err(|error| format!("cannot create the database: {error}"))?;
    let listener = listen(arguments.listen).await?;
    announce(&listener)?;
    let listener = if arguments.stay_quick { behind(listener).await? } else { listener };

    let (ending, ended) = oneshot::channel();
    let server = server::serve_with_shutdown(listener, database, async move {
        first_of(interrupt, terminate).await;
        // Nobody listens only if the server has ended already.
        let _ = ending.send(());
    });
    tokio::select! {
        result = server => result,
        // The server waits for every request to finish, and a client may have sent half of one.
        () = drain_timeout(ended) => Ok(()),
    }
}

/// `SQLite`'s own in-memory database keeps all of its pages in a cache, and walks the whole cache at the end of a transaction that has
/// split a page: with 100,000 events, half of the time. On its in-memory file system the cache is small; such a file may have 1 GiB.
fn database(stays_quick: bool) -> dynoxide::Result<Database> {
    if stays_quick { Database::new("file:embedded?vfs=memdb") } else { Database::memory() }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// The engine's own listener, behind one that drops tokens.
async fn behind(front: TcpListener) -> Result<TcpListener, String> {
    let engine = listen((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let address = engine.local_addr().map_err(|error| format!("the engine's listener has no address: {error}"))?;
    tokio::spawn(without_tokens::forward(front, address));
    Ok(engine)
}

fn listen_for(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("cannot listen for signals: {error}"))
}

/// A URL that nobody reads must not cause a panic, as with `println!`.
fn announce(listener: &TcpListener) -> Result<(), String> {
    let write = |address| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "http://{address}").and_then(|()| stdout.flush())
    };
    listener.local_addr().and_then(write).map_err(|error| format!("cannot print the URL: {error}"))
}

async fn first_of(mut interrupt: Signal, mut terminate: Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn drain_timeout(ended: oneshot::Receiver<()>) {
    match ended.await {
        Ok(()) => sleep(DRAIN_TIMEOUT).await,
        // The server has ended without a signal; the other branch says so.
        Err(_) => pending().await,
    }
}
