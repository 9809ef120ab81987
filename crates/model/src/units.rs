//! Durations and sizes as people write them: `90s`, `1h30m`, `2d`; `512K`, `50MB`, `2G`.

use std::time::Duration;

/// The units of durations, in seconds. Milliseconds are taken as `ms`.
const SECONDS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];

/// Parses a duration: numbers with a unit (`ms`, `s`, `m`, `h`, `d`, `w`), added up.
///
/// # Errors
/// What is wrong and what is expected, as one sentence.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no duration; expected a number with a unit, such as 90s, 10m or 1h30m");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let part = match &rest[..letters] {
            "ms" => Some(Duration::from_millis(number)),
            unit => SECONDS
                .iter()
                .find(|(name, _)| *name == unit)
                .and_then(|(_, seconds)| number.checked_mul(*seconds))
                .map(Duration::from_secs),
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = rest[letters..].trim_start();
    }
    Ok(total)
}

/// Prints a duration the short way: `0s`, `250ms`, `4.2s`, `1m30s`, `2h`, `3d4h`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        let millis = duration.subsec_millis();
        return match (seconds, millis) {
            (0, 0) => "0s".to_owned(),
            (0, millis) => format!("{millis}ms"),
            (seconds, millis) if millis < 50 => format!("{seconds}s"),
            _ => format!("{:.1}s", duration.as_secs_f64()),
        };
    }
    let parts =
        [("d", seconds / 86_400), ("h", seconds / 3600 % 24), ("m", seconds / 60 % 60), ("s", seconds % 60)];
    let shown = parts.iter().skip_while(|(_, n)| *n == 0).take(2).filter(|(_, n)| *n > 0);
    shown.map(|(unit, n)| format!("{n}{unit}")).collect()
}

/// Parses a size in bytes: a number with `K`, `M`, `G` or `T`, with or without `B` or `iB`; all are powers of
/// 1024, as Docker, QEMU and systemd take them.
///
/// # Errors
/// What is wrong and what is expected, as one sentence.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("`{text}` is no size; expected bytes or a number with a unit, such as 512K, 50MB or 2G");
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().map_err(|_| wrong())?;
    let unit = text[split..].trim().to_ascii_uppercase();
    let unit = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(wrong()),
    };
    number.checked_mul(1024u64.pow(power)).ok_or_else(wrong)
}

/// Prints a size the short way: `512 B`, `1.5 KiB`, `20 MiB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let mut unit = "B";
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut number = bytes as f64;
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if number < 1024.0 {
            break;
        }
        number /= 1024.0;
        unit = next;
    }
    if number.fract() < 0.05 || number >= 100.0 {
        format!("{number:.0} {unit}")
    } else {
        format!("{number:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expect) in
            [("90s", 90_000), ("10m", 600_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("250ms", 250)]
        {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(expect), "{text}");
        }
        for text in ["", "10", "m", "10x", "-5s", "99999999999999999999s", "9999999999999999w"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for (millis, expect) in [
            (0, "0s"),
            (250, "250ms"),
            (4200, "4.2s"),
            (90_000, "1m30s"),
            (7_200_000, "2h"),
            (273_600_000, "3d4h"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(millis)), expect);
        }
    }

    #[test]
    fn sizes() {
        for (text, expect) in [
            ("12", 12),
            ("512K", 524_288),
            ("50MB", 52_428_800),
            ("2G", 2_147_483_648),
            ("1 GiB", 1_073_741_824),
        ] {
            assert_eq!(parse_size(text).unwrap(), expect, "{text}");
        }
        for text in ["", "G", "2X", "-1", "99999999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        for (bytes, expect) in [(512, "512 B"), (1536, "1.5 KiB"), (20_971_520, "20 MiB")] {
            assert_eq!(format_size(bytes), expect);
        }
    }
}
