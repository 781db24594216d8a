//! The ways of misbehaving, by name.

use std::str::FromStr;

use crate::named::named_enum;
use crate::settings::options::{OptionError, named_option, text_serde};
use crate::types::ReplicaId;

named_option! {
    /// One way in which a replica misbehaves. A replica may have several.
    Kind, "byzantine" {
        /// Says nothing to other replicas.
        Silent = "silent",
        /// Says everything late, by three quarters of the view time-out: as primary it commits just within it.
        Slow = "slow",
        /// Says different things to different replicas: as primary two batches for one sequence number, as backup
        /// different votes; in a view change different histories.
        Equivocate = "equivocate",
        /// Proves nothing that it says: every proof of a message is wrong.
        CorruptMac = "corrupt-mac",
        /// Proves what it says to half of the replicas only.
        PartialAuthenticator = "partial-authenticator",
        /// Votes for digests that nobody proposed.
        WrongDigest = "wrong-digest",
        /// Answers clients with wrong results.
        WrongReply = "wrong-reply",
        /// As primary shows a batch to just enough replicas, or to one too few; never sends a body.
        WithholdBody = "withhold-body",
        /// Sends bodies before anybody has asked for them, right ones and others, and never prepares: so as to hide
        /// that proofs of requests are missing.
        EarlyBody = "early-body",
        /// Repeats what it said in the past, and speaks of views that are past or never come.
        StaleView = "stale-view",
        /// Vouches for states that do not exist: wrong digests, far ahead, between checkpoints.
        LyingCheckpoint = "lying-checkpoint",
        /// Answers whoever fetches a state with changed, misnumbered or invented chunks.
        LyingState = "lying-state",
        /// Sends many well-formed messages that are of no use to anybody.
        Flood = "flood",
        /// Messages swallowed, doubled, misdirected or with any field changed; the tricks of `equivocate`,
        /// `wrong-digest`, `withhold-body`, `early-body`, `lying-checkpoint` and `lying-state`; now and then a flood,
        /// or talk of other views.
        Random = "random",
    }
}

impl Kind {
    /// Whether it spoils the proof of a message to `receiver`. Proofs are not the protocol's business: whoever makes
    /// them asks.
    #[must_use]
    pub const fn corrupts_proof_to(self, receiver: ReplicaId) -> bool {
        match self {
            Self::CorruptMac => true,
            Self::PartialAuthenticator => receiver.0 % 2 == 1,
            _ => false,
        }
    }

    /// Whether it spoils the proofs of what clients are told.
    #[must_use]
    pub const fn corrupts_reply_proofs(self) -> bool {
        matches!(self, Self::CorruptMac)
    }

    /// Whether it spoils the results that clients are told.
    #[must_use]
    pub const fn corrupts_replies(self) -> bool {
        matches!(self, Self::WrongReply)
    }

    /// Whether it acts only where proofs and replies are made, so that the protocol inside is left as it is.
    #[must_use]
    pub const fn acts_outside_protocol(self) -> bool {
        matches!(self, Self::CorruptMac | Self::PartialAuthenticator | Self::WrongReply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_what_they_write() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), *kind);
            assert_eq!(serde_json::from_str::<Kind>(&serde_json::to_string(kind).unwrap()).unwrap(), *kind);
        }
        assert_eq!(Kind::ALL.len(), 14);
        let error = "evil".parse::<Kind>().unwrap_err().to_string();
        assert!(error.starts_with("byzantine: 'evil' is not allowed; allowed: silent, slow, equivocate,"), "{error}");
    }

    #[test]
    fn what_acts_outside_the_protocol_says_what_it_spoils() {
        let spoils = |kind: Kind| (0..4).any(|to| kind.corrupts_proof_to(ReplicaId(to))) || kind.corrupts_replies();
        for kind in Kind::ALL {
            assert_eq!(spoils(*kind), kind.acts_outside_protocol(), "{kind}");
        }
        let half = (0..4).filter(|to| Kind::PartialAuthenticator.corrupts_proof_to(ReplicaId(*to))).count();
        assert_eq!(half, 2);
    }
}
