//! Escaping, numbers and data URIs: the small change of the report.

/// Text as HTML or attribute content.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A figure for people: four decimals below 10, fewer above, `1.2e-5` when very small.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "undefined".to_string()
    } else if value == 0.0 {
        "0".to_string()
    } else if size < 5e-4 {
        format!("{value:.1e}")
    } else if size < 10.0 {
        format!("{value:.4}")
    } else if size < 1000.0 {
        format!("{value:.2}")
    } else {
        grouped(value.round() as i64)
    }
}

/// Digits in groups of three by thin spaces.
fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{2009}');
        }
        out.push(c);
    }
    if value < 0 {
        format!("\u{2212}{out}")
    } else {
        out
    }
}

/// A whole number of things.
pub(super) fn count(value: u64) -> String {
    grouped(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A coordinate with two decimals and no trailing zeros: a hundredth of a unit is below what a screen shows.
pub(super) fn coordinate(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_string()
    } else {
        text.to_string()
    }
}

/// An image file as a data URI: PNG, or JPEG when it begins like one.
pub(super) fn data_uri(image: &[u8]) -> String {
    let kind = if image.starts_with(&[0xff, 0xd8]) {
        "jpeg"
    } else {
        "png"
    };
    format!("data:image/{kind};base64,{}", base64(image))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_vectors_of_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(number(0.96344), "0.9634");
        assert_eq!(number(12.0), "12.00");
        assert_eq!(number(0.00001234), "1.2e-5");
        assert_eq!(count(1_234_567), "1\u{2009}234\u{2009}567");
        assert_eq!(coordinate(-0.001), "0");
        assert_eq!(coordinate(12.50), "12.5");
        assert_eq!(
            escape("<a href=\"x\">&'"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;"
        );
    }
}
