//! Sizes and times as people read them.

/// A number of bytes in decimal units, as networks and disks count: `3.3 GB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    for (unit, size) in UNITS {
        if count >= size {
            let tenths = count / (size / 10);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{count} B")
}

/// A number of milliseconds: `0.31 s`, `12 ms`.
pub(crate) fn milliseconds(ms: f64) -> String {
    if ms >= 100.0 {
        format!("{:.2} s", ms / 1000.0)
    } else {
        format!("{ms:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (58_400_000, "58.4 MB"),
            (3_326_000_000, "3.3 GB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn short_times_are_milliseconds() {
        assert_eq!(milliseconds(12.34), "12.3 ms");
        assert_eq!(milliseconds(312.0), "0.31 s");
    }
}
