//! Enums whose values have names: what people type, what files hold, and what refusals are counted under.

/// Defines an enum with a name for each value: `ALL`, `name` and `Display`.
#[macro_export]
macro_rules! named_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$value_doc])* $value,)* }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$value,)*];

            /// The value's name in options, files and reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$value => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

pub(crate) use named_enum;

#[cfg(test)]
mod tests {
    use crate::protocol::planted::Planted;

    #[test]
    fn names_fill_the_columns_of_tables() {
        let bug = Planted::CheckpointLie;
        assert_eq!(format!("{bug}|{bug:<16}|{bug:>16}|"), "checkpoint-lie|checkpoint-lie  |  checkpoint-lie|");
    }
}
