//! `streambox-consumer queues`: declare them, compare them with what is declared.

use serde_json::json;
use streambox_consumer::{BadConfiguration, Queues, QueuesCheck, QueuesError};
use streambox_programs::{Failure, Format, count, print, print_done};

use crate::cli::QueuesOptions;

/// What AMQP does not show.
const NOT_SEEN: &str =
    "bindings and policies are not compared: AMQP does not show them. `queues declare` binds again what is not bound";

pub(crate) async fn declare(options: &QueuesOptions, format: Format) -> Result<(), Failure> {
    let queues = queues(options)?;
    queues.declare(&options.broker.amqp_url, options.broker.tls.clone()).await.map_err(|error| failure(&error))?;
    let (names, dead) = (queues.queue_names(), queues.dead_letters());
    let done =
        format!("{} declared and bound to exchange {}; dead letters go to {dead}", named(&queues), options.exchange);
    print_done(format, &json!({ "queues": names, "dead_letters": dead, "exchange": options.exchange }), &done)
}

pub(crate) async fn check(options: &QueuesOptions, format: Format) -> Result<(), Failure> {
    let queues = queues(options)?;
    let checked = queues.check(&options.broker.amqp_url, options.broker.tls.clone()).await;
    let QueuesCheck { differences, .. } = checked.map_err(|error| failure(&error))?;
    let named = named(&queues);
    let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
    let lines = match format {
        Format::Json => {
            let (queues, notes) = (queues.queue_names(), [NOT_SEEN]);
            vec![json!({ "queues": queues, "differences": differences, "notes": notes }).to_string()]
        }
        Format::Text => {
            let ok = differences.is_empty().then(|| format!("{named}: as declared"));
            let differences = differences.iter().map(|difference| format!("difference: {difference}"));
            ok.into_iter().chain(differences).chain([format!("note: {NOT_SEEN}")]).collect()
        }
    };
    print(&lines)?;
    if differences.is_empty() {
        return Ok(());
    }
    let differences = count(differences.len() as u64, "difference", "differences");
    Err(Failure::new(format!("{named}: {differences} from what is declared")))
}

fn queues(options: &QueuesOptions) -> Result<Queues, Failure> {
    let queues = Queues::new(&options.queue).and_then(|queues| queues.exchange(&options.exchange));
    let queues = options.categories.iter().fold(queues, |queues, category| queues?.category(category));
    queues.and_then(|queues| queues.partitions(options.partitions)).map_err(|error| bad(&error))
}

fn named(queues: &Queues) -> String {
    match &queues.queue_names()[..] {
        [only] => format!("queue {only}"),
        [first, .., last] => format!("queues {first} to {last}"),
        [] => String::new(),
    }
}

fn bad(error: &BadConfiguration) -> Failure {
    Failure::configuration(error)
}

fn failure(error: &QueuesError) -> Failure {
    match error {
        QueuesError::Configuration(error) => bad(error),
        error => Failure::new(error.to_string()),
    }
}
