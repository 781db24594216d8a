//! For how much of the measured window each stage of each replica worked: replicas count since their start, so they are
//! asked at both edges.

use std::thread::JoinHandle;

use hippodrome_engine::control::{Question, ReplicaReport, StageReport};

use crate::control::Control;

/// What the stages of one replica's process had counted at some moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counted {
    pid: u32,
    stages: Vec<StageReport>,
}

/// Answers that are under way.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<Option<JoinHandle<Option<Counted>>>>);

impl Asked {
    /// Asks replicas by their control ports, without waiting: one that stands still must not hold up the launcher.
    /// `None` for those that are not up.
    pub(super) fn all(controls: impl Iterator<Item = Option<Control>>) -> Self {
        let ask = |control: Control| {
            // Without a thread there is no answer, which is no reason to give up the run.
            std::thread::Builder::new().name("stages".into()).spawn(move || counted(control)).ok()
        };
        Self(controls.map(|control| control.and_then(ask)).collect())
    }

    /// What was answered, in the order of the replicas.
    pub(super) fn answers(self) -> Vec<Option<Counted>> {
        self.0.into_iter().map(|thread| thread?.join().ok().flatten()).collect()
    }
}

fn counted(control: Control) -> Option<Counted> {
    let ReplicaReport { pid, stages, .. } = control.ask(&Question::Status).ok()?;
    Some(Counted { pid, stages })
}

/// Share of the time between two moments that a stage worked, percent; of a process that was started in between, or had
/// not counted anything by the first, since its start. `None` if that is not known.
#[allow(clippy::cast_precision_loss, reason = "a percentage")]
pub(super) fn busy_percent(begin: Option<&Counted>, end: Option<&Counted>, stage: &str) -> Option<f64> {
    let of = |counted: &Counted| {
        counted.stages.iter().find(|known| known.name == stage).map(|stage| (stage.busy_ns, stage.at_ns))
    };
    let (end, begin) = (end?, begin?);
    let (busy_ns, at_ns) = of(end)?;
    let (busy_before_ns, from_ns) = if begin.pid == end.pid { of(begin) } else { None }.unwrap_or_default();
    let elapsed_ns = at_ns.checked_sub(from_ns).filter(|elapsed_ns| *elapsed_ns > 0)?;
    Some(100.0 * busy_ns.saturating_sub(busy_before_ns) as f64 / elapsed_ns as f64)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn counted_at(pid: u32, busy_ns: u64, at_ns: u64) -> Counted {
        let busy_percent = 100.0 * busy_ns as f64 / at_ns as f64;
        let stage = StageReport { name: "order".into(), busy_percent, busy_ns, at_ns, ..StageReport::default() };
        Counted { pid, stages: vec![stage] }
    }

    /// Idle for 90 s, then busy for 8 of 10 s, then idle again: since its start it worked 8 % of the time, or less.
    #[test]
    fn what_lies_outside_of_the_window_does_not_count() {
        let (begin, end, other) =
            (counted_at(1, 0, 90 * S), counted_at(1, 8 * S, 100 * S), counted_at(2, 3 * S, 4 * S));
        let busy = |begin, end| busy_percent(begin, end, "order");
        assert_eq!(busy(Some(&begin), Some(&end)), Some(80.0));
        // Another process has taken its place within the window.
        assert_eq!(busy(Some(&begin), Some(&other)), Some(75.0));
        for (begin, end) in
            [(None, Some(&end)), (Some(&begin), None), (Some(&end), Some(&end)), (Some(&end), Some(&begin))]
        {
            assert_eq!(busy(begin, end), None);
        }
        assert_eq!(busy_percent(Some(&begin), Some(&end), "egress"), None);
    }

    #[test]
    fn replicas_are_asked_all_at_once_and_the_dead_are_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let control = Control::new(listener.local_addr().unwrap());
        let gone = Control::new(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let asked = Asked::all([Some(control), None, Some(gone)].into_iter());
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut question).unwrap();
        assert_eq!(question, "{\"ask\":\"status\"}\n");
        let Counted { pid, stages } = counted_at(7, 1, 2);
        let report = ReplicaReport { pid, stages, ..ReplicaReport::default() };
        stream.write_all(format!("{}\n", serde_json::to_string(&report).unwrap()).as_bytes()).unwrap();
        assert_eq!(asked.answers(), [Some(counted_at(7, 1, 2)), None, None]);
    }
}
