//! Writes and syncs by `io_uring`: a write and the `fdatasync` behind it are linked and cost one system call.

#![allow(unsafe_code, reason = "the kernel reads a buffer while an operation is under way")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};

use super::backend::Backend;

/// A write and a sync are under way at a time.
const RING_ENTRIES: u32 = 4;
/// Most bytes of one write: the kernel takes no more at a time.
const WRITE_BYTES_MAX: usize = 1 << 30;
const WRITE: u64 = 1;
const SYNC: u64 = 2;

/// The backend. See [`probe`](super::backend::probe).
pub struct Uring {
    ring: IoUring,
    /// Set when the ring failed with operations under way: what completes later belongs to nobody.
    broken: bool,
}

/// How the operations of one submission ended, as the kernel says it: a count or a negative error number.
#[derive(Default)]
struct Outcome {
    write: Option<i32>,
    sync: Option<i32>,
}

impl Uring {
    /// A ring.
    ///
    /// # Errors
    /// If the kernel, a container's filter or a limit refuses it.
    pub fn new() -> io::Result<Self> {
        Ok(Self { ring: IoUring::new(RING_ENTRIES)?, broken: false })
    }

    /// Writes a piece, and syncs if `sync`. An error means that the ring itself failed and the kernel may not be done
    /// with the piece.
    fn submit(&mut self, file: RawFd, offset: u64, piece: &[u8], sync: bool) -> io::Result<Outcome> {
        let mut expected = 0;
        if !piece.is_empty() {
            #[allow(clippy::cast_possible_truncation, reason = "at most WRITE_BYTES_MAX")]
            let write = opcode::Write::new(Fd(file), piece.as_ptr(), piece.len() as u32).offset(offset);
            let flags = if sync { squeue::Flags::IO_LINK } else { squeue::Flags::empty() };
            self.push(&write.build().flags(flags).user_data(WRITE));
            expected += 1;
        }
        if sync {
            let fsync = opcode::Fsync::new(Fd(file)).flags(FsyncFlags::DATASYNC);
            self.push(&fsync.build().user_data(SYNC));
            expected += 1;
        }
        let mut outcome = Outcome::default();
        let mut completed = 0;
        while completed < expected {
            match self.ring.submit_and_wait(expected - completed) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            for completion in self.ring.completion() {
                completed += 1;
                match completion.user_data() {
                    WRITE => outcome.write = Some(completion.result()),
                    _ => outcome.sync = Some(completion.result()),
                }
            }
        }
        Ok(outcome)
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the buffer and the file that the entry names live until its completion has been seen (`submit` waits
        // for it), or, if it can not be waited for, for good (`write` leaks the buffer; the kernel holds the file).
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("the ring is empty and has room for two entries");
    }
}

impl Backend for Uring {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn write(&mut self, file: &File, offset: u64, bytes: &mut Vec<u8>, sync: bool) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the ring has failed before"));
        }
        let mut written = 0;
        let mut synced = !sync;
        while written < bytes.len() || !synced {
            let piece = &bytes[written..bytes.len().min(written + WRITE_BYTES_MAX)];
            let is_last = written + piece.len() == bytes.len();
            let outcome = match self.submit(file.as_raw_fd(), offset + written as u64, piece, sync && is_last) {
                Ok(outcome) => outcome,
                Err(error) => {
                    self.broken = true;
                    std::mem::forget(std::mem::take(bytes));
                    return Err(error);
                }
            };
            match outcome.write.map(result) {
                Some(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Some(Ok(count)) => written += count,
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Some(Err(error)) => return Err(error),
                None => {}
            }
            match outcome.sync {
                // The write before it was short, which breaks the link: both come again.
                Some(error) if error == -libc::ECANCELED => {}
                Some(code) => {
                    result(code)?;
                    // A short write that did not break the link has synced too little.
                    synced |= written == bytes.len();
                }
                None => {}
            }
        }
        bytes.clear();
        Ok(())
    }
}

fn result(code: i32) -> io::Result<usize> {
    usize::try_from(code).map_err(|_| io::Error::from_raw_os_error(-code))
}
