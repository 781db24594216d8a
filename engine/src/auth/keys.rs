//! Identities: one Ed25519 key for each node, and the file that holds it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::types::NodeId;

/// Most bytes of a key file. A longer file is not one.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// What is wrong with a key, or with the file that should hold it.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file can not be opened, read or written.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is a file already. A key is never overwritten: it may be the only copy.
    #[error("{path}: already exists; move it away first, or choose another path")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// Others than the owner can read or write the file.
    #[error("{path}: mode {mode:04o} lets others read or write this secret key; run: chmod 600 {path}")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a key file. Says nothing of its content, which may be a secret with a typing error in it.
    #[error("{path}: not a key file; expected: node = NUMBER and secret = \"64 hex digits\"")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
    /// The cluster file has no such node.
    #[error("node {node} is not in the cluster file, which has nodes 0 to {last}")]
    UnknownNode {
        /// The node asked for.
        node: NodeId,
        /// The last node there is.
        last: usize,
    },
    /// The secret key is not the one whose public half the cluster file names.
    #[error("node {node}: the cluster file says public key {expected}, this secret key's is {actual}")]
    WrongKey {
        /// The node.
        node: NodeId,
        /// The cluster file's public key in hex.
        expected: String,
        /// The given key's public half in hex.
        actual: String,
    },
    /// A public key of the cluster file must not be used.
    #[error("node {node}: public key {key} is refused: {reason}")]
    BadPublicKey {
        /// The node.
        node: NodeId,
        /// Its public key in hex.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two nodes with one key: one secret would speak for both.
    #[error("nodes {first} and {second} have the same public key; every node needs its own")]
    SharedKey {
        /// The first of them.
        first: NodeId,
        /// The other.
        second: NodeId,
    },
}

/// A node's Ed25519 identity. The secret is wiped from memory when it is dropped, and never shown.
#[derive(Clone)]
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// A new identity from the operating system's randomness.
    ///
    /// # Errors
    /// If the operating system gives none.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self(SigningKey::from_bytes(&Zeroizing::new(fresh_nonce()?))))
    }

    /// The identity of a seed: RFC 8032's 32-byte secret key. For tests and reproducible runs.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&Zeroizing::new(seed)))
    }

    /// The public key as the cluster file writes it: 32 bytes in hex.
    #[must_use]
    pub fn public_hex(&self) -> String {
        hex::encode(self.0.verifying_key().as_bytes())
    }

    /// Writes the key file of `node`: a new file that its owner alone may read (mode 0600).
    ///
    /// # Errors
    /// If there is a file already, or it can not be written; names the path.
    pub fn write(&self, node: NodeId, path: &Path) -> Result<(), KeyError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => KeyError::File { path: path.to_owned(), error },
        };
        let secret = Zeroizing::new(hex::encode(self.0.as_bytes()));
        let text = Zeroizing::new(format!("node = {node}\nsecret = \"{}\"\n", *secret));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Reads a key file: whose it is, and the key.
    ///
    /// # Errors
    /// If it can not be read, others than its owner may read or write it, or it is malformed; names the path and the
    /// fix.
    pub fn read(path: &Path) -> Result<(NodeId, Self), KeyError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct KeyFile {
            node: NodeId,
            secret: Zeroizing<String>,
        }

        let failed = |error| KeyError::File { path: path.to_owned(), error };
        let malformed = || KeyError::Malformed { path: path.to_owned() };
        let file = File::open(path).map_err(failed)?;
        // Asked of the open file, not of the path: nobody can exchange it in between.
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX as usize + 1));
        file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > KEY_FILE_BYTES_MAX {
            return Err(malformed());
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
        let parsed: KeyFile = toml::from_str(text).map_err(|_| malformed())?;
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(parsed.secret.as_bytes(), &mut *seed).map_err(|_| malformed())?;
        Ok((parsed.node, Self(SigningKey::from_bytes(&seed))))
    }

    pub(super) const fn signing(&self) -> &SigningKey {
        &self.0
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey(public {})", self.public_hex())
    }
}

/// 32 bytes from the operating system's randomness, for a handshake's challenge.
///
/// # Errors
/// If the operating system gives none.
pub fn fresh_nonce() -> Result<[u8; 32], KeyError> {
    let mut nonce = [0; 32];
    SysRng.try_fill_bytes(&mut nonce).map_err(|error| KeyError::Randomness(error.to_string()))?;
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_file_holds_node_and_key_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node-3.key");
        let key = NodeKey::generate().unwrap();
        key.write(NodeId(3), &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let (node, read) = NodeKey::read(&path).unwrap();
        assert_eq!((node, read.public_hex()), (NodeId(3), key.public_hex()));
        assert_ne!(NodeKey::generate().unwrap().public_hex(), key.public_hex());
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        NodeKey::from_seed([1; 32]).write(NodeId(0), &path).unwrap();
        let before = fs::read(&path).unwrap();
        let error = NodeKey::from_seed([2; 32]).write(NodeId(0), &path).unwrap_err();
        assert!(matches!(&error, KeyError::Exists { path: named } if *named == path), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn files_that_others_may_read_or_write_are_refused_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        NodeKey::from_seed([1; 32]).write(NodeId(0), &path).unwrap();
        for mode in [0o644, 0o640, 0o620, 0o604, 0o602, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = NodeKey::read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{mode:o}: {error}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            NodeKey::read(&path).unwrap();
        }
    }

    #[test]
    fn malformed_and_missing_files_are_named_and_their_secrets_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let missing = NodeKey::read(&path).unwrap_err().to_string();
        assert!(missing.contains(path.to_str().unwrap()), "{missing}");
        let secret = "ab".repeat(31);
        let short = format!("node = 0\nsecret = \"{secret}\"\n");
        let extra = format!("node = 0\nsecret = \"{secret}cd\"\nother = 1\n");
        let unquoted = format!("node = 0\nsecret = {secret}cd\n");
        for text in ["", "node = 0\n", &short, &extra, &unquoted, "\u{0}", &"#".repeat(2000)] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = NodeKey::read(&path).unwrap_err();
            assert!(matches!(error, KeyError::Malformed { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains(&secret));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let key = NodeKey::from_seed([7; 32]);
        assert!(!format!("{key:?}").contains(&hex::encode([7; 32])));
        assert!(format!("{key:?}").contains(&key.public_hex()));
    }
}
