//! Choices that are one of a few words: the words, and what each means, stand here alone. The command line, policy files, the dashboard
//! and the help take them from [`Lists::ALL`](super::Lists::ALL) and the like.

/// Gives enums their words: `ALL`, `as_str`, `about`, and reading and printing them.
macro_rules! words {
    ($($name:ident { $($variant:ident = $word:literal, $about:literal;)* })*) => {
        $(
            impl $name {
                /// All of them, in the order in which they are shown.
                pub const ALL: &[Self] = &[$(Self::$variant),*];

                /// Its word on the command line and in policy files.
                pub const fn as_str(self) -> &'static str {
                    match self {
                        $(Self::$variant => $word,)*
                    }
                }

                /// What it means, in a few words.
                pub const fn about(self) -> &'static str {
                    match self {
                        $(Self::$variant => $about,)*
                    }
                }

                /// All words, as a list for people.
                pub const WORDS: &str = $crate::policy::word::joined!($($word),*);
            }

            impl std::str::FromStr for $name {
                type Err = String;

                fn from_str(text: &str) -> Result<Self, String> {
                    let found = Self::ALL.iter().find(|choice| choice.as_str() == text);
                    found.copied().ok_or_else(|| format!("'{text}' is none of: {}", Self::WORDS))
                }
            }

            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.pad(self.as_str())
                }
            }
        )*
    };
}

/// Words with commas between them.
macro_rules! joined {
    ($first:literal $(, $more:literal)*) => {
        concat!($first $(, ", ", $more)*)
    };
}

pub(crate) use joined;
