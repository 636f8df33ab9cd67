//! Owns the event that every ingest measurement sends: 102 bytes of JSON, five columns, varied values.

use std::fmt::Write;

/// Its length without the line end.
pub const BYTES: usize = 102;

/// Values that vary without a library: a 64-bit mix of a counter.
#[derive(Debug)]
pub struct Events {
    state: u64,
}

impl Events {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// `events` of them, each on its line.
    pub fn lines(&mut self, events: usize) -> String {
        let mut text = String::with_capacity(events * (BYTES + 1));
        for _ in 0..events {
            self.append_line(&mut text);
        }
        text
    }

    fn append_line(&mut self, text: &mut String) {
        const KINDS: [&str; 6] = ["purchase", "pageview", "checkout", "register", "wishlist", "feedback"];
        let before = text.len();
        let user = 100_000 + self.next(900_000);
        let kind = KINDS[self.next(6) as usize];
        let product = 1000 + self.next(9000);
        let (whole, cents) = (10 + self.next(90), 10 + self.next(90));
        let (day, minute, second) = (1 + self.next(28), self.next(60), self.next(60));
        let written = write!(
            text,
            "{{\"user_id\":{user},\"event\":\"{kind}\",\"url\":\"/products/{product}\",\"price\":{whole}.{cents},\
             \"ts\":\"2026-01-{day:02}T00:{minute:02}:{second:02}Z\"}}"
        );
        debug_assert!(written.is_ok() && text.len() - before == BYTES, "an event has {BYTES} bytes");
        text.push('\n');
    }

    fn next(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_102_bytes_and_is_json() {
        for line in Events::new(7).lines(1000).lines() {
            assert_eq!(line.len(), BYTES, "{line}");
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(event.as_object().unwrap().len(), 5);
        }
    }
}
