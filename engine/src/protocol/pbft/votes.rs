//! Votes of one phase at one position: one for each authenticated sender, the first counts.

use crate::protocol::Ignored;
use crate::protocol::message::Signature;
use crate::protocol::sets::{members, set_of, size};
use crate::types::{Digest, ReplicaId};

/// Who voted for what. At most one vote a sender, so at most n votes; clearing keeps the memory for the next use.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    candidates: Vec<Candidate>,
    /// Of senders that sign: what would convince others.
    signatures: Vec<(ReplicaId, Signature)>,
}

#[derive(Clone, Debug)]
struct Candidate {
    digest: Digest,
    voters: u64,
}

impl Votes {
    /// Counts one vote.
    ///
    /// # Errors
    /// [`Ignored::DuplicateVote`] or [`Ignored::ConflictingVote`] if `sender` has voted before.
    pub(super) fn record(
        &mut self,
        sender: ReplicaId,
        digest: Digest,
        signature: Option<Signature>,
    ) -> Result<(), Ignored> {
        if let Some(earlier) = self.of(sender) {
            return Err(if earlier == digest { Ignored::DuplicateVote } else { Ignored::ConflictingVote });
        }
        match self.candidates.iter_mut().find(|candidate| candidate.digest == digest) {
            Some(candidate) => candidate.voters |= set_of(sender),
            None => self.candidates.push(Candidate { digest, voters: set_of(sender) }),
        }
        self.signatures.extend(signature.map(|signature| (sender, signature)));
        Ok(())
    }

    /// Counts one of the votes for `digest` once more: the mistake of a planted bug.
    pub(super) fn count_again(&mut self, digest: Digest) {
        if let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.digest == digest) {
            candidate.voters |= 1 << (u64::BITS - 1 - candidate.voters.leading_ones());
        }
    }

    /// All votes but those of one replica: the mistake of a planted bug.
    pub(super) fn without(mut self, replica: ReplicaId) -> Self {
        for candidate in &mut self.candidates {
            candidate.voters &= !set_of(replica);
        }
        self
    }

    /// Who voted for `digest`.
    pub(super) fn voters(&self, digest: Digest) -> u64 {
        self.candidates.iter().find(|candidate| candidate.digest == digest).map_or(0, |candidate| candidate.voters)
    }

    /// How many voted for `digest`.
    pub(super) fn count(&self, digest: Digest) -> usize {
        size(self.voters(digest))
    }

    /// Who voted at all.
    pub(super) fn all(&self) -> u64 {
        self.candidates.iter().fold(0, |all, candidate| all | candidate.voters)
    }

    /// What `sender` voted for.
    pub(super) fn of(&self, sender: ReplicaId) -> Option<Digest> {
        let voter = set_of(sender);
        self.candidates.iter().find(|candidate| candidate.voters & voter != 0).map(|candidate| candidate.digest)
    }

    /// The digests voted for, each with its voters.
    pub(super) fn candidates(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.candidates.iter().map(|candidate| (candidate.digest, candidate.voters))
    }

    /// Every vote with its signature, if it has one.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ReplicaId, Digest, Option<Signature>)> {
        let signature = |voter| self.signatures.iter().find(|(signer, _)| *signer == voter).map(|(_, bytes)| *bytes);
        members(self.all()).filter_map(move |voter| Some((voter, self.of(voter)?, signature(voter))))
    }

    /// The voters for `digest` with their signatures.
    pub(super) fn proof(&self, digest: Digest) -> Vec<(ReplicaId, Option<Signature>)> {
        let signature = |voter| self.signatures.iter().find(|(signer, _)| *signer == voter).map(|(_, bytes)| *bytes);
        members(self.voters(digest)).map(|voter| (voter, signature(voter))).collect()
    }

    /// Forgets all votes.
    pub(super) fn clear(&mut self) {
        self.candidates.clear();
        self.signatures.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest([1; 32]);
    const B: Digest = Digest([2; 32]);

    #[test]
    fn one_vote_a_sender_and_the_first_counts() {
        let mut votes = Votes::default();
        assert_eq!(votes.record(ReplicaId(0), A, None), Ok(()));
        assert_eq!(votes.record(ReplicaId(0), A, None), Err(Ignored::DuplicateVote));
        assert_eq!(votes.record(ReplicaId(0), B, None), Err(Ignored::ConflictingVote));
        assert_eq!(votes.record(ReplicaId(63), B, Some([7; 64])), Ok(()));
        assert_eq!(votes.record(ReplicaId(2), A, None), Ok(()));
        assert_eq!((votes.count(A), votes.count(B), votes.count(Digest::default())), (2, 1, 0));
        assert_eq!(votes.all(), 1 << 63 | 0b101);
        assert_eq!((votes.of(ReplicaId(2)), votes.of(ReplicaId(3))), (Some(A), None));
        assert_eq!(votes.proof(B), [(ReplicaId(63), Some([7; 64]))]);
        votes.clear();
        assert_eq!(votes.all(), 0);
    }
}
