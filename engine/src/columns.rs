//! Looking at columns many rows at a time.

/// Rows that are looked at side by side before it is decided whether to go on.
const ROWS: usize = 64;

/// How many of `rows`, from the first one on, are as `is_so` says.
#[inline]
pub(crate) fn leading<T>(rows: &[T], is_so: impl Fn(&T) -> bool) -> usize {
    let mut count = 0;
    for rows in rows.chunks(ROWS) {
        if !rows.first().is_some_and(&is_so) {
            return count;
        }
        if !rows.iter().fold(true, |all, row| all & is_so(row)) {
            return count + rows.iter().take_while(|row| is_so(row)).count();
        }
        count += rows.len();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_differs_ends_it_wherever_it_is() {
        for len in [0, 1, 63, 64, 65, 200] {
            assert_eq!(leading(&vec![1; len], |row| *row == 1), len);
            for first in 0..len {
                let rows: Vec<u32> = (0..len).map(|at| u32::from(at < first || at > first + 1)).collect();
                assert_eq!(leading(&rows, |row| *row == 1), first, "of {len}");
            }
        }
    }
}
