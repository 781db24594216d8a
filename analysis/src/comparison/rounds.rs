//! Which runs were made side by side.

use super::Side;

/// Sides whose runs are in order: by rounds if they were made in rounds, by time if not.
pub(super) struct Arranged {
    pub(super) sides: Vec<Side>,
    /// How many rounds, each with the run of that place of every side.
    pub(super) rounds: Option<usize>,
    /// Runs that have no counterpart in their round, by side: they do not count.
    pub(super) left_over: Vec<usize>,
}

/// Runs were made in rounds if they say so, or if each side has as many and all runs of one round began before any of
/// the next: that is seen from when they began.
pub(super) fn arrange(sides: &[Side]) -> Arranged {
    let mut sides = sides.to_vec();
    for side in &mut sides {
        side.runs.sort_by(|a, b| a.report.environment.started_at.cmp(&b.report.environment.started_at));
    }
    let total = |sides: &[Side]| -> Vec<usize> { sides.iter().map(|side| side.runs.len()).collect() };
    let had = total(&sides);
    if sides.iter().flat_map(|side| &side.runs).all(|run| run.round.is_some()) {
        let complete = complete_rounds(&sides);
        // Without a single complete round they are compared as they are.
        if !complete.is_empty() {
            for side in &mut sides {
                side.runs.retain(|run| run.round.is_some_and(|round| complete.contains(&round)));
                side.runs.sort_by_key(|run| run.round);
            }
            let left_over = had.iter().zip(total(&sides)).map(|(had, has)| had - has).collect();
            return Arranged { rounds: Some(complete.len()), sides, left_over };
        }
    }
    let left_over = vec![0; sides.len()];
    let rounds = were_in_turn(&sides).then_some(had[0]);
    Arranged { sides, rounds, left_over }
}

/// Rounds of which every side has exactly one run.
fn complete_rounds(sides: &[Side]) -> Vec<u32> {
    let count = |side: &Side, round: u32| side.runs.iter().filter(|run| run.round == Some(round)).count();
    let mut rounds: Vec<u32> = sides[0].runs.iter().filter_map(|run| run.round).collect();
    rounds.sort_unstable();
    rounds.dedup();
    rounds.retain(|round| sides.iter().all(|side| count(side, *round) == 1));
    rounds
}

/// Times are RFC 3339 in UTC with one number of digits, so that they compare as they are written.
fn were_in_turn(sides: &[Side]) -> bool {
    let rounds = sides[0].runs.len();
    let began = |round: usize| sides.iter().map(move |side| side.runs[round].report.environment.started_at.as_str());
    rounds > 1
        && sides.iter().all(|side| side.runs.len() == rounds)
        && (0..rounds).all(|round| began(round).all(|at| !at.is_empty()))
        && (1..rounds).all(|round| began(round - 1).max() < began(round).min())
}

/// Whether the runs of two sides were made in the same time, at least in part.
pub(super) fn overlap(a: &Side, b: &Side) -> bool {
    let began = |side: &Side| -> Option<(String, String)> {
        let mut times: Vec<&str> = side.runs.iter().map(|run| run.report.environment.started_at.as_str()).collect();
        times.sort_unstable();
        Some(((*times.first()?).to_owned(), (*times.last()?).to_owned()))
    };
    began(a).zip(began(b)).is_some_and(|((a_first, a_last), (b_first, b_last))| a_first <= b_last && b_first <= a_last)
}
