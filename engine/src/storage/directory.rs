//! A replica's data directory: who owns it, what lies in it, and how files appear in it whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Identity, StorageError};
use crate::settings::Durability;
use crate::types::ReplicaId;

const MARKER: &str = "replica.toml";
const LOCK: &str = "lock";
const TEMPORARY: &str = "tmp";

/// A data directory, locked against other processes for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

/// What a data directory says about the replica that was started with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marker {
    /// The cluster's fingerprint, hex.
    cluster: String,
    /// The replica.
    replica: ReplicaId,
    /// What was remembered at the last start.
    pub(super) durability: Durability,
    /// Whether votes have been forgotten since the first start. Once true, true for good.
    pub(super) forgot: bool,
}

impl Marker {
    pub(super) fn new(identity: &Identity, durability: Durability) -> Self {
        let Identity { fingerprint, replica } = identity;
        Self { cluster: hex::encode(fingerprint), replica: *replica, durability, forgot: false }
    }
}

impl Directory {
    /// Makes the directory if it is missing, locks it, and clears away what an earlier process has not finished.
    ///
    /// # Errors
    /// If it can not be made or written, or another process has it.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let io = |what| StorageError::io(what, path);
        make(path)?;
        let lock = File::options().write(true).create(true).truncate(false).open(path.join(LOCK));
        let lock = lock.map_err(io("make a lock in"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StorageError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io("lock")(error)),
        }
        let directory = Self { path: path.to_owned(), _lock: lock };
        for (_, path) in directory.files("", TEMPORARY)? {
            fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
        Ok(directory)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says about the replica that was started with it; `None` at the first start.
    pub(super) fn marker(&self, identity: &Identity) -> Result<Option<Marker>, StorageError> {
        let path = self.path.join(MARKER);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("read", &path)(error)),
        };
        let marker: Marker = toml::from_str(&text)
            .map_err(|error| StorageError::Unreadable { file: path.clone(), why: error.message().to_owned() })?;
        identity.check(&path, &hex_fingerprint(&marker.cluster), marker.replica)?;
        Ok(Some(marker))
    }

    /// Replaces what it says.
    pub(super) fn mark(&self, marker: &Marker) -> Result<(), StorageError> {
        let text = toml::to_string(marker).expect("a marker is a table of plain values");
        let text = format!("# Written by this replica. Without this file it can not know that it ran before.\n{text}");
        write_whole(&self.path, MARKER, |file| file.write_all(text.as_bytes()))
    }

    /// The files called `<prefix><number>.<extension>`, by ascending number.
    pub(super) fn numbered(&self, prefix: &str, extension: &str) -> Result<Vec<(u64, PathBuf)>, StorageError> {
        let files = self.files(prefix, extension)?;
        let mut numbered: Vec<(u64, PathBuf)> =
            files.into_iter().filter_map(|(middle, path)| Some((middle.parse().ok()?, path))).collect();
        numbered.sort_unstable();
        Ok(numbered)
    }

    /// The files called `<prefix>..<.extension>` with what is in between.
    fn files(&self, prefix: &str, extension: &str) -> Result<Vec<(String, PathBuf)>, StorageError> {
        let io = || StorageError::io("read", &self.path);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io())? {
            let entry = entry.map_err(io())?;
            let name = entry.file_name();
            let Some(middle) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else { continue };
            let Some(middle) = middle.strip_suffix(extension).and_then(|rest| rest.strip_suffix('.')) else { continue };
            files.push((middle.to_owned(), entry.path()));
        }
        Ok(files)
    }

    /// Moves these files into a new directory beside them and returns its path.
    pub(super) fn set_aside(&self, files: &[PathBuf]) -> Result<PathBuf, StorageError> {
        let aside = (1..).map(|number| self.path.join(format!("damaged-{number}"))).find(|path| !path.exists());
        let aside = aside.expect("a directory does not hold all numbers");
        fs::create_dir(&aside).map_err(StorageError::io("make", &aside))?;
        for file in files {
            let to = aside.join(file.file_name().unwrap_or_default());
            fs::rename(file, to).map_err(StorageError::io("move", file))?;
        }
        sync(&aside)?;
        sync(&self.path)?;
        Ok(aside)
    }
}

