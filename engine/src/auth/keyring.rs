//! Who is who: every node's public key, the pairwise keys of this node, and which node speaks for which logical
//! clients.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::IsIdentity as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::{KeyError, LinkClass, NodeKey};
use crate::columns::leading;
use crate::quorum::Quorums;
use crate::settings::{Authentication, ClusterFile, Granularity, Strategy};
use crate::types::{ClientId, NodeId};

/// What BLAKE3's key derivation is told that a pairwise key is for.
const MAC_KEY_CONTEXT: &str = "hippodrome 2026 pairwise mac key";

/// What one node needs to prove and to check: made once at start-up, shared by every stage.
pub struct Keyring {
    own: NodeId,
    signing: SigningKey,
    public: Vec<VerifyingKey>,
    /// Keys for what this node sends, by receiver.
    outgoing: Vec<Zeroizing<[u8; 32]>>,
    /// Keys for what this node receives, by sender.
    incoming: Vec<Zeroizing<[u8; 32]>>,
    /// Where each client node's range of logical clients ends (it starts where the one before ends), in order.
    client_ends: Vec<(u32, NodeId)>,
    quorums: Quorums,
    authentication: Authentication,
    granularity: Granularity,
    fingerprint: [u8; 32],
    agreement: Vec<(String, String)>,
}

impl Keyring {
    /// The keyring of node `own` in a validated cluster.
    ///
    /// # Errors
    /// If `own` is not in the cluster, `key` is not its key, two nodes share a key, or a public key is refused: it must
    /// be the canonical encoding of a point of prime order (see [`super::signature`] for why). Errors name the node.
    pub fn new(file: &ClusterFile, own: NodeId, key: &NodeKey) -> Result<Arc<Self>, KeyError> {
        let last = file.nodes.len() - 1;
        let node = file.nodes.get(usize::from(own.0)).ok_or(KeyError::UnknownNode { node: own, last })?;
        if !node.public_key.eq_ignore_ascii_case(&key.public_hex()) {
            return Err(KeyError::WrongKey { node: own, expected: node.public_key.clone(), actual: key.public_hex() });
        }
        let mut public: Vec<VerifyingKey> = Vec::with_capacity(file.nodes.len());
        for node in &file.nodes {
            let decoded = decode_public_key(&node.public_key).map_err(|reason| KeyError::BadPublicKey {
                node: node.id,
                key: node.public_key.clone(),
                reason,
            })?;
            if let Some(first) = public.iter().position(|other| *other == decoded) {
                return Err(KeyError::SharedKey { first: file.nodes[first].id, second: node.id });
            }
            public.push(decoded);
        }
        let fingerprint = file.fingerprint();
        let (mut outgoing, mut incoming) = (Vec::new(), Vec::new());
        for (node, public) in file.nodes.iter().zip(&public) {
            let secret = Zeroizing::new(key.signing().to_scalar_bytes());
            let shared = Zeroizing::new(x25519_dalek::x25519(*secret, public.to_montgomery().to_bytes()));
            outgoing.push(mac_key(&shared, own, node.id, &fingerprint));
            incoming.push(mac_key(&shared, node.id, own, &fingerprint));
        }
        Ok(Arc::new(Self {
            own,
            signing: key.signing().clone(),
            public,
            outgoing,
            incoming,
            client_ends: file.client_nodes().map(|(node, range)| (range.end, node)).collect(),
            quorums: file.quorums(),
            authentication: file.settings.authentication,
            granularity: file.settings.auth_granularity,
            fingerprint,
            agreement: file.agreement(),
        }))
    }

    /// Whose keyring this is.
    #[must_use]
    pub const fn own(&self) -> NodeId {
        self.own
    }

