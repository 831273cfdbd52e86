//! What is declared, as data.

use lapin::{
    ExchangeKind,
    types::{AMQPValue, FieldTable, ShortString},
};
use streambox::message::STREAM_ID_HEADER;

use super::Queues;

/// The type of the exchange that spreads streams over queues, of the plugin `rabbitmq_consistent_hash_exchange`.
const HASH_EXCHANGE_TYPE: &str = "x-consistent-hash";

/// How often a queue may give a message to consumers that are lost: never enough. A quorum queue deletes (or dead-letters) a message beyond
/// that, and since RabbitMQ 4.0 the default is 20. `-1` means "no limit" from 4.0 on only: RabbitMQ 3.10 accepts it, and deletes every message
/// that comes back for the first time. This number is a limit that is never reached on both.
const DELIVERY_LIMIT: i32 = i32::MAX;

/// Each queue has the same share of the streams.
const WEIGHT: &str = "1";

/// A queue and its arguments; all are durable.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queue {
    pub(super) name: ShortString,
    pub(super) arguments: FieldTable,
}

/// An exchange and its arguments; all are durable.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exchange {
    pub(super) name: ShortString,
    pub(super) kind: ExchangeKind,
    pub(super) arguments: FieldTable,
}

/// From an exchange to a queue, or to another exchange.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Binding {
    pub(super) source: ShortString,
    pub(super) destination: ShortString,
    pub(super) is_to_queue: bool,
    pub(super) key: ShortString,
}

/// Everything, in the order in which it is declared: what gets messages before what gives them to it, so that none is dropped meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Definition {
    /// Dead letters first.
    pub(super) queues: Vec<Queue>,
    /// The one that spreads streams over partitions, if there are several.
    pub(super) hash_exchange: Option<Exchange>,
    /// The one that the relay publishes to.
    pub(super) exchange: Exchange,
    pub(super) bindings: Vec<Binding>,
    /// Queues that exist only if there was another number of partitions under this name: those of one partition, or one more than these.
    pub(super) of_other_partitions: Vec<ShortString>,
}

impl Definition {
    pub(super) fn of(of: &Queues) -> Self {
        let short = |name: &str| ShortString::from(name);
        let (base, exchange, dead) = (short(&of.name), short(&of.exchange), short(&of.dead_letters()));
        let mut arguments = quorum();
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        // By way of the default exchange, in which a queue's name is its routing key.
        arguments.insert("x-dead-letter-exchange".into(), text(""));
        arguments.insert("x-dead-letter-routing-key".into(), text(dead.as_str()));
        let consumed: Vec<_> = of.queue_names().iter().map(|name| short(name)).collect();
        let with_arguments = |name: &ShortString| Queue { name: name.clone(), arguments: arguments.clone() };
        let queues = std::iter::once(Queue { name: dead, arguments: quorum() });
        let queues = queues.chain(consumed.iter().map(with_arguments)).collect();

        let several = of.partitions > 1;
        let to_partition = |queue: &ShortString| {
            let (source, destination) = (base.clone(), queue.clone());
            Binding { source, destination, is_to_queue: true, key: WEIGHT.into() }
        };
        let to_all = |key| {
            let (source, destination) = (exchange.clone(), base.clone());
            Binding { source, destination, is_to_queue: !several, key }
        };
        let spread = consumed.iter().filter(|_| several).map(to_partition);
        let bindings = spread.chain(routing_keys(&of.categories).into_iter().map(to_all)).collect();
        let mut hash = FieldTable::default();
        hash.insert("hash-header".into(), text(STREAM_ID_HEADER));
        let kind = ExchangeKind::Custom(HASH_EXCHANGE_TYPE.to_owned());
        let of_one_or_several = if several { base.clone() } else { short(&format!("{base}.0")) };
        let one_more = short(&format!("{base}.{}", of.partitions));
        Self {
            queues,
            hash_exchange: several.then_some(Exchange { name: base, kind, arguments: hash }),
            exchange: Exchange { name: exchange, kind: ExchangeKind::Topic, arguments: FieldTable::default() },
            bindings,
            of_other_partitions: [of_one_or_several, one_more].into(),
        }
    }
}

/// Those of all events of each category.
fn routing_keys(categories: &[String]) -> Vec<ShortString> {
    match categories {
        [] => vec!["#".into()],
        categories => categories.iter().map(|category| format!("{category}.#").into()).collect(),
    }
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
    arguments
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(definition: &Definition) -> Vec<String> {
        let shown = |one: &Binding| {
            let kind = if one.is_to_queue { "queue" } else { "exchange" };
            format!("{} -{}-> {kind} {}", one.source, one.key, one.destination)
        };
        definition.bindings.iter().map(shown).collect()
    }

    fn queues(definition: &Definition) -> Vec<&str> {
        definition.queues.iter().map(|queue| queue.name.as_str()).collect()
    }

    #[test]
    fn one_partition_is_one_queue_that_is_bound_to_each_category() {
        let definition =
            Definition::of(&Queues::new("seats").unwrap().category("order").unwrap().category("concert").unwrap());
        assert_eq!(queues(&definition), ["seats.dead", "seats"]);
        assert_eq!(bindings(&definition), ["streambox -order.#-> queue seats", "streambox -concert.#-> queue seats"]);
        assert_eq!(definition.hash_exchange, None);
        let arguments = definition.queues[1].arguments.inner();
        let shown = |(name, value): (&ShortString, &AMQPValue)| match value {
            AMQPValue::LongString(text) => format!("{name} {text}"),
            value => format!("{name} {value:?}"),
        };
        assert_eq!(
            arguments.iter().map(shown).collect::<Vec<_>>(),
            [
                "x-dead-letter-exchange ",
                "x-dead-letter-routing-key seats.dead",
                "x-delivery-limit LongInt(2147483647)",
                "x-queue-type quorum",
                "x-single-active-consumer Boolean(true)",
            ]
        );
    }

    #[test]
    fn several_partitions_are_spread_before_anything_comes_to_them() {
        let definition =
            Definition::of(&Queues::new("seats").unwrap().exchange("events").unwrap().partitions(2).unwrap());
        assert_eq!(queues(&definition), ["seats.dead", "seats.0", "seats.1"]);
        assert_eq!(
            bindings(&definition),
            ["seats -1-> queue seats.0", "seats -1-> queue seats.1", "events -#-> exchange seats"]
        );
        let hash = definition.hash_exchange.unwrap();
        assert_eq!((hash.name.as_str(), hash.kind), ("seats", ExchangeKind::Custom("x-consistent-hash".to_owned())));
        assert_eq!(definition.of_other_partitions, ["seats".into(), "seats.2".into()]);
    }
}
