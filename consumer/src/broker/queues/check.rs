//! Compares queues and exchanges with what is declared, without a change.

use std::fmt;

use lapin::protocol::{AMQPError, AMQPSoftError};
use streambox_amqp::{ConnectionError, Purpose};

use super::{
    declare::{declare_exchange, declare_queue, exchange_exists, exists, is_usable},
    definition::{Definition, Exchange},
    operator::{Operator, is},
};
use crate::broker::refusal::lacks_exchange_type;

/// What is different at the broker from what [`Queues`](super::Queues) declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueuesCheck {
    /// What is missing or different, in the order of declaration; at most one difference of each queue and exchange, the first one that the
    /// broker names. None means that queues and exchanges are as declared; bindings and policies are not seen.
    pub differences: Vec<QueueDifference>,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueDifference {
    /// It does not exist.
    #[non_exhaustive]
    Missing {
        /// `queue NAME` or `exchange NAME`.
        what: String,
    },
    /// It has another type, durability or argument.
    #[non_exhaustive]
    Different {
        /// `queue NAME` or `exchange NAME`.
        what: String,
        /// The broker's words.
        said: String,
    },
    /// The user may not configure it, so it can't be compared.
    #[non_exhaustive]
    Hidden {
        /// `queue NAME` or `exchange NAME`.
        what: String,
        /// The broker's words.
        said: String,
    },
    /// A queue that there would be with another number of partitions.
    #[non_exhaustive]
    OtherPartitions {
        /// `queue NAME`.
        what: String,
    },
}

impl fmt::Display for QueueDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what } => write!(f, "{what} is missing: declare it (`streambox-consumer queues declare`)"),
            Self::Different { what, said } => write!(
                f,
                "{what} has other arguments, which can't be changed: use another name, or delete it when it is empty and nothing is \
                 published, and declare it again ({said})"
            ),
            Self::Hidden { what, said } => {
                write!(f, "{what} can't be compared: that needs the permission to configure it ({said})")
            }
            Self::OtherPartitions { what } => write!(
                f,
                "{what} exists, as there would be for another number of partitions: a stream's events may be in two queues. Consume \
                 it to its end, and delete it"
            ),
        }
    }
}

pub(super) async fn check<P: Purpose>(
    operator: &mut Operator<'_, P>,
    definition: &Definition,
) -> Result<QueuesCheck, ConnectionError> {
    let mut differences = Vec::new();
    for queue in &definition.queues {
        let what = format!("queue {}", queue.name);
        if !exists(operator, &queue.name).await? {
            differences.push(QueueDifference::Missing { what });
            continue;
        }
        // A queue that exists is compared by this, and not changed.
        if let Err(refusal) = operator.attempt(async |channel| declare_queue(&channel, queue).await).await? {
            differences.push(difference(operator, what, refusal)?);
        }
    }
    for exchange in definition.hash_exchange.iter().chain([&definition.exchange]) {
        differences.extend(check_exchange(operator, exchange, exchange == &definition.exchange).await?);
    }
    for name in &definition.of_other_partitions {
        if exists(operator, name).await? {
            differences.push(QueueDifference::OtherPartitions { what: format!("queue {name}") });
        }
    }
    Ok(QueuesCheck { differences })
}

async fn check_exchange<P: Purpose>(
    operator: &mut Operator<'_, P>,
    exchange: &Exchange,
    is_the_relays: bool,
) -> Result<Option<QueueDifference>, ConnectionError> {
    let what = format!("exchange {}", exchange.name);
    if !exchange_exists(operator, &exchange.name).await? {
        return Ok(Some(QueueDifference::Missing { what }));
    }
    match operator.attempt(async |channel| declare_exchange(&channel, exchange).await).await? {
        Ok(()) => Ok(None),
        Err(refusal) if is_the_relays && is_usable(&refusal) => Ok(None),
        Err(refusal) => difference(operator, what, refusal).map(Some),
    }
}

fn difference<P: Purpose>(
    operator: &Operator<'_, P>,
    what: String,
    refusal: AMQPError,
) -> Result<QueueDifference, ConnectionError> {
    let said = refusal.get_message().to_string();
    if lacks_exchange_type(&refusal) {
        Err(operator.meaning(refusal))
    } else if is(&refusal, &AMQPSoftError::PRECONDITIONFAILED) {
        Ok(QueueDifference::Different { what, said })
    } else if is(&refusal, &AMQPSoftError::ACCESSREFUSED) {
        Ok(QueueDifference::Hidden { what, said })
    } else {
        Err(operator.meaning(refusal))
    }
}
