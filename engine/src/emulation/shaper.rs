//! The shaper: frames in, the same frames out when they are due, but for those that were lost. Pure: time is an
//! argument, and everything random follows from a seed.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::emulation::model::LinkModel;
use crate::limits::{LINK_BYTES_MAX, PEER_QUEUE_BYTES_MAX};
use crate::named::named_enum;
use crate::types::Time;

named_enum! {
    /// Why a frame never leaves.
    Dropped {
        /// The link lost it.
        Lost = "emulated_loss",
        /// The link is blocked, or was blocked while the frame was under way.
        Blocked = "emulated_block",
        /// More than [`PEER_QUEUE_BYTES_MAX`] bytes wait for the link's bandwidth, or more than [`LINK_BYTES_MAX`] are
        /// under way.
        Full = "emulated_link_full",
    }
}

/// What a link has done so far, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Handed on.
    pub passed: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Stopped by a block.
    pub blocked: u64,
    /// Refused because too many bytes are under way.
    pub full: u64,
}

impl LinkCounts {
    /// Frames dropped for this reason.
    #[must_use]
    pub const fn of(&self, dropped: Dropped) -> u64 {
        match dropped {
            Dropped::Lost => self.lost,
            Dropped::Blocked => self.blocked,
            Dropped::Full => self.full,
        }
    }

    fn add(&mut self, dropped: Dropped, frames: u64) {
        *match dropped {
            Dropped::Lost => &mut self.lost,
            Dropped::Blocked => &mut self.blocked,
            Dropped::Full => &mut self.full,
        } += frames;
    }
}

/// One link and what it remembers.
struct Link {
    model: LinkModel,
    rng: Xoshiro256PlusPlus,
    /// When it can take the next frame.
    free_at: Time,
    /// When the last frame is due, so that the next one is not due before it.
    last_due: Time,
    bytes: usize,
    counts: LinkCounts,
}

/// A frame under way.
struct Flight<T> {
    due: Time,
    /// Frames that are due at the same time leave in the order in which they came.
    number: u64,
    link: usize,
    bytes: usize,
    item: T,
}

/// The links of one process to others, each with its own model.
pub struct Shaper<T> {
    links: Vec<Link>,
    flights: BinaryHeap<Flight<T>>,
    number: u64,
}

impl<T> Shaper<T> {
    /// A link for each of `models`. What each one draws at random depends on `seed` and its index alone.
    #[must_use]
    pub fn new(models: &[LinkModel], seed: u64) -> Self {
        let link = |(index, model): (u64, &LinkModel)| Link {
            model: *model,
            // Neighbouring seeds give unrelated streams: the generator's own seeding sees to that.
            rng: Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_add(index << 32)),
            free_at: Time(0),
            last_due: Time(0),
            bytes: 0,
            counts: LinkCounts::default(),
        };
        Self { links: (0..).zip(models).map(link).collect(), flights: BinaryHeap::new(), number: 0 }
    }

    /// How many links there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// What link number `link` does, `None` if there is no such link.
    #[must_use]
    pub fn model(&self, link: usize) -> Option<&LinkModel> {
        self.links.get(link).map(|link| &link.model)
    }

    /// What link number `link` has done.
    #[must_use]
    pub fn counts(&self, link: usize) -> LinkCounts {
        self.links.get(link).map_or_else(LinkCounts::default, |link| link.counts)
    }

    /// Bytes under way on link number `link`.
    #[must_use]
    pub fn bytes(&self, link: usize) -> usize {
        self.links.get(link).map_or(0, |link| link.bytes)
    }

    /// From now on link number `link` behaves like this. Frames under way arrive as they would have, in front of those
    /// that come, unless the link is blocked now: then they are lost.
    pub fn set(&mut self, link: usize, model: LinkModel) {
        let Some(entry) = self.links.get_mut(link) else { return };
        entry.model = model;
        if model.blocked {
            let before = self.flights.len();
            self.flights.retain(|flight| flight.link != link);
            entry.counts.add(Dropped::Blocked, (before - self.flights.len()) as u64);
            (entry.bytes, entry.free_at, entry.last_due) = (0, Time(0), Time(0));
        }
    }

    /// A frame of `bytes` bytes for link number `link`, which takes it on its way or drops it.
    ///
    /// # Errors
    /// Why it was dropped; that is counted too.
    pub fn push(&mut self, now: Time, link: usize, bytes: usize, item: T) -> Result<(), Dropped> {
        let Some(entry) = self.links.get_mut(link) else { return Err(Dropped::Blocked) };
        if let Some(dropped) = entry.refuses(now, bytes) {
            entry.counts.add(dropped, 1);
            return Err(dropped);
        }
        let due = entry.due(now, bytes);
        entry.bytes += bytes;
        self.number += 1;
        self.flights.push(Flight { due, number: self.number, link, bytes, item });
        Ok(())
    }

    /// The next frame that is due, with its link.
    pub fn pop_due(&mut self, now: Time) -> Option<(usize, T)> {
        if self.flights.peek()?.due > now {
            return None;
        }
        let Flight { link, bytes, item, .. } = self.flights.pop()?;
        let entry = &mut self.links[link];
        entry.bytes -= bytes;
        entry.counts.passed += 1;
        Some((link, item))
    }

    /// When the next frame is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.flights.peek().map(|flight| flight.due)
    }
}

impl Link {
    fn refuses(&mut self, now: Time, bytes: usize) -> Option<Dropped> {
        if self.model.blocked {
            Some(Dropped::Blocked)
        } else if self.bytes + bytes > LINK_BYTES_MAX || self.waiting_bytes(now) > PEER_QUEUE_BYTES_MAX as u128 {
            Some(Dropped::Full)
        } else if self.model.draw_loss(&mut self.rng) {
            Some(Dropped::Lost)
        } else {
            None
        }
    }

    /// Bytes that are not on the link yet, for want of bandwidth.
    fn waiting_bytes(&self, now: Time) -> u128 {
        let bits_per_s = self.model.bandwidth.unwrap_or(0);
        u128::from(self.free_at.since(now)) * u128::from(bits_per_s) / 8_000_000_000
    }

    /// When a frame of `bytes` bytes that comes now arrives: it waits until those before it are on the link, is put on
    /// it, and then takes the delay.
    fn due(&mut self, now: Time, bytes: usize) -> Time {
        let takes_ns = self.model.serialisation_ns(bytes);
        self.free_at = self.free_at.max(now).after(takes_ns);
        let due = self.free_at.after(self.model.draw_delay_ns(&mut self.rng));
        if self.model.reorder {
            return due;
        }
        // What a late frame held up follows it at the link's rate.
        let behind = if self.last_due == Time(0) { due } else { self.last_due.after(takes_ns) };
        self.last_due = due.max(behind);
        self.last_due
    }
}

impl<T> PartialEq for Flight<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Flight<T> {}

impl<T> PartialOrd for Flight<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Flight<T> {
    /// The greatest is due first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

#[cfg(test)]
mod tests;
