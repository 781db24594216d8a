//! Decodes what arrives at one node, by its cluster's rules.

use bytes::Bytes;

use super::frame::FrameKind;
use super::messages::{Context, Decoded, decode_message};
use super::reader::DecodeError;
use super::replies::{DecodedBatchDigest, DecodedReplies, decode_batch_digest, decode_read_replies, decode_replies};
use super::requests::decode_requests;
use crate::auth::{Digester, Keyring, LinkClass, Strategy};
use crate::protocol::Message;
use crate::requests::{Proofs, RequestTable};
use crate::types::ReplicaId;

/// Decodes bodies. Keeps its scratch memory from body to body.
///
/// Beyond the layout it checks that requests carry the kind and number of proofs that the cluster uses, so that tables
/// of several clients can always be put into one batch, and a batch's proofs be handed out replica by replica.
#[derive(Debug)]
pub struct Decoder {
    cluster: [u8; 8],
    replicas: usize,
    requests: Strategy,
    /// Whether requests are proven in groups.
    groups: bool,
    message_proof_bytes: usize,
    reply_proof_bytes: usize,
    digester: Digester,
}

impl Decoder {
    /// A decoder for nodes of `keyring`'s cluster.
    #[must_use]
    pub fn new(keyring: &Keyring) -> Self {
        Self {
            cluster: keyring.cluster(),
            replicas: keyring.quorums().n(),
            requests: keyring.strategy(LinkClass::ClientToReplica),
            groups: keyring.proves_groups(),
            message_proof_bytes: keyring.strategy(LinkClass::ReplicaToReplica).proof_bytes(),
            reply_proof_bytes: keyring.strategy(LinkClass::ReplicaToClient).proof_bytes(),
            digester: Digester::default(),
        }
    }

    /// A client node's requests ([`FrameKind::Requests`], [`FrameKind::Reads`]), their digests computed, with a proof
    /// for every replica. Operations and proofs are slices of `body`.
    ///
    /// # Errors
    /// If the body is not a table within the limits, or its proofs are not those of this cluster.
    pub fn requests(&mut self, body: Bytes) -> Result<RequestTable, DecodeError> {
        let table = decode_requests(body, Some(self.requests), &mut self.digester)?;
        self.check_for_everybody(&table)?;
        // Whoever has made a group has all of it.
        if let Proofs::Groups(groups) = &table.proofs
            && !groups.holes().is_empty()
        {
            return Err(DecodeError::PartialGroup);
        }
        Ok(table)
    }

    /// A message of replica `sender`. Digests are recomputed; operations and proofs are slices of `body`, but for those
    /// of [received](crate::requests::Batch::received) batches.
    ///
    /// # Errors
    /// If the frame is no message between replicas, not one within the limits, or the proofs of requests in it are not
    /// those of this cluster. A pre-prepare may lack them: then others have to vouch for its requests.
    pub fn message(&mut self, kind: FrameKind, sender: ReplicaId, body: Bytes) -> Result<Decoded, DecodeError> {
        let context = Context {
            cluster: self.cluster,
            replicas: self.replicas,
            requests: self.requests,
            proof_bytes: self.message_proof_bytes,
        };
        let decoded = decode_message(kind, sender, body, context, &mut self.digester)?;
        match &decoded.message {
            Message::PrePrepare(message) => self.check_for_receiver(&message.batch.requests)?,
            Message::Forward(table) => self.check_for_everybody(table)?,
            Message::DigestPrePrepare(_)
            | Message::Prepare(_)
            | Message::Commit(_)
            | Message::Committed(_)
            | Message::Checkpoint(_)
            | Message::Status(_)
            | Message::Body(_)
            | Message::ViewChange(_)
            | Message::NewView(_)
            | Message::StateWanted(_)
            | Message::FetchState(_)
            | Message::StateChunk(_) => {}
        }
        Ok(decoded)
    }