    /// How many nodes there are, replicas and client nodes.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.public.len()
    }

    /// The cluster's quorums.
    #[must_use]
    pub const fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// The cluster's fingerprint.
    #[must_use]
    pub const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The cluster's tag, the first 8 bytes of its fingerprint: part of whatever is authenticated.
    #[must_use]
    pub const fn cluster(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.fingerprint;
        [a, b, c, d, e, f, g, h]
    }

    /// What the handshake compares, name by name.
    #[must_use]
    pub fn agreement(&self) -> &[(String, String)] {
        &self.agreement
    }

    /// The strategy of a class of links.
    #[must_use]
    pub const fn strategy(&self, class: LinkClass) -> Strategy {
        class.strategy(&self.authentication)
    }

    /// Whether client nodes prove requests in groups.
    #[must_use]
    pub fn proves_groups(&self) -> bool {
        self.granularity == Granularity::Frame
    }

    /// The client node that speaks for `client`; `None` beyond the cluster's clients.
    #[must_use]
    pub fn owner(&self, client: ClientId) -> Option<NodeId> {
        self.client_ends.get(self.range_of(client)).map(|&(_, node)| node)
    }

    /// Who speaks for the first of these clients, and how many of them from there on have the same owner: at least one.
    ///
    /// # Panics
    /// If there are no clients.
    #[must_use]
    pub fn owner_of_first(&self, clients: &[ClientId]) -> (Option<NodeId>, usize) {
        let range = self.range_of(clients[0]);
        let start = range.checked_sub(1).map_or(0, |before| self.client_ends[before].0);
        // Of those beyond the cluster's clients the very last one counts for itself, which does no harm.
        let (end, owner) = self.client_ends.get(range).map_or((u32::MAX, None), |&(end, node)| (end, Some(node)));
        (owner, 1 + leading(&clients[1..], |client| (start..end).contains(&client.0)))
    }

    /// Which of the ranges of clients this one is in; their number beyond the cluster's clients.
    fn range_of(&self, client: ClientId) -> usize {
        self.client_ends.partition_point(|&(end, _)| end <= client.0)
    }

    /// The logical clients that `node` speaks for; `None` if it is no client node.
    #[must_use]
    pub fn clients_of(&self, node: NodeId) -> Option<Range<u32>> {
        let at = self.client_ends.iter().position(|&(_, owner)| owner == node)?;
        let start = if at == 0 { 0 } else { self.client_ends[at - 1].0 };
        Some(start..self.client_ends[at].0)
    }

    /// The public key of `node`; `None` outside the cluster.
    pub(crate) fn public(&self, node: NodeId) -> Option<&VerifyingKey> {
        self.public.get(usize::from(node.0))
    }

    /// The keys of MACs that this node makes, by receiver.
    pub(super) fn outgoing(&self) -> impl ExactSizeIterator<Item = &[u8; 32]> {
        self.outgoing.iter().map(|key| &**key)
    }

    /// The keys of MACs that others make for this node, by sender.
    pub(super) fn incoming(&self) -> impl ExactSizeIterator<Item = &[u8; 32]> {
        self.incoming.iter().map(|key| &**key)
    }

    /// This node's secret key.
    pub(crate) const fn signing(&self) -> &SigningKey {
        &self.signing
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring(node {} of {})", self.own, self.public.len())
    }
}

/// A public key in hex, if it may be used: canonical, and of prime order. RFC 8032 asks for neither; without both, one
/// signature could be good to one replica and bad to another, and one identity could have several spellings.
fn decode_public_key(text: &str) -> Result<VerifyingKey, &'static str> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| "it is not 32 bytes in hex")?;
    let point = CompressedEdwardsY(bytes).decompress().ok_or("it is not a point of the curve")?;
    if point.compress().0 != bytes {
        return Err("its encoding is not canonical");
    }
    if point.is_identity() || point.is_small_order() {
        return Err("its order is small: anybody could sign for it");
    }
    if !point.is_torsion_free() {
        return Err("it has a torsion part: verifiers could disagree about its signatures");
    }
    VerifyingKey::from_bytes(&bytes).map_err(|_| "it is not an Ed25519 public key")
}

