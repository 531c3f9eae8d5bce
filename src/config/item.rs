//! What a setting is: everything about it in one item, its parser included.

/// A setting without its type: what people and other programs need to know of it.
#[derive(Debug)]
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub variable: &'static str,
    pub default: &'static str,
    /// Never shown, not even in a message about this very value.
    pub secret: bool,
    /// One line for the documentation.
    pub about: &'static str,
    /// What is allowed, behind "expected".
    pub allowed: &'static str,
}

/// A setting whose value is a `T`.
pub struct Setting<T> {
    pub key: Key,
    pub parse: fn(&str) -> Result<T, Refusal>,
}

/// Why a value is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not what `Key::allowed` says.
    NotAllowed,
    /// There is more to say.
    Because(String),
}

/// Makes an item of each setting, `KEYS` of all of them, and a test of each one's parser.
macro_rules! settings {
    ($($(#[$attribute:meta])* $id:ident: $type:ty {
        $section:literal, $name:literal, $variable:literal, $default:literal,
        $(secret: $secret:literal,)?
        about: $about:literal,
        allowed: $allowed:literal,
        parse: $parse:expr,
        takes: $takes:expr,
        refuses: $refuses:expr,
    })*) => {
        $(
            $(#[$attribute])*
            pub static $id: Setting<$type> = Setting {
                key: Key {
                    section: $section,
                    name: $name,
                    variable: $variable,
                    default: $default,
                    secret: false $(|| $secret)?,
                    about: $about,
                    allowed: $allowed,
                },
                parse: $parse,
            };
        )*

        /// Every setting, in the order in which the documentation and `app.conf` show them.
        pub static KEYS: &[&Key] = &[$(&$id.key),*];

        #[cfg(test)]
        mod each_takes_and_refuses {
            $(
                #[test]
                #[allow(non_snake_case, reason = "named after the setting")]
                fn $id() {
                    let (takes, refuses): (&[&str], &[&str]) = (&$takes, &$refuses);
                    let setting = &super::$id;
                    for text in takes.iter().chain([&setting.key.default]) {
                        assert!((setting.parse)(text).is_ok(), "{text:?} must be taken");
                    }
                    for text in refuses {
                        assert!((setting.parse)(text).is_err(), "{text:?} must be refused");
                    }
                }
            )*
        }
    };
}
pub(super) use settings;
