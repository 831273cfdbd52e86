//! What it means that DynamoDB has cancelled a transaction: all reasons are read before anything is concluded.

use aws_sdk_dynamodb::types::CancellationReason;

use super::prepare::Slot;
use crate::{failure::FOR_NOW, schema::Item};

/// Why a transaction was cancelled.
#[derive(Debug, PartialEq)]
pub(super) enum Cancelled {
    /// These items exist already.
    Exist(Vec<Existing>),
    /// An item of the caller's own was refused by its own condition.
    ItemRefused { position: usize, item: Option<Item> },
    /// Another transaction was under way, or capacity was short.
    Transient,
    /// For good, by the reason of this item.
    Refused { slot: Slot, code: String, message: String },
}

/// Something stands where an item of ours should go.
#[derive(Debug, PartialEq)]
pub(super) struct Existing {
    pub(super) slot: Slot,
    /// The item that is there; DynamoDB was asked to return it, but does not promise to.
    pub(super) item: Option<Item>,
}

/// Reads the reasons, one for each item of the transaction.
pub(super) fn judge(reasons: &[CancellationReason], slots: &[Slot]) -> Cancelled {
    let code = |reason: &CancellationReason| reason.code().unwrap_or("None").to_owned();
    let failed: Vec<_> = reasons
        .iter()
        .zip(slots)
        .filter(|(reason, _)| code(reason) == "ConditionalCheckFailed")
        .map(|(reason, &slot)| Existing { slot, item: reason.item().filter(|item| !item.is_empty()).cloned() })
        .collect();
    // An event that is there decides, whatever else there is: its place is taken for ever. So does a marker: the command was
    // carried out.
    if failed.iter().any(|existing| matches!(existing.slot, Slot::Event { .. } | Slot::Marker { .. })) {
        return Cancelled::Exist(failed);
    }
    let in_conflict = reasons.iter().any(|reason| code(reason) == "TransactionConflict");
    if let Some(first) = failed.into_iter().next() {
        return match first.slot {
            // Another transaction is being committed item by item, maybe this very one, sent before: the events decide.
            _ if in_conflict => Cancelled::Transient,
            Slot::Own { position } => Cancelled::ItemRefused { position, item: first.item },
            _ => Cancelled::Exist(vec![first]),
        };
    }
    let for_good = reasons.iter().zip(slots).find(|(reason, _)| !FOR_NOW.contains(&code(reason).as_str()));
    match for_good {
        Some((reason, &slot)) => {
            let message = reason.message().unwrap_or_default().to_owned();
            Cancelled::Refused { slot, code: code(reason), message }
        }
        None => Cancelled::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [Slot; 2] = [Slot::Event { part: 0, index: 0 }, Slot::Entry { part: 0 }];
    const TWO_AND_OWN: [Slot; 5] = [
        Slot::Event { part: 0, index: 0 },
        Slot::Entry { part: 0 },
        Slot::Event { part: 1, index: 0 },
        Slot::Entry { part: 1 },
        Slot::Own { position: 0 },
    ];

    fn reasons(codes: &[&str]) -> Vec<CancellationReason> {
        codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect()
    }

    fn existing(slot: Slot) -> Existing {
        Existing { slot, item: None }
    }

    #[test]
    fn an_event_that_exists_decides_even_beside_a_transaction_conflict() {
        let slots = [Slot::Event { part: 0, index: 0 }, Slot::Event { part: 0, index: 1 }, Slot::Entry { part: 0 }];
        let reasons = reasons(&["TransactionConflict", "ConditionalCheckFailed", "None"]);
        assert_eq!(judge(&reasons, &slots), Cancelled::Exist(vec![existing(slots[1])]));
    }

    #[test]
    fn a_marker_that_exists_decides_even_beside_an_own_item_that_is_refused_and_a_transaction_conflict() {
        let slots = [Slot::Event { part: 0, index: 0 }, Slot::Marker { part: 0 }, Slot::Own { position: 0 }];
        let reasons = reasons(&["TransactionConflict", "ConditionalCheckFailed", "ConditionalCheckFailed"]);
        assert_eq!(judge(&reasons, &slots), Cancelled::Exist(vec![existing(slots[1]), existing(slots[2])]));
    }

    #[test]
    fn every_stream_whose_place_is_taken_is_named() {
        let all =
            reasons(&["ConditionalCheckFailed", "None", "ConditionalCheckFailed", "None", "ConditionalCheckFailed"]);
        let expected = [0, 2, 4].map(|place| existing(TWO_AND_OWN[place]));
        assert_eq!(judge(&all, &TWO_AND_OWN), Cancelled::Exist(expected.into()));
    }

    #[test]
    fn a_pending_entry_or_an_own_item_decides_nothing_while_a_transaction_is_being_committed() {
        assert_eq!(judge(&reasons(&["TransactionConflict", "ConditionalCheckFailed"]), &ONE), Cancelled::Transient);
        let orphan = judge(&reasons(&["None", "ConditionalCheckFailed"]), &ONE);
        assert_eq!(orphan, Cancelled::Exist(vec![existing(ONE[1])]));

        let own = reasons(&["None", "None", "None", "None", "ConditionalCheckFailed"]);
        assert_eq!(judge(&own, &TWO_AND_OWN), Cancelled::ItemRefused { position: 0, item: None });
        let committing = reasons(&["TransactionConflict", "None", "None", "None", "ConditionalCheckFailed"]);
        assert_eq!(judge(&committing, &TWO_AND_OWN), Cancelled::Transient);
    }

    #[test]
    fn conflicts_and_throttling_alone_are_tried_again() {
        for code in ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"] {
            assert_eq!(judge(&reasons(&["None", code]), &ONE), Cancelled::Transient, "{code}");
        }
    }

    #[test]
    fn what_is_invalid_is_never_tried_again() {
        for code in ["ValidationError", "ItemCollectionSizeLimitExceeded", "SomethingNew"] {
            let judged = judge(&reasons(&["TransactionConflict", code]), &ONE);
            let expected = Cancelled::Refused { slot: ONE[1], code: code.to_owned(), message: String::new() };
            assert_eq!(judged, expected);
        }
    }
}
