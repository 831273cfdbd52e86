//! How many commands on one hot stream are given up, and how many requests a command needs.
//!
//! 32 clients send commands to one aggregate, each client its next one when it has the answer to the last. The clients are those of one
//! process, of four, or of one whose clients share nothing, so that none waits for its turn. Only counts are reported: they depend on
//! this machine much less than times do. The engine is the embedded one, in the process that starts the others.
//!
//! `make bench-contention`, or one case by a part of its name: `make bench-contention CASE=four`

use std::{env, process::Stdio};

use serde::{Deserialize, Serialize};
use streambox::{
    EventStore,
    aggregate::{ExecuteError, Repository},
    create_table,
    testing::EmbeddedDynamoDb,
};
use streambox_tests::{basics::client, orders::Order, wire::Wire};
use tokio::{process::Command, task::JoinSet};

const CLIENTS: u32 = 32;
const COMMANDS_PER_CLIENT: u32 = 16;
const ROUNDS: usize = 5;
const TABLE: &str = "contention";

struct Case {
    name: &'static str,
    processes: u32,
    /// Whether a process has one repository, as it should, or one for each client.
    is_shared: bool,
}

const CASES: [Case; 3] = [
    Case { name: "one process", processes: 1, is_shared: true },
    Case { name: "four processes", processes: 4, is_shared: true },
    Case { name: "one process without turns", processes: 1, is_shared: false },
];

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Count {
    given_up: u32,
    requests: u32,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    if let [role, url, clients, is_shared] = arguments.as_slice()
        && role == "clients"
    {
        let count = clients_of_a_process(url, clients.parse().expect("a number"), is_shared == "true").await;
        println!("{}", serde_json::to_string(&count).expect("numbers"));
        return;
    }
    let commands = CLIENTS * COMMANDS_PER_CLIENT;
    println!("{CLIENTS} clients, {commands} commands on one stream, the embedded engine, medians of {ROUNDS} rounds\n");
    println!("| | given up | % | requests a command |\n|---|---:|---:|---:|");
    let filter = arguments.iter().find(|argument| !argument.starts_with("--")).map_or("", String::as_str);
    for case in CASES.iter().filter(|case| case.name.contains(filter)) {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(round(case).await);
        }
        let given_up = median(rounds.iter().map(|round| round.given_up));
        let requests = median(rounds.iter().map(|round| round.requests));
        let (percent, each) = (100.0 * given_up / f64::from(commands), requests / f64::from(commands));
        println!("| {} | {given_up} | {percent:.1} | {each:.2} |", case.name);
    }
}

fn median(counts: impl Iterator<Item = u32>) -> f64 {
    let mut counts: Vec<_> = counts.collect();
    counts.sort_unstable();
    f64::from(counts[counts.len() / 2])
}

async fn round(case: &Case) -> Count {
    let engine = EmbeddedDynamoDb::start().await;
    create_table(&engine.client(), TABLE).await.expect("the engine creates tables");
    let mut processes = JoinSet::new();
    for _ in 0..case.processes {
        let mut process = Command::new(env::current_exe().expect("a running program has a path"));
        let clients = (CLIENTS / case.processes).to_string();
        process.args(["clients", engine.url(), &clients, &case.is_shared.to_string()]).stderr(Stdio::inherit());
        processes.spawn(async move { process.output().await.expect("it runs").stdout });
    }
    let counts = processes.join_all().await;
    let counts = counts.iter().map(|count| serde_json::from_slice::<Count>(count).expect("a count"));
    counts.fold(Count::default(), |sum, count| Count {
        given_up: sum.given_up + count.given_up,
        requests: sum.requests + count.requests,
    })
}

async fn clients_of_a_process(url: &str, clients: u32, is_shared: bool) -> Count {
    let wire = Wire::new();
    let build = || Repository::<Order>::new(EventStore::new(client(url, Some(&wire)), TABLE));
    let shared = build();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let orders = if is_shared { shared.clone() } else { build() };
        tasks.spawn(async move {
            let mut given_up = 0;
            for _ in 0..COMMANDS_PER_CLIENT {
                match orders.execute("1", |order| order.add(1)).await {
                    Ok(_) => {}
                    Err(ExecuteError::Contended { .. }) => given_up += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            given_up
        });
    }
    let given_up = tasks.join_all().await.iter().sum();
    shared.snapshots_settled().await;
    Count { given_up, requests: u32::try_from(wire.take().len()).expect("it counts what fits") }
}
