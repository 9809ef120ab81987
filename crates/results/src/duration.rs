//! Durations as test tools write them.

/// The longest duration that is believed: a year. Anything above is a broken clock.
const DURATION_MS_MAX: f64 = 366.0 * 24.0 * 3600.0 * 1000.0;

/// A number with `.` or `,` as the decimal mark, or with `,` between thousands, times a factor, in whole
/// milliseconds. Surefire writes `1,234.567`; some tools write by their locale: `0,5`.
/// Nothing for what is no number, negative or longer than a year: a duration never decides an outcome.
pub(crate) fn millis(text: &str, factor: f64) -> Option<u64> {
    let text = text.trim();
    if text.is_empty()
        || !text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b'e' | b'E' | b'-' | b'+'))
    {
        return None;
    }
    let plain = match text.split_once(',') {
        Some((whole, fraction)) if !text.contains('.') && fraction.len() != 3 && !fraction.contains(',') => {
            format!("{whole}.{fraction}")
        }
        Some(_) => text.replace(',', ""),
        None => text.to_owned(),
    };
    let millis = plain.parse::<f64>().ok()? * factor;
    if !(0.0..=DURATION_MS_MAX).contains(&millis) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a year")]
    Some(millis.round() as u64)
}

/// `hh:mm:ss` in milliseconds; nothing for anything else.
pub(crate) fn clock_millis(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.trim().split(':').collect();
    let [hours, minutes, seconds] = parts.as_slice() else { return None };
    let seconds = millis(seconds, 1000.0)?;
    let whole = |text: &str, factor: f64| text.parse::<u32>().ok().and_then(|_| millis(text, factor));
    Some(whole(hours, 3_600_000.0)? + whole(minutes, 60_000.0)? + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(millis(text, 1000.0), expect, "{text:?}");
        check("0", Some(0));
        check("1.5", Some(1500));
        check("0.0004", Some(0));
        check("1,234.567", Some(1_234_567));
        check("1,234,567.8", Some(1_234_567_800));
        check("1,234", Some(1_234_000));
        check("0,5", Some(500));
        check("12,34", Some(12_340));
        check(" 3 ", Some(3000));
        check("1e-3", Some(1));
        check("", None);
        check("-1", None);
        check("NaN", None);
        check("inf", None);
        check("1e300", None);
        check("1.2.3", None);
        check("soon", None);
    }

    #[test]
    fn clocks() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(clock_millis(text), expect, "{text:?}");
        check("00:00:01", Some(1000));
        check("01:02:03.5", Some(3_723_500));
        check("30:00:00", Some(108_000_000));
        check("10", None);
        check("1:2", None);
        check("-1:00:00", None);
        check("a:b:c", None);
    }
}