fn hex_fingerprint(text: &str) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    // What is no fingerprint is not this cluster's.
    let _ = hex::decode_to_slice(text, &mut fingerprint);
    fingerprint
}

/// Makes a directory and those that it lies in, and what lists each of them durable.
fn make(path: &Path) -> Result<(), StorageError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !is_there(ancestor)).collect();
    fs::create_dir_all(path).map_err(StorageError::io("make the data directory", path))?;
    // The outermost first: one that is durable is of use in a durable one alone.
    missing.into_iter().rev().filter_map(Path::parent).try_for_each(sync)
}

/// Whether a directory is there already. The one that a relative path begins in has no name.
fn is_there(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

/// Writes a file that is there with all its bytes, or not at all, whatever happens meanwhile.
///
/// # Errors
/// If the file system refuses. Nothing is left of it then: on a full disk, others need the room.
pub(super) fn write_whole(
    directory: &Path,
    name: &str,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), StorageError> {
    let (path, temporary) = (directory.join(name), directory.join(format!("{name}.{TEMPORARY}")));
    let written = File::options().write(true).create(true).truncate(true).open(&temporary).and_then(|mut file| {
        write(&mut file)?;
        sync_file(&file, &temporary)?;
        fs::rename(&temporary, &path)
    });
    if let Err(error) = written {
        // If it can not even be removed, the next start does that.
        let _ = fs::remove_file(&temporary);
        return Err(StorageError::io("write", &path)(error));
    }
    sync(directory)
}

/// Makes what a directory lists durable.
pub(super) fn sync(directory: &Path) -> Result<(), StorageError> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory).and_then(|file| sync_file(&file, directory)).map_err(StorageError::io("sync", directory))
}

/// Makes all of a file durable that lies, or is about to lie, at `path`.
pub(super) fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    synced::note(path);
    #[cfg(not(test))]
    let _ = path;
    file.sync_all()
}

/// What this thread has made durable, for tests of the order.
#[cfg(test)]
pub(super) mod synced {
    use std::cell::RefCell;
    use std::path::{Path, PathBuf};

    thread_local! {
        static PATHS: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn note(path: &Path) {
        PATHS.with_borrow_mut(|paths| paths.push(path.to_owned()));
    }

    /// The paths since the last call, in order.
    pub(crate) fn take() -> Vec<PathBuf> {
        PATHS.take()
    }
}

/// A file opened ahead, with the directory that it lies in: whoever takes every file descriptor that this process may
/// have (who connects can) does not keep the next segment from being made.
#[derive(Debug)]
pub(super) struct Ahead {
    path: PathBuf,
    directory: File,
    file: Option<File>,
}

impl Ahead {
    pub(super) fn open(directory: &Path) -> Result<Self, StorageError> {
        let handle = File::open(directory).map_err(StorageError::io("read", directory))?;
        let mut ahead = Self { path: directory.to_owned(), directory: handle, file: None };
        ahead.file = Some(ahead.create().map_err(StorageError::io("write", &ahead.temporary()))?);
        Ok(ahead)
    }

    fn temporary(&self) -> PathBuf {
        self.path.join(format!("ahead.{TEMPORARY}"))
    }

    fn create(&self) -> io::Result<File> {
        File::options().write(true).create(true).truncate(true).open(self.temporary())
    }

    /// Opens the next file if there is none. That it can not be is no error before it is needed.
    pub(super) fn refill(&mut self) {
        if self.file.is_none() {
            self.file = self.create().ok();
        }
    }

    /// Makes it the file of this name with these bytes: whole, or not there.
    pub(super) fn write_whole(&mut self, name: &str, parts: [&[u8]; 2]) -> Result<File, StorageError> {
        let path = self.path.join(name);
        let io = || StorageError::io("write", &path);
        let mut file = self.file.take().map_or_else(|| self.create(), Ok).map_err(io())?;
        parts.into_iter().try_for_each(|part| file.write_all(part)).map_err(io())?;
        sync_file(&file, &path).map_err(io())?;
        fs::rename(self.temporary(), &path).map_err(io())?;
        sync_file(&self.directory, &self.path).map_err(StorageError::io("sync", &self.path))?;
        Ok(file)
    }
}