    /// Replies of replica `sender` ([`FrameKind::Replies`]). Results and proof are slices of `body`.
    ///
    /// # Errors
    /// If the body is not a table of replies within the limits.
    pub fn replies(&self, sender: ReplicaId, body: Bytes) -> Result<DecodedReplies, DecodeError> {
        decode_replies(sender, body, self.cluster, self.reply_proof_bytes)
    }

    /// The digest of a batch's replies, of replica `sender` ([`FrameKind::BatchDigest`]).
    ///
    /// # Errors
    /// If the body is none.
    pub fn batch_digest(&self, sender: ReplicaId, body: Bytes) -> Result<DecodedBatchDigest, DecodeError> {
        decode_batch_digest(sender, body, self.cluster, self.reply_proof_bytes)
    }

    /// The same of replies to read-only requests ([`FrameKind::ReadReplies`]).
    ///
    /// # Errors
    /// If the body is not a table of replies within the limits.
    pub fn read_replies(&self, sender: ReplicaId, body: Bytes) -> Result<DecodedReplies, DecodeError> {
        decode_read_replies(sender, body, self.cluster, self.reply_proof_bytes)
    }

    fn check_for_everybody(&self, table: &RequestTable) -> Result<(), DecodeError> {
        self.check_proofs(table, self.replicas, self.requests.proof_bytes() == 0)
    }

    fn check_for_receiver(&self, table: &RequestTable) -> Result<(), DecodeError> {
        self.check_proofs(table, 1, true)
    }

