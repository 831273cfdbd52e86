//! A consumer: the real core, and what its process is going through.

use std::collections::HashMap;

use streambox_consumer::core::{Core, DeliveryId};

use super::{super::scenario::Ms, broker::Tag};

pub(super) struct Process {
    pub(super) life: u32,
    pub(super) core: Core,
    pub(super) is_dead: bool,
    pub(super) connection: Option<u64>,
    pub(super) tags: HashMap<DeliveryId, Tag>,
    pub(super) next_delivery: DeliveryId,
    /// When the last message arrives that is on the way to it: they don't overtake each other.
    pub(super) last_arrival: Ms,
    /// When it wakes next, if nothing else happens.
    pub(super) wakes_at: Option<Ms>,
}

impl Process {
    pub(super) fn new(life: u32, core: Core) -> Self {
        Self {
            life,
            core,
            is_dead: false,
            connection: None,
            tags: HashMap::new(),
            next_delivery: 0,
            last_arrival: 0,
            wakes_at: None,
        }
    }
}