/// The key of one pair in one direction, in one cluster: an X25519 secret shared by both, bound to who sends to whom.
fn mac_key(shared: &[u8; 32], from: NodeId, to: NodeId, fingerprint: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut material = Zeroizing::new([0; 72]);
    material[..32].copy_from_slice(shared);
    material[32..36].copy_from_slice(&u32::from(from.0).to_le_bytes());
    material[36..40].copy_from_slice(&u32::from(to.0).to_le_bytes());
    material[40..].copy_from_slice(fingerprint);
    Zeroizing::new(blake3::derive_key(MAC_KEY_CONTEXT, &*material))
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;

    use super::*;
    use crate::auth::testing::{cluster, key};

    #[test]
    fn both_ends_derive_the_same_key_for_each_direction() {
        let file = cluster("mac", 4, &[5]);
        let a = Keyring::new(&file, NodeId(0), &key(0)).unwrap();
        let b = Keyring::new(&file, NodeId(4), &key(4)).unwrap();
        assert_eq!(a.outgoing().nth(4), b.incoming().next());
        assert_eq!(a.incoming().nth(4), b.outgoing().next());
        assert_ne!(a.outgoing().nth(4), a.incoming().nth(4), "directions differ");
        assert_ne!(a.outgoing().nth(4), a.outgoing().nth(1), "pairs differ");
        let other = cluster("hybrid", 4, &[5]);
        let c = Keyring::new(&other, NodeId(0), &key(0)).unwrap();
        assert_ne!(a.outgoing().nth(4), c.outgoing().nth(4), "clusters differ");
        assert_eq!((a.outgoing().len(), a.incoming().len()), (5, 5));
    }

    #[test]
    fn owners_follow_the_ranges_of_the_cluster_file() {
        let file = cluster("mac", 4, &[3, 1, 7]);
        let keyring = Keyring::new(&file, NodeId(0), &key(0)).unwrap();
        for client in 0..20 {
            assert_eq!(keyring.owner(ClientId(client)), file.owner(ClientId(client)), "client {client}");
        }
        assert_eq!(keyring.owner(ClientId(u32::MAX)), None);
        // Runs of one owner, one by one and together.
        for clients in [
            vec![0],
            vec![0, 2, 1, 0],
            vec![3, 3, 4],
            vec![4, 10, 3, 2, 4],
            vec![11, 12, 1 << 31, 10],
            vec![u32::MAX, u32::MAX, 11, 0],
            vec![2, u32::MAX],
        ] {
            let clients: Vec<ClientId> = clients.into_iter().map(ClientId).collect();
            let (owner, count) = keyring.owner_of_first(&clients);
            assert!((1..=clients.len()).contains(&count), "{clients:?}");
            assert!(clients[..count].iter().all(|client| keyring.owner(*client) == owner), "{clients:?}");
            let goes_on = owner.is_some() && clients.get(count).is_some_and(|next| keyring.owner(*next) == owner);
            assert!(!goes_on, "{clients:?}: {count}");
        }
    }

    #[test]
    fn wrong_own_keys_unknown_nodes_and_shared_keys_are_named() {
        let mut file = cluster("mac", 4, &[1]);
        let error = Keyring::new(&file, NodeId(2), &key(1)).unwrap_err().to_string();
        assert!(error.contains("node 2") && error.contains(&key(1).public_hex()), "{error}");
        let error = Keyring::new(&file, NodeId(9), &key(1)).unwrap_err().to_string();
        assert!(error.contains("node 9"), "{error}");
        file.nodes[3].public_key = key(1).public_hex();
        let error = Keyring::new(&file, NodeId(0), &key(0)).unwrap_err().to_string();
        assert!(error.contains("nodes 1 and 3"), "{error}");
    }

    #[test]
    fn keys_that_are_not_canonical_points_of_prime_order_are_refused() {
        let mut non_canonical = [0xff; 32]; // y = p + 18 with the sign bit off: a second spelling of y = 18
        non_canonical[31] = 0x7f;
        let mixed = key(3).signing().verifying_key().to_edwards() + EIGHT_TORSION[1];
        let mut refused: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
        refused.extend([non_canonical, mixed.compress().0, [2; 32]]);
        // p and p + 1: second spellings of y = 0 and y = 1.
        for low in [0xed, 0xee] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, 0x7f);
            refused.push(bytes);
        }
        for bytes in refused {
            let mut file = cluster("mac", 4, &[1]);
            file.nodes[3].public_key = hex::encode(bytes);
            let error = Keyring::new(&file, NodeId(0), &key(0)).unwrap_err();
            assert!(matches!(error, KeyError::BadPublicKey { node: NodeId(3), .. }), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let keyring = Keyring::new(&cluster("mac", 4, &[1]), NodeId(0), &key(0)).unwrap();
        assert_eq!(format!("{keyring:?}"), "Keyring(node 0 of 5)");
    }
}