    /// That proofs, which are of the cluster's kind, are there unless they may be absent, and tags in `columns`
    /// columns.
    fn check_proofs(&self, table: &RequestTable, columns: usize, may_lack: bool) -> Result<(), DecodeError> {
        let allowed = match &table.proofs {
            Proofs::None => may_lack || table.is_empty(),
            Proofs::Tags { columns: actual, .. } => usize::from(*actual) == columns && !self.groups,
            Proofs::Signatures(_) => !self.groups,
            Proofs::Groups(groups) => {
                let actual = usize::from(groups.columns());
                self.groups && (actual == columns || actual == 0)
            }
        };
        if allowed { Ok(()) } else { Err(DecodeError::WrongProofs) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::Sealer;
    use crate::auth::strategies::Reach;
    use crate::auth::testing::{cluster, keyring, table};
    use crate::settings::Authentication;
    use crate::wire::requests::{ProofColumns, encode_table};

    /// Where groups are proven nothing else is taken, and elsewhere no group is. Only who has made a group has all of
    /// it.
    #[test]
    fn groups_are_taken_where_the_cluster_uses_them() {
        for (strategy, columns) in [("mac", 4), ("ed25519", 0)] {
            let client = keyring(&cluster(&format!("{strategy}/frame"), 4, &[9]), 4);
            let replica = |authentication: &str| Decoder::new(&keyring(&cluster(authentication, 4, &[9]), 0));
            let (mut in_groups, mut single) = (replica(&format!("{strategy}/frame")), replica(strategy));
            let mut table = table(&[(1, 2, vec![3]), (4, 5, vec![]), (6, 7, vec![])]);
            let body = |table: &RequestTable, columns| {
                let mut body = Vec::new();
                encode_table(&mut body, table, columns);
                Bytes::from(body)
            };
            let trailer = vec![0; single.message_proof_bytes];
            let forward = |body: &Bytes| Bytes::from([body, &trailer[..]].concat());
            let pre_prepare = |body: &Bytes| Bytes::from([&[0; 16], &body[..], &trailer].concat());
            let message = |decoder: &mut Decoder, kind, body| decoder.message(kind, ReplicaId(1), body).map(|_| ());
            table.proofs = Sealer::new(Arc::clone(&client)).seal_requests(&table);
            for (part, own) in [(table.clone(), Ok(())), (table.select(&[0, 2]), Err(DecodeError::PartialGroup))] {
                let all = body(&part, ProofColumns::All);
                assert_eq!(in_groups.requests(all.clone()).map(|_| ()), own);
                assert_eq!(message(&mut in_groups, FrameKind::Forward, forward(&all)), Ok(()));
                assert_eq!(single.requests(all.clone()).map(|_| ()), Err(DecodeError::WrongProofs));
                assert_eq!(message(&mut single, FrameKind::Forward, forward(&all)), Err(DecodeError::WrongProofs));
                let one = body(&part, ProofColumns::Of(ReplicaId(0)));
                assert_eq!(message(&mut in_groups, FrameKind::PrePrepare, pre_prepare(&one)), Ok(()));
                assert_eq!(
                    message(&mut single, FrameKind::PrePrepare, pre_prepare(&one)),
                    Err(DecodeError::WrongProofs)
                );
                let expected = if columns == 0 { Ok(()) } else { Err(DecodeError::WrongProofs) };
                assert_eq!(message(&mut in_groups, FrameKind::PrePrepare, pre_prepare(&all)), expected);
                assert_eq!(message(&mut in_groups, FrameKind::Forward, forward(&one)), expected);
            }
            table.proofs = Sealer::new(keyring(&cluster(strategy, 4, &[9]), 4)).seal_requests(&table);
            let all = body(&table, ProofColumns::All);
            assert_eq!(in_groups.requests(all.clone()).map(|_| ()), Err(DecodeError::WrongProofs));
            assert_eq!(message(&mut in_groups, FrameKind::Forward, forward(&all)), Err(DecodeError::WrongProofs));
            assert_eq!(message(&mut single, FrameKind::Forward, forward(&all)), Ok(()));
            let unproven = pre_prepare(&body(&table, ProofColumns::None));
            assert_eq!(message(&mut in_groups, FrameKind::PrePrepare, unproven), Ok(()));
        }
    }

    #[test]
    fn requests_carry_the_proofs_that_the_cluster_uses() {
        for strategy in Authentication::presets() {
            let keyring = keyring(&cluster(strategy, 4, &[9]), 0);
            let mut decoder = Decoder::new(&keyring);
            let requests = keyring.strategy(LinkClass::ClientToReplica);
            let own = match requests.about().reach {
                Reach::Nobody => "none",
                Reach::Receiver => "tags for all",
                Reach::Everybody => "signatures",
            };
            let bytes = |proofs: usize| vec![0; proofs * 2 * requests.proof_bytes().max(16)].into();
            let tags = |columns: u16| Proofs::Tags { columns, bytes: bytes(columns.into()) };
            let kinds = [
                ("none", Proofs::None),
                ("tags for all", tags(4)),
                ("tags for one", tags(1)),
                ("tags for two", tags(2)),
                ("signatures", Proofs::Signatures(bytes(1))),
            ];
            for (name, proofs) in &kinds {
                let mut table = table(&[(1, 2, vec![3]), (4, 5, vec![])]);
                table.proofs = proofs.clone();
                let mut body = Vec::new();
                encode_table(&mut body, &table, ProofColumns::All);
                let expected = if *name == own { Ok(()) } else { Err(DecodeError::WrongProofs) };
                assert_eq!(decoder.requests(body.clone().into()).map(|_| ()), expected, "{strategy}: {name}");
                let trailer = vec![0; decoder.message_proof_bytes];
                let forward = [&body[..], &trailer].concat().into();
                let forward = decoder.message(FrameKind::Forward, ReplicaId(1), forward).map(|_| ());
                assert_eq!(forward, expected, "{strategy}: {name}");
                let for_receiver = if own == "tags for all" { "tags for one" } else { own };
                let good = *name == for_receiver || *name == "none";
                let expected = if good { Ok(()) } else { Err(DecodeError::WrongProofs) };
                let pre_prepare = [&[0; 16], &body[..], &trailer].concat().into();
                let pre_prepare = decoder.message(FrameKind::PrePrepare, ReplicaId(1), pre_prepare).map(|_| ());
                assert_eq!(pre_prepare, expected, "{strategy}: {name}");
            }
        }
    }
}
