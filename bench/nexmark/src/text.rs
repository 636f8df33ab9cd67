//! Owns the texts of events: names and places, words, channels with their URLs, and filling.

use crate::draws::Draws;

pub(crate) const FIRST_NAMES: [&str; 11] =
    ["Ada", "Bruno", "Clara", "Dario", "Emma", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Lena"];
pub(crate) const LAST_NAMES: [&str; 9] =
    ["Adams", "Brook", "Castle", "Dunn", "Ellis", "Foster", "Grant", "Hill", "Irving"];
/// The six states that the queries count on, and towns in them.
pub(crate) const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
pub(crate) const CITIES: [&str; 10] =
    ["Tucson", "Sacramento", "San Diego", "Pocatello", "Salem", "Eugene", "Spokane", "Tacoma", "Olympia", "Laramie"];
/// Half of all bids come through one of these.
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
/// And half through one of so many others.
const CHANNELS: u64 = 10_000;
/// One URL in so many names no channel.
const WITHOUT_CHANNEL_ID: u64 = 10;

/// Bytes of random text that words and filling are cut from. It fits in a core's cache.
const POOL: u64 = 1 << 16;
/// One letter in so many is a blank.
const BLANKS: u64 = 13;

/// Random text, made once for a seed.
#[derive(Debug)]
pub(crate) struct Texts {
    letters: String,
    words: String,
    hot: Vec<Channel>,
    cold: Vec<Channel>,
}

/// Where a bid was made.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Texts {
    pub(crate) fn new(seed: u64) -> Self {
        let mut draws = Draws::of_event(seed, u64::MAX);
        let hot = HOT_CHANNELS.iter().map(|name| Channel { name: (*name).to_owned(), url: url(&mut draws) }).collect();
        let cold = (0..CHANNELS).map(|number| cold_channel(number, &mut draws)).collect();
        let letters = spell(&mut draws, POOL, None);
        let words = spell(&mut draws, POOL, Some(' '));
        Self { letters, words, hot, cold }
    }

    /// The channel of a bid.
    pub(crate) fn channel(&self, draws: &mut Draws) -> &Channel {
        let channels = if draws.all_but_one_in(2) { &self.hot } else { &self.cold };
        draws.one_of(channels)
    }

    /// So many letters.
    pub(crate) fn letters(&self, draws: &mut Draws, length: u64) -> &str {
        cut(&self.letters, draws, length)
    }

    /// Words of 3 to `below` bytes in all, not counting blanks cut off at the ends.
    pub(crate) fn words(&self, draws: &mut Draws, below: u64) -> &str {
        let length = length(draws, below);
        cut(&self.words, draws, length).trim()
    }

    /// What an event of `bytes` lacks to the average size, give or take a fifth.
    pub(crate) fn filling(&self, draws: &mut Draws, bytes: u64, average: u64) -> &str {
        let lacking = average.saturating_sub(bytes);
        let spread = (lacking + 2) / 5;
        let length = lacking - spread + draws.below(2 * spread);
        self.letters(draws, length)
    }
}

/// A length from 3 to below a limit.
pub(crate) fn length(draws: &mut Draws, below: u64) -> u64 {
    3 + draws.below(below - 3)
}

fn cut<'a>(pool: &'a str, draws: &mut Draws, length: u64) -> &'a str {
    let length = length.min(POOL);
    let start = draws.below(POOL - length + 1) as usize;
    &pool[start..start + length as usize]
}

fn spell(draws: &mut Draws, length: u64, blank: Option<char>) -> String {
    let mut letter = || match blank {
        Some(blank) if !draws.all_but_one_in(BLANKS) => blank,
        _ => (b'a' + draws.below(26) as u8) as char,
    };
    (0..length).map(|_| letter()).collect()
}

fn cold_channel(number: u64, draws: &mut Draws) -> Channel {
    let mut url = url(draws);
    if draws.all_but_one_in(WITHOUT_CHANNEL_ID) {
        url += &format!("&channel_id={}", draws.below(1 << 31));
    }
    Channel { name: format!("channel-{number}"), url }
}

fn url(draws: &mut Draws) -> String {
    let mut folder = || {
        let length = length(draws, 5);
        spell(draws, length, Some('_'))
    };
    let (first, second, third) = (folder(), folder(), folder());
    format!("https://www.nexmark.com/{first}/{second}/{third}/item.htm?query=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_filling_have_the_lengths_asked_for() {
        let texts = Texts::new(1);
        let mut draws = Draws::of_event(1, 0);
        let mut total = 0;
        for _ in 0..10_000 {
            assert_eq!(texts.letters(&mut draws, 20).len(), 20);
            let words = texts.words(&mut draws, 20);
            assert!(words.len() < 20 && words == words.trim());
            let filling = texts.filling(&mut draws, 32, 100).len();
            assert!((54..82).contains(&filling), "{filling}");
            total += filling;
        }
        assert!((670_000..690_000).contains(&total), "{total} is far from 10,000 × 68");
        assert_eq!(texts.filling(&mut draws, 120, 100), "");
        assert_eq!(texts.letters(&mut draws, POOL).len() as u64, POOL);
    }

    #[test]
    fn nine_in_ten_cold_channels_are_named_in_their_url_and_no_hot_one() {
        let texts = Texts::new(1);
        let named = |channels: &[Channel]| channels.iter().filter(|c| c.url.contains("&channel_id=")).count();
        assert_eq!(named(&texts.hot), 0);
        assert!((8_800..9_200).contains(&named(&texts.cold)), "{}", named(&texts.cold));
        assert!(texts.cold.iter().all(|c| c.url.split('/').count() == 7));
    }
}
