//! Owns decompression: gzip and zstd bodies, never more than a limit of what comes out.
//!
//! Gzip members and zstd frames may follow each other. What comes out grows in steps, and each step is asked for
//! first, so that a body that is small on the wire cannot take memory that others were promised.

use std::io::Read;

use super::Error;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// gzip, RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878.
    Zstd,
}

const MIN_STEP_BYTES: usize = 64 << 10;
const MAX_STEP_BYTES: usize = 8 << 20;
/// Of a body that unpacks to more than this, and to more than so many times its size, the rest is counted before it is
/// kept: a bomb is found without holding what it unpacks to, and usual bodies are unpacked once.
const COUNT_FROM_BYTES: usize = 4 << 20;
const USUAL_RATIO: usize = 16;
/// The largest zstd window that is taken, as a power of two: 32 MiB, which levels up to 20 stay within.
const MAX_WINDOW_LOG: u32 = 25;

impl Encoding {
    /// Its name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::Gzip => "gzip",
            Encoding::Zstd => "zstd",
        }
    }
}

/// Decompresses a body. `reserve` is asked before each step of growth and may say that there is no room.
pub fn decompress(
    encoding: Encoding,
    body: &[u8],
    limit_bytes: usize,
    mut reserve: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, Error> {
    let mut reader = reader(encoding, body)?;
    let mut out = Vec::new();
    let mut counted = false;
    loop {
        if !counted && out.len() >= COUNT_FROM_BYTES && out.len() / USUAL_RATIO > body.len() {
            count(encoding, body, limit_bytes)?;
            counted = true;
        }
        let room = limit_bytes + 1 - out.len();
        let step = (out.len() / 4).clamp(MIN_STEP_BYTES, MAX_STEP_BYTES).min(room);
        if !reserve(step) {
            return Err(Error::NoRoom);
        }
        out.reserve_exact(step);
        let before = out.len();
        let read = reader.by_ref().take(step as u64).read_to_end(&mut out);
        read.map_err(|e| broken(encoding, before, &e))?;
        if out.len() > limit_bytes {
            return Err(Error::DecompressedTooLarge { limit_bytes });
        }
        if out.len() - before < step {
            return Ok(out);
        }
    }
}

/// Decompresses to nothing, to find out whether the limit holds.
fn count(encoding: Encoding, body: &[u8], limit_bytes: usize) -> Result<(), Error> {
    let mut reader = reader(encoding, body)?.take(limit_bytes as u64 + 1);
    let counted = std::io::copy(&mut reader, &mut std::io::sink()).map_err(|e| broken(encoding, 0, &e))?;
    if counted > limit_bytes as u64 { Err(Error::DecompressedTooLarge { limit_bytes }) } else { Ok(()) }
}

fn reader(encoding: Encoding, body: &[u8]) -> Result<Box<dyn Read + '_>, Error> {
    Ok(match encoding {
        Encoding::Identity => Box::new(body),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(body)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(|e| broken(encoding, 0, &e))?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(|e| broken(encoding, 0, &e))?;
            Box::new(decoder)
        }
    })
}

fn broken(encoding: Encoding, at: usize, error: &std::io::Error) -> Error {
    Error::Compression { encoding: encoding.name(), at, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).expect("memory takes everything");
        encoder.finish().expect("memory takes everything")
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 3).expect("memory takes everything")
    }

    #[test]
    fn bodies_come_out_as_they_went_in_members_and_frames_joined() {
        let text: Vec<u8> = (0..300_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for (encoding, packed) in [(Encoding::Gzip, gzip(&text)), (Encoding::Zstd, zstd(&text))] {
            let twice = [packed.clone(), packed].concat();
            let out = decompress(encoding, &twice, 1 << 30, |_| true).expect("valid");
            assert!(out == [text.clone(), text.clone()].concat(), "{encoding:?}");
        }
        assert_eq!(decompress(Encoding::Gzip, &gzip(b""), 10, |_| true).expect("valid"), b"");
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = vec![0u8; 12 << 20];
        for (encoding, packed) in [(Encoding::Gzip, gzip(&bomb)), (Encoding::Zstd, zstd(&bomb))] {
            assert!(packed.len() < 100_000);
            let mut reserved = 0;
            let result = decompress(encoding, &packed, 1 << 20, |step| {
                reserved += step;
                true
            });
            assert!(matches!(result, Err(Error::DecompressedTooLarge { .. })), "{encoding:?}");
            assert!(reserved <= (1 << 20) + 1, "{reserved}");
            let mut reserved = 0;
            let result = decompress(encoding, &packed, 10 << 20, |step| {
                reserved += step;
                true
            });
            assert!(matches!(result, Err(Error::DecompressedTooLarge { .. })), "{encoding:?}");
            assert!(reserved <= 6 << 20, "{reserved}");
            assert_eq!(decompress(encoding, &packed, 12 << 20, |_| true).expect("within the limit").len(), bomb.len());
        }
        assert_eq!(decompress(Encoding::Gzip, &gzip(&[7; 100]), 100, |_| true).expect("at the limit").len(), 100);
    }

    #[test]
    fn growth_stops_when_there_is_no_room() {
        let result = decompress(Encoding::Gzip, &gzip(&vec![0u8; 1 << 20]), 1 << 30, |_| false);
        assert!(matches!(result, Err(Error::NoRoom)));
    }

    #[test]
    fn a_damaged_or_cut_body_is_an_error() {
        for (encoding, packed) in [(Encoding::Gzip, gzip(&[9; 5000])), (Encoding::Zstd, zstd(&[9; 5000]))] {
            let cut = &packed[..packed.len() - 3];
            assert!(
                matches!(decompress(encoding, cut, 1 << 20, |_| true), Err(Error::Compression { .. })),
                "{encoding:?}"
            );
            let trailed = [packed.as_slice(), b"garbage"].concat();
            let result = decompress(encoding, &trailed, 1 << 20, |_| true);
            assert!(matches!(result, Err(Error::Compression { .. })), "{encoding:?}");
            assert!(decompress(encoding, b"{\"not\":\"packed\"}", 1 << 20, |_| true).is_err());
        }
    }
}
