//! Two macros that make a type and its description from the same lines.

/// A block of the config: the struct, its description, and how it is read.
///
/// ```text
/// key: Type => required;                    // Option<At<Type>>: None only when a mistake was noted
/// key: Type => optional;                    // Option<At<Type>>
/// key: Type => default("30s");               // At<Type>
/// key: Type => default("30s"), "5s" to "18h";
/// field as "key": Type => …                 // where the key is no Rust name
/// ```
macro_rules! block {
    (
        $(#[doc = $doc:literal])+
        pub struct $Name:ident $(open $rest:ident)? {
            $(
                $(#[doc = $key_doc:literal])+
                $field:ident $(as $key:literal)? : $Type:ty => $presence:ident $(($default:tt))? $(, $low:literal to $high:literal)?;
            )*
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone)]
        pub struct $Name {
            $($(#[doc = $key_doc])+ pub $field: block!(@type $presence $Type),)*
            $(
                /// The keys that are not ours: the driver's.
                pub $rest: $crate::config::tree::Table,
            )?
            /// Where the block stands.
            pub span: $crate::config::source::Span,
        }

        impl $Name {
            /// What the block may hold.
            pub const BLOCK: $crate::config::decode::Block = $crate::config::decode::Block {
                doc: &[$($doc),+],
                keys: &[$(
                    $crate::config::decode::Key {
                        name: block!(@name $field $($key)?),
                        doc: &[$($key_doc),+],
                        presence: block!(@presence $presence $($default)?),
                        bounds: block!(@bounds $($low $high)?),
                        shape: <$Type as $crate::config::decode::Decode>::shape,
                    },
                )*],
                open: block!(@open $($rest)?),
            };
        }

        impl $crate::config::decode::Decode for $Name {
            fn shape() -> $crate::config::decode::Shape {
                $crate::config::decode::Shape::Block(&Self::BLOCK)
            }

            fn decode(
                node: &$crate::config::tree::Node,
                key: &$crate::config::decode::Key,
                problems: &mut $crate::config::diagnostic::Problems,
            ) -> Option<Self> {
                let mut fields = $crate::config::fields::Fields::open(node, key.name, &Self::BLOCK, problems)?;
                let span = fields.span();
                $(let $field = fields.$presence::<$Type>(block!(@name $field $($key)?));)*
                block!(@finish fields $($rest)?);
                Some(Self { $($field,)* $($rest,)? span })
            }
        }
    };
    (@type default $Type:ty) => { $crate::config::source::At<$Type> };
    (@type $presence:ident $Type:ty) => { Option<$crate::config::source::At<$Type>> };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $key:literal) => { $key };
    (@presence required) => { $crate::config::decode::Presence::Required };
    (@presence optional) => { $crate::config::decode::Presence::Optional };
    (@presence default $default:tt) => { $crate::config::decode::Presence::Default(stringify!($default)) };
    (@bounds) => { None };
    (@bounds $low:literal $high:literal) => { Some((stringify!($low), stringify!($high))) };
    (@open) => { false };
    (@open $rest:ident) => { true };
    (@finish $fields:ident) => { $fields.close() };
    (@finish $fields:ident $rest:ident) => { let $rest = $fields.rest(); };
}

/// A value that is one of a few words.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])+
        pub enum $Name:ident { $($(#[doc = $word_doc:literal])+ $Variant:ident = $word:literal,)+ }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Name { $($(#[doc = $word_doc])+ $Variant,)+ }

        impl $Name {
            const WORDS: &'static [(&'static str, &'static str)] = &[$(($word, concat!($($word_doc),+))),+];
        }

        impl $crate::config::decode::Decode for $Name {
            fn shape() -> $crate::config::decode::Shape {
                $crate::config::decode::Shape::Choice(Self::WORDS)
            }

            fn decode(
                node: &$crate::config::tree::Node,
                key: &$crate::config::decode::Key,
                problems: &mut $crate::config::diagnostic::Problems,
            ) -> Option<Self> {
                let text = match &node.value {
                    $crate::config::tree::Value::Text(text) => Some(text.as_str()),
                    _ => None,
                };
                match text {
                    $(Some($word) => Some(Self::$Variant),)+
                    Some(other) => {
                        problems
                            .error(
                                $crate::config::code::Code::NotAChoice,
                                node.span,
                                format!("`{}` cannot be `{other}`", key.name),
                            )
                            .suggest(other, Self::WORDS.iter().map(|(word, _)| *word));
                        None
                    }
                    None => {
                        let words = Self::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>();
                        $crate::config::decode::wrong_type(node, key.name, &words.join(" or "), problems);
                        None
                    }
                }
            }
        }
    };
}

pub(super) use {block, choice};
