//! Proofs of groups: one proof for up to [`GROUP_REQUESTS_MAX`] requests that a client node sends in one frame.
//!
//! Requests of a group part ways: some are dropped, others get into different batches. So a table says of each group
//! which of its requests are here, and has the digests of the others, the *holes*. Both together give back what the
//! proof covers ([`auth::groups`](crate::auth::groups)), so whatever is left of a group proves itself still.

use std::ops::Range;

use bytes::Bytes;

use crate::limits::{GROUP_REQUESTS_MAX, GROUPS_MAX};
use crate::types::{Digest, NodeId};

/// What a table holds of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The client node that proves it.
    pub node: NodeId,
    /// How many requests the proof covers.
    pub size: u8,
    /// Which of them are in the table, bit i for number i.
    pub present: u64,
}

impl Group {
    /// All `size` requests of a group.
    ///
    /// # Panics
    /// If no group is as large: that would be our own error.
    #[must_use]
    pub fn whole(node: NodeId, size: usize) -> Self {
        assert!((1..=GROUP_REQUESTS_MAX).contains(&size), "a group of {size} requests");
        #[allow(clippy::cast_possible_truncation, reason = "checked above")]
        Self { node, size: size as u8, present: u64::MAX >> (GROUP_REQUESTS_MAX - size) }
    }

    /// How many of its requests are in the table.
    #[must_use]
    pub const fn requests(self) -> usize {
        self.present.count_ones() as usize
    }

    /// How many are not. The group must be [sound](Self::is_sound).
    #[must_use]
    pub const fn holes(self) -> usize {
        self.size as usize - self.requests()
    }

    /// Whether there can be such a group: not too large, with at least one request here and none beyond its size.
    #[must_use]
    pub const fn is_sound(self) -> bool {
        let size = self.size as usize;
        self.present != 0 && size <= GROUP_REQUESTS_MAX && self.present.leading_zeros() as usize + size >= 64
    }

    /// Which number in the group the one has that is the `nth` of it in the table.
    const fn number(self, nth: usize) -> u32 {
        if nth < self.present.trailing_ones() as usize {
            #[allow(clippy::cast_possible_truncation, reason = "fewer than 64")]
            return nth as u32;
        }
        let (mut present, mut before) = (self.present, nth);
        while before > 0 {
            present &= present - 1;
            before -= 1;
        }
        present.trailing_zeros()
    }
}

/// The groups that a table's requests are of, in the order of the table, with a proof for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    groups: Vec<Group>,
    /// Where each group's requests start in the table, and where its holes do.
    starts: Vec<(u32, u32)>,
    /// How many requests there are.
    requests: usize,
    /// Digests of requests that are not in the table, in order.
    holes: Vec<Digest>,
    columns: u16,
    proofs: Bytes,
}

impl Groups {
    /// These groups, the digests of all requests that they lack, and their proofs: `columns` × groups tags, column by
    /// column as in a table of tags, or with 0 columns a signature each. `None` if a group can not be, if there are
    /// more than [`GROUPS_MAX`], or other holes than they say.
    #[must_use]
    pub fn new(groups: Vec<Group>, holes: Vec<Digest>, columns: u16, proofs: Bytes) -> Option<Self> {
        if groups.len() > GROUPS_MAX || !groups.iter().all(|group| group.is_sound()) {
            return None;
        }
        let mut starts = Vec::with_capacity(groups.len());
        let (mut requests, mut lacking) = (0, 0);
        for group in &groups {
            #[allow(clippy::cast_possible_truncation, reason = "bounded by GROUPS_MAX and GROUP_REQUESTS_MAX")]
            starts.push((requests as u32, lacking as u32));
            requests += group.requests();
            lacking += group.holes();
        }
        (lacking == holes.len()).then_some(Self { groups, starts, requests, holes, columns, proofs })
    }

