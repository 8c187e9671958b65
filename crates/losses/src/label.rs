//! Class labels of any integer type, compared exactly.

/// An integer that names a class. Labels are compared, never computed with: gaps, negative numbers and values beyond what a
/// float can hold are all the same to a loss.
pub trait Label: Copy {
    /// The label as a 64-bit integer (two labels are equal exactly when these are).
    fn key(self) -> i64;
}

macro_rules! label {
    ($($t:ty),*) => {$(
        impl Label for $t {
            fn key(self) -> i64 {
                self as i64
            }
        }
    )*};
}
label!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);

/// The keys of a list of labels.
pub(crate) fn keys<L: Label>(labels: &[L]) -> Vec<i64> {
    labels.iter().map(|l| l.key()).collect()
}
