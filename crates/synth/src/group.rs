//! Groups of factors: structs of numbers that are known by name.

/// Declares a struct of `f32` factors with defaults and access by name.
macro_rules! group {
    ($(#[$meta:meta])* $name:ident { $( $(#[$doc:meta])* $field:ident = $default:expr ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name { $( $(#[$doc])* pub $field: f32 ),* }

        impl Default for $name {
            fn default() -> Self { Self { $( $field: $default ),* } }
        }

        impl $name {
            pub(crate) fn list(&self, out: &mut Vec<(&'static str, f32)>) {
                $( out.push((stringify!($field), self.$field)); )*
            }

            pub(crate) fn slots(&mut self) -> impl Iterator<Item = &mut f32> {
                [$( &mut self.$field ),*].into_iter()
            }

            pub(crate) fn find(&mut self, name: &str) -> Option<&mut f32> {
                let names = [$( stringify!($field) ),*];
                let at = names.iter().position(|&n| n == name)?;
                self.slots().nth(at)
            }
        }
    };
}

pub(crate) use group;
