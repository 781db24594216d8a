//! Validation of operations apart from the application's state, for the stages in front of the executor that owns it.

use std::fmt;
use std::sync::Arc;

use super::InvalidOperation;
use crate::requests::RequestTable;

type Rule = dyn Fn(&[u8]) -> Result<(), InvalidOperation> + Send + Sync;
type ReadRule = dyn Fn(&[u8]) -> bool + Send + Sync;

/// Says of operations what [`Application::validate`](super::Application::validate) says, which depends on nothing but
/// the operation. Cheap to clone and shared by all verify stages. Asked table by table, so that an application which
/// accepts everything costs nothing for each operation.
#[derive(Clone)]
pub struct Validator {
    rule: Option<Arc<Rule>>,
    /// Which operations change nothing; all of them without one.
    reads: Option<Arc<ReadRule>>,
}

impl Validator {
    /// Accepts every operation, and takes each for one that may be done read-only.
    #[must_use]
    pub const fn accept_all() -> Self {
        Self { rule: None, reads: None }
    }

    /// Accepts what `rule` does, and takes nothing for a read.
    #[must_use]
    pub fn new(rule: impl Fn(&[u8]) -> Result<(), InvalidOperation> + Send + Sync + 'static) -> Self {
        Self { rule: Some(Arc::new(rule)), reads: Some(Arc::new(|_| false)) }
    }

    /// The same, taking for reads what `is_read` does.
    #[must_use]
    pub fn with_reads(self, is_read: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self { reads: Some(Arc::new(is_read)), ..self }
    }

    /// Whether an operation that is valid changes nothing, so that [`Application::query`](super::Application::query)
    /// answers it.
    #[must_use]
    pub fn is_read(&self, operation: &[u8]) -> bool {
        self.reads.as_ref().is_none_or(|rule| rule(operation))
    }

    /// Takes the mark from those requests of `table` that were marked as good and are no reads. Returns how many these
    /// are.
    ///
    /// # Panics
    /// If there are more marks than requests: that would be our own error.
    pub fn refuse_writes(&self, table: &RequestTable, good: &mut [bool]) -> usize {
        let Some(rule) = &self.reads else { return 0 };
        let mut refused = 0;
        for (index, good) in good.iter_mut().enumerate() {
            if *good && !rule(table.operation(index)) {
                *good = false;
                refused += 1;
            }
        }
        refused
    }

    /// Whether a replica should agree to order this operation.
    ///
    /// # Errors
    /// What is wrong with the operation.
    pub fn validate(&self, operation: &[u8]) -> Result<(), InvalidOperation> {
        self.rule.as_ref().map_or(Ok(()), |rule| rule(operation))
    }

    /// Whether any operation of `table` is refused.
    #[must_use]
    pub fn refuses_any(&self, table: &RequestTable) -> bool {
        let Some(rule) = &self.rule else { return false };
        (0..table.len()).any(|index| rule(table.operation(index)).is_err())
    }

    /// Takes the mark from those requests of `table` that were marked as good and whose operation is refused. Returns
    /// how many these are.
    ///
    /// # Panics
    /// If there are more marks than requests: that would be our own error.
    pub fn refuse(&self, table: &RequestTable, good: &mut [bool]) -> usize {
        let Some(rule) = &self.rule else { return 0 };
        let mut refused = 0;
        for (index, good) in good.iter_mut().enumerate() {
            if *good && rule(table.operation(index)).is_err() {
                *good = false;
                refused += 1;
            }
        }
        refused
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.rule.is_some() { "Validator(a rule)" } else { "Validator(all)" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::app;
    use crate::auth::testing::table;
    use crate::settings::ClusterSettings;

    fn settings(application: &str) -> ClusterSettings {
        ClusterSettings { application: application.into(), records: 1, ..ClusterSettings::default() }
    }

    fn no_empty_ones(operation: &[u8]) -> Result<(), InvalidOperation> {
        if operation.is_empty() { Err(InvalidOperation("empty".into())) } else { Ok(()) }
    }

    #[test]
    fn tables_are_judged_request_by_request() {
        let mixed = table(&[(1, 1, vec![]), (2, 1, vec![7]), (3, 1, vec![]), (4, 1, vec![8])]);
        let good = table(&[(2, 1, vec![7])]);
        let validator = Validator::new(no_empty_ones);
        assert!(validator.refuses_any(&mixed) && !validator.refuses_any(&good));
        // What was not good before is not counted again.
        let mut marks = [false, true, true, true];
        assert_eq!(validator.refuse(&mixed, &mut marks), 1);
        assert_eq!(marks, [false, true, false, true]);

        let all = Validator::accept_all();
        assert!(!all.refuses_any(&mixed));
        assert_eq!(all.refuse(&mixed, &mut marks), 0);
        assert_eq!(marks, [false, true, false, true]);
    }

    #[test]
    fn an_application_that_accepts_everything_is_never_asked() {
        let validator = app::validator(&settings("null")).unwrap();
        assert_eq!(format!("{validator:?}"), "Validator(all)");
        assert!(app::validator(&settings("unheard-of")).is_none());
    }

    proptest! {
        #[test]
        fn it_says_what_the_application_says(
            tag in 0u8..7,
            rest in prop::collection::vec(any::<u8>(), 0..24),
        ) {
            let operation = [&[tag], &rest[..]].concat();
            for name in ["null", "kv"] {
                let application = app::open(&settings(name)).unwrap();
                let validator = app::validator(&settings(name)).unwrap();
                for operation in [&operation[..], &operation[1..], &[]] {
                    prop_assert_eq!(validator.validate(operation), application.validate(operation));
                    let answered = application.query(operation, &mut Vec::new());
                    prop_assert_eq!(validator.is_read(operation), answered.is_some());
                }
            }
        }
    }
}
