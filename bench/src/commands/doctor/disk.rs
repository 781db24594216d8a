//! The disk where results, and with `--durability wal` the logs, are to lie.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytesize::ByteSize;

use super::Check;

/// Bytes that a few runs take.
const FREE_GOOD: u64 = 2 << 30;
/// Bytes without which none can be written down.
const FREE_LEAST: u64 = 16 << 20;
/// Writes that are made durable, one after the other.
const SYNCS: usize = 16;
/// A group commit that takes longer than that is what a run with a log measures.
const SYNC_GOOD: Duration = Duration::from_millis(2);
/// No disk is as quick as that: what is written there is not on one.
const SYNC_LEAST: Duration = Duration::from_micros(5);

/// How much space there is, and how quick it is to make something durable.
pub(super) fn look(out: &Path) -> [Check; 2] {
    let place = existing(out);
    let space = rustix::fs::statvfs(&place).map(|disk| disk.f_bavail * disk.f_frsize);
    let place = place.display();
    let space = match space {
        Ok(bytes) => judge_space(bytes, &place.to_string()),
        Err(error) => unusable("disk space", &place.to_string(), &error.into()),
    };
    let syncs = match time_syncs(&existing(out)) {
        Ok(took) => judge_syncs(took, &place.to_string()),
        Err(error) => unusable("fsync", &place.to_string(), &error),
    };
    [space, syncs]
}

/// The directory itself, or what is there of the way to it.
fn existing(out: &Path) -> PathBuf {
    let absolute = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
    absolute.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn unusable(name: &'static str, place: &str, error: &io::Error) -> Check {
    let why = "results can not be written there";
    Check::bad(name, format!("{place}: {error}"), why, "another place: --out DIR, or the directory's permissions")
}

fn judge_space(bytes: u64, place: &str) -> Check {
    let found = format!("{} free at {place}", ByteSize(bytes));
    let change = "delete old results, or another place: --out DIR";
    match bytes {
        ..FREE_LEAST => Check::bad("disk space", found, "results can not be written there", change),
        FREE_LEAST..FREE_GOOD => {
            let why = "logs of --durability wal take some 100 MB a second under full load, on each replica";
            Check::warn("disk space", found, why, change)
        }
        _ => Check::ok("disk space", found),
    }
}

/// Times of writing 4 KiB and waiting until it is durable, ascending.
fn time_syncs(place: &Path) -> io::Result<Vec<Duration>> {
    let mut file = tempfile::tempfile_in(place)?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}

fn judge_syncs(took: Vec<Duration>, place: &str) -> Check {
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    let micros = |time: Duration| format!("{} µs", time.as_micros());
    let found = format!("4 KiB durable in {} (median of {}), {} at most", micros(median), took.len(), micros(longest));
    if median < SYNC_LEAST {
        let why = "too quick for a disk: what is durable here is lost when the power fails, so --durability wal costs nothing";
        return Check::warn(
            "fsync",
            found,
            why,
            format!("another place: --out DIR; {place} may lie in memory (findmnt -T)"),
        );
    }
    if median > SYNC_GOOD {
        let why = "with --durability wal each batch waits for the disk, twice";
        return Check::warn("fsync", found, why, "a disk with power-loss protection (NVMe), or --durability none");
    }
    Check::ok("fsync", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Verdict;

    #[test]
    fn space_is_judged() {
        assert_eq!(judge_space(3 << 30, "/r"), Check::ok("disk space", "3.0 GiB free at /r"));
        assert_eq!(judge_space(1 << 30, "/r").verdict, Verdict::Warn);
        assert_eq!(judge_space(1 << 20, "/r").verdict, Verdict::Bad);
    }

    #[test]
    fn syncs_are_judged_by_their_median() {
        let check = |micros: [u64; 3]| judge_syncs(micros.map(Duration::from_micros).to_vec(), "/r");
        assert_eq!(
            check([100, 200, 9000]),
            Check::ok("fsync", "4 KiB durable in 200 µs (median of 3), 9000 µs at most")
        );
        assert_eq!(check([1, 2, 9000]).verdict, Verdict::Warn);
        assert_eq!(check([100, 9000, 9000]).verdict, Verdict::Warn);
    }

    #[test]
    fn a_place_that_is_not_there_yet_is_judged_by_where_it_would_be() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(existing(&directory.path().join("a/b")), directory.path());
        let checks = look(&directory.path().join("a/b"));
        assert_eq!(checks.map(|check| check.name), ["disk space", "fsync"]);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left there");
    }

    #[test]
    fn a_place_that_can_not_be_written_to_is_bad() {
        let [_, syncs] = look(Path::new("/proc/self"));
        assert_eq!(syncs.verdict, Verdict::Bad, "{syncs:?}");
    }
}
