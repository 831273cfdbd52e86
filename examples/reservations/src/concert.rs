//! A concert: what can happen to its seats, and the decisions. All of it without I/O.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, Serialize};
use streambox::aggregate::{Aggregate, Decision, DomainEvent, TaggedJson};

use crate::table::Emails;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub(crate) enum ConcertEvent {
    Announced { seats: u32 },
    SeatReserved { seat: u32, email: String },
    SeatReleased { seat: u32 },
}

impl DomainEvent for ConcertEvent {
    type Codec = TaggedJson;
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Concert {
    /// The seats are 1 to this number. None before the concert is announced.
    seats: Option<u32>,
    /// Who has which seat.
    taken: BTreeMap<u32, String>,
}

/// Why a command is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the concert has not been announced")]
    NotAnnounced,
    #[error("the concert was announced with {seats} seats")]
    Announced { seats: u32 },
    #[error("there is no seat {seat}")]
    NoSuchSeat { seat: u32 },
    #[error("seat {seat} is taken")]
    Taken { seat: u32 },
    #[error("the concert is sold out")]
    SoldOut,
}

impl Aggregate for Concert {
    type Event = ConcertEvent;
    const CATEGORY: &'static str = "concert";

    fn apply(&mut self, event: &ConcertEvent) {
        match event {
            ConcertEvent::Announced { seats } => self.seats = Some(*seats),
            ConcertEvent::SeatReserved { seat, email } => _ = self.taken.insert(*seat, email.clone()),
            ConcertEvent::SeatReleased { seat } => _ = self.taken.remove(seat),
        }
    }
}

impl Concert {
    pub(crate) fn announce(&self, seats: u32) -> Result<Option<ConcertEvent>, Refused> {
        match self.seats {
            None => Ok(Some(ConcertEvent::Announced { seats })),
            Some(announced) if announced == seats => Ok(None),
            Some(seats) => Err(Refused::Announced { seats }),
        }
    }

    /// Reserves the wanted seat, or the first free one, and returns it. The address is claimed in the same transaction.
    pub(crate) fn reserve(
        &self,
        email: &str,
        wanted: Option<u32>,
        emails: &Emails,
    ) -> Result<Decision<ConcertEvent, u32>, Refused> {
        let seats = self.announced()?;
        if let Some((&seat, _)) = self.taken.iter().find(|(_, holder)| *holder == email)
            && wanted.is_none_or(|wanted| wanted == seat)
        {
            return Ok(Decision::new([]).returning(seat));
        }
        let seat = wanted.or_else(|| self.free().next()).ok_or(Refused::SoldOut)?;
        if !seats.contains(&seat) {
            return Err(Refused::NoSuchSeat { seat });
        }
        if self.taken.contains_key(&seat) {
            return Err(Refused::Taken { seat });
        }
        let reserved = ConcertEvent::SeatReserved { seat, email: email.to_owned() };
        Ok(Decision::new([reserved]).item(emails.claim(email)).returning(seat))
    }

    /// Releases a seat, and with it the address.
    pub(crate) fn release(&self, seat: u32, emails: &Emails) -> Result<Decision<ConcertEvent>, Refused> {
        self.announced()?;
        Ok(match self.taken.get(&seat) {
            Some(email) => Decision::new([ConcertEvent::SeatReleased { seat }]).item(emails.release(email)),
            None => Decision::new([]),
        })
    }

    pub(crate) fn free(&self) -> impl Iterator<Item = u32> + '_ {
        (1..=self.seats.unwrap_or(0)).filter(|seat| !self.taken.contains_key(seat))
    }

    fn announced(&self) -> Result<RangeInclusive<u32>, Refused> {
        self.seats.map(|seats| 1..=seats).ok_or(Refused::NotAnnounced)
    }
}

#[cfg(test)]
mod tests {
    use ConcertEvent::{Announced, SeatReleased, SeatReserved};
    use streambox::testing::Given;

    use super::*;

    fn reserved(seat: u32, email: &str) -> ConcertEvent {
        SeatReserved { seat, email: email.to_owned() }
    }

    fn with_ann() -> Given<Concert> {
        Given::events([Announced { seats: 2 }, reserved(1, "ann")])
    }

    fn emails() -> Emails {
        Emails::new("own")
    }

    #[test]
    fn a_seat_is_reserved_with_the_address_the_wanted_one_or_the_first_free_one() {
        let reserve = |wanted| with_ann().when(move |concert| concert.reserve("bob", wanted, &emails()));
        reserve(None).then([reserved(2, "bob")]).then_returned(2);
        reserve(Some(2)).then([reserved(2, "bob")]).then_returned(2);
        assert_eq!(reserve(None).into_decision().unwrap().own_items(), [emails().claim("bob")]);
        reserve(Some(1)).then_error(Refused::Taken { seat: 1 });
        reserve(Some(3)).then_error(Refused::NoSuchSeat { seat: 3 });
    }

    #[test]
    fn what_has_been_done_is_not_done_again() {
        with_ann().when(|concert| concert.announce(2)).then_nothing();
        with_ann().when(|concert| concert.announce(3)).then_error(Refused::Announced { seats: 2 });
        with_ann().when(|concert| concert.reserve("ann", None, &emails())).then_nothing().then_returned(1);
        with_ann().when(|concert| concert.release(1, &emails())).then([SeatReleased { seat: 1 }]);
        with_ann().when(|concert| concert.release(2, &emails())).then_nothing();
    }

    #[test]
    fn nothing_is_reserved_before_the_announcement_or_when_all_is_taken() {
        let nothing = Given::<Concert>::nothing();
        nothing.when(|concert| concert.reserve("ann", None, &emails())).then_error(Refused::NotAnnounced);
        let full = Given::<Concert>::events([Announced { seats: 1 }, reserved(1, "ann")]);
        full.when(|concert| concert.reserve("bob", None, &emails())).then_error(Refused::SoldOut);
    }
}