    /// The groups.
    #[must_use]
    pub fn all(&self) -> &[Group] {
        &self.groups
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many requests they have in the table, all together.
    #[must_use]
    pub const fn requests(&self) -> usize {
        self.requests
    }

    /// Digests of requests that are not in the table, group by group.
    #[must_use]
    pub fn holes(&self) -> &[Digest] {
        &self.holes
    }

    /// How many tags a group has: n, or 1; 0 if it has a signature.
    #[must_use]
    pub const fn columns(&self) -> u16 {
        self.columns
    }

    /// The proofs: tags column by column, or signatures.
    #[must_use]
    pub const fn proofs(&self) -> &Bytes {
        &self.proofs
    }

    /// The same groups with these proofs.
    #[must_use]
    pub fn with_proofs(self, columns: u16, proofs: Bytes) -> Self {
        Self { columns, proofs, ..self }
    }

    /// The group that request `index` is of.
    ///
    /// # Panics
    /// If there is no such request.
    #[must_use]
    pub fn of(&self, index: usize) -> usize {
        assert!(index < self.requests, "request {index} of {}", self.requests);
        self.starts.partition_point(|&(first, _)| first as usize <= index) - 1
    }

    /// Which requests of the table are of group `at`.
    ///
    /// # Panics
    /// If there is no such group.
    #[must_use]
    pub fn range(&self, at: usize) -> Range<usize> {
        let first = self.starts[at].0 as usize;
        first..first + self.groups[at].requests()
    }

    /// The groups of which any request is in `range` of the table.
    #[must_use]
    pub fn within(&self, range: &Range<usize>) -> Range<usize> {
        if range.is_empty() { 0..0 } else { self.of(range.start)..self.of(range.end - 1) + 1 }
    }

    /// The digests of all requests of group `at`, in order: `own` are those of the table.
    ///
    /// # Panics
    /// If there is no such group, or `own` are not as many as there are requests.
    pub fn digests<'a>(&'a self, at: usize, own: &'a [Digest]) -> impl Iterator<Item = &'a Digest> {
        let group = self.groups[at];
        let (first, first_hole) = self.starts[at];
        let mut own = own[first as usize..].iter();
        let mut holes = self.holes[first_hole as usize..].iter();
        (0..group.size).map(move |number| {
            let digest = if group.present >> number & 1 == 1 { own.next() } else { holes.next() };
            digest.expect("a digest for each request, checked when these were made")
        })
    }

    /// Bytes of one proof, 0 if there are no groups.
    pub(super) const fn bytes_each(&self) -> usize {
        let columns = if self.columns == 0 { 1 } else { self.columns as usize };
        let Some(each) = self.proofs.len().checked_div(columns * self.len()) else { return 0 };
        assert!(each * columns * self.len() == self.proofs.len(), "proofs of one length, as many as there are groups");
        each
    }

    /// Bytes that these keep in memory.
    pub(super) const fn bytes(&self) -> usize {
        let group = size_of::<Group>() + size_of::<(u32, u32)>();
        self.len() * group + size_of::<Digest>() * self.holes.len() + self.proofs.len()
    }

    /// The proof of group `at` in column `column`, of `each` bytes.
    fn proof(&self, at: usize, column: usize, each: usize) -> &[u8] {
        &self.proofs[(column * self.len() + at) * each..][..each]
    }
}

/// The groups of a table that is being gathered from others.
#[derive(Debug, Default)]
pub(super) struct GroupsBuilder {
    groups: Vec<Group>,
    holes: Vec<Digest>,
    /// The proofs, one column of tags each; one of signatures.
    columns: Vec<Vec<u8>>,
    is_signed: bool,
    /// Of the last group: the digests of all of its requests. Its holes are known when nothing is added to it any more.
    digests: Vec<Digest>,
}

impl GroupsBuilder {
    pub(super) const fn len(&self) -> usize {
        self.groups.len()
    }

    /// Adds request `index` of a table with these `groups` and digests, whose group is `at`. `same`: the last group
    /// here is known to be that one.
    pub(super) fn push(&mut self, groups: &Groups, own: &[Digest], (index, at): (usize, usize), same: bool) {
        let number = groups.groups[at].number(index - groups.starts[at].0 as usize);
        // What came before has lower numbers, else a group begins anew: the digests are those of the numbers in order.
        let goes_on = self.groups.last().is_some_and(|last| last.present >> number == 0)
            && (same || self.is_last(groups, own, at));
        if !goes_on {
            self.begin(groups, own, at);
        }
        let last = self.groups.last_mut().expect("one was begun");
        last.present |= 1 << number;
    }

    /// Whether the last group is group `at` of these: it covers the same requests by the same proofs.
    fn is_last(&self, groups: &Groups, own: &[Digest], at: usize) -> bool {
        let (Some(last), group) = (self.groups.last(), groups.groups[at]) else { return false };
        let each = groups.bytes_each();
        let mut proofs = self.columns.iter().enumerate();
        (last.node, last.size) == (group.node, group.size)
            && proofs.all(|(column, proofs)| proofs.ends_with(groups.proof(at, column, each)))
            && self.digests.iter().eq(groups.digests(at, own))
    }

    fn begin(&mut self, groups: &Groups, own: &[Digest], at: usize) {
        self.close();
        self.is_signed = groups.columns == 0;
        let columns = usize::from(groups.columns.max(1));
        assert!(self.groups.is_empty() || self.columns.len() == columns, "mixed proofs in one table");
        self.columns.resize_with(columns, Vec::new);
        let each = groups.bytes_each();
        for (column, proofs) in self.columns.iter_mut().enumerate() {
            proofs.extend_from_slice(groups.proof(at, column, each));
        }
        self.digests.extend(groups.digests(at, own));
        self.groups.push(Group { present: 0, ..groups.groups[at] });
    }

    /// Nothing is added to the last group any more.
    fn close(&mut self) {
        let Some(last) = self.groups.last() else { return };
        let lacking = self.digests.iter().enumerate().filter(|(number, _)| last.present >> number & 1 == 0);
        self.holes.extend(lacking.map(|(_, digest)| digest));
        self.digests.clear();
    }

    /// The groups of what was added, `None` if they are more than a table may have.
    pub(super) fn finish(mut self) -> Option<Groups> {
        self.close();
        #[allow(clippy::cast_possible_truncation, reason = "at most REPLICAS_MAX columns")]
        let columns = if self.is_signed { 0 } else { self.columns.len() as u16 };
        Groups::new(self.groups, self.holes, columns, self.columns.concat().into())
    }
}
