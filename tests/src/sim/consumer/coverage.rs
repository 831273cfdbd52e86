//! What runs have seen.

macro_rules! coverage {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a run has seen, summed up over many runs: that a simulator never reaches a situation would be a mistake of it.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Coverage {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Coverage {
            /// Adds what another run has seen.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Each situation by its name, and how often it came up.
            #[must_use]
            pub fn situations(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

coverage! {
    /// Steps of the simulation.
    steps,
    /// Effects that were stored.
    effects,
    /// Of them, those of events that were read from the events table.
    from_store,
    /// Messages that were acknowledged.
    acknowledged,
    /// Messages that were put into the queue once more.
    duplicates,
    /// Messages that came behind their successors.
    requeued,
    /// Messages that were lost.
    lost,
    /// Messages that went to the dead letters.
    dead_letters,
    /// Messages that came damaged.
    damaged,
    /// Messages that are not events.
    foreign,
    /// Connections that were lost with unacknowledged messages.
    returned,
    /// Processes that were killed.
    crashes,
    /// Processes that died after something they asked for was done.
    died_afterwards,
    /// Processes that have stopped in an orderly way.
    stopped,
    /// Requests that were not carried out.
    refused,
    /// Requests that were carried out without an answer.
    lost_answers,
    /// Events that the handler failed for.
    handler_failures,
    /// Events that were not applied since the position had moved.
    moved,
    /// Gaps that a consumer has noticed.
    gaps,
    /// Streams that were parked.
    parked,
    /// Messages of parked streams that were noted.
    noted,
    /// Versions that were not noted since the stream was parked no more.
    not_parked,
    /// Retries that were claimed.
    claimed,
    /// Retries that another one had claimed.
    claims_lost,
    /// Marks that stayed since more was acknowledged meanwhile.
    marks_kept,
    /// Streams that recovered.
    recovered,
    /// Connections that were opened anew since a message was kept too long.
    reopened,
    /// Events that an operator has skipped.
    skips,
    /// Streams whose history has changed.
    forks,
    /// Those among them that a consumer has noticed.
    forks_noticed,
    /// Effects of a changed history that was noticed before, by a consumer that did not know.
    passed_after_notice,
    /// Streams whose effects were restored to earlier ones.
    inbox_restores,
    /// Runs that ended with streams that wait or are parked.
    ended_waiting,
    /// Runs that ended with messages of streams that wait in the way of others.
    ended_full,
}
