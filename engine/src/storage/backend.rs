//! What makes bytes durable: `io_uring` where it works, `pwrite` and `fdatasync` elsewhere.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::storage::uring::Uring;

/// Writes groups to the log. Buffers are handed over, for the kernel may still read one after an error.
pub trait Backend: Send {
    /// Its name, for logs.
    fn name(&self) -> &'static str;

    /// Writes `bytes` at `offset`; with `sync`, all of the file's data is durable afterwards. Leaves `bytes` empty.
    ///
    /// # Errors
    /// If the file system refuses. What is in the file then is not known: after a failed `fdatasync` the next one may
    /// succeed without the data ever having reached the disk, so nobody may try again.
    fn write(&mut self, file: &File, offset: u64, bytes: &mut Vec<u8>, sync: bool) -> io::Result<()>;
}

/// `pwrite`, then `fdatasync`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Backend for Plain {
    fn name(&self) -> &'static str {
        "pwrite and fdatasync"
    }

    fn write(&mut self, file: &File, offset: u64, bytes: &mut Vec<u8>, sync: bool) -> io::Result<()> {
        file.write_all_at(bytes, offset)?;
        bytes.clear();
        if sync { file.sync_data() } else { Ok(()) }
    }
}

/// The better backend that works in `directory`, and the reason in one line.
#[must_use]
pub fn open(directory: &Path) -> (Box<dyn Backend>, String) {
    open_as_probed(probe(directory))
}

/// [`open`] with the outcome of a probe, such as one that failed, for tests of what follows from it.
#[must_use]
pub fn open_as_probed(probed: io::Result<Uring>) -> (Box<dyn Backend>, String) {
    match probed {
        Ok(uring) => (Box::new(uring), "io_uring".to_owned()),
        Err(error) => (Box::new(Plain), format!("{}: io_uring is refused here ({error})", Plain.name())),
    }
}

/// Finds out whether `io_uring` writes files here: makes a ring and moves bytes through it.
///
/// # Errors
/// What failed.
pub fn probe(directory: &Path) -> io::Result<Uring> {
    let mut uring = Uring::new()?;
    let path = directory.join("probe.tmp");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    let mut read = [0; 5];
    let outcome = uring.write(&file, 3, &mut b"bytes".to_vec(), true).and_then(|()| file.read_exact_at(&mut read, 3));
    std::fs::remove_file(&path)?;
    outcome?;
    if &read == b"bytes" { Ok(uring) } else { Err(io::Error::other("bytes written through it are not in the file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(backend: &mut dyn Backend) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        let mut expected = Vec::new();
        for (group, len) in [1usize, 0, 4096, 3_000_001, 7].into_iter().enumerate() {
            let mut bytes: Vec<u8> = (0..len).map(|i| (i * 7 + group) as u8).collect();
            let offset = expected.len() as u64;
            expected.extend_from_slice(&bytes);
            backend.write(&file, offset, &mut bytes, group % 2 == 0).unwrap();
            assert!(bytes.is_empty());
        }
        assert!(std::fs::read(&path).unwrap() == expected, "{}", backend.name());
        let read_only = File::open(&path).unwrap();
        assert!(backend.write(&read_only, 0, &mut vec![1], true).is_err(), "{}", backend.name());
        // An error leaves the backend usable: what its user does after one is not its business.
        backend.write(&file, 0, &mut expected.clone(), true).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = backend.write(&full, 0, &mut vec![1], true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{}", backend.name());
    }

    #[test]
    fn both_backends_write_the_same_and_report_errors() {
        check(&mut Plain);
        let directory = tempfile::tempdir().unwrap();
        // Where the kernel refuses it there is nothing to check but that this is said.
        match probe(directory.path()) {
            Ok(mut uring) => check(&mut uring),
            Err(error) => assert!(open_as_probed(Err(error)).1.contains("io_uring is refused here")),
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the probe leaves nothing behind");
    }

    #[test]
    fn without_io_uring_it_falls_back_and_says_so() {
        let (backend, why) = open_as_probed(Err(io::Error::from_raw_os_error(libc::EPERM)));
        assert_eq!(backend.name(), "pwrite and fdatasync");
        assert_eq!(why, "pwrite and fdatasync: io_uring is refused here (Operation not permitted (os error 1))");
    }
}
