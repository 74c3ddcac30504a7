//! From compressed bytes to bytes, chosen by the file's name.
//!
//! It reads any number of concatenated members or frames, and turns data that stops in the middle of one into an
//! error: a torn file must never pass for a short one.

use std::io::{self, BufReader, Read};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;

/// How the bytes of a file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, one or several members.
    Gzip,
    /// Zstandard, one or several frames.
    Zstd,
    /// bzip2, one or several streams.
    Bzip2,
    /// xz, one or several streams.
    Xz,
}

/// A codec that is known by its file ending and not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{file_name}` is compressed with {codec}, which is not carried out; .gz, .zst, .bz2 and .xz are")]
pub struct UnsupportedCompression {
    /// The file's name or path.
    pub file_name: String,
    /// The codec its ending stands for.
    pub codec: &'static str,
}

impl Compression {
    /// The codec that the ending of `name` (a file name or path) stands for; endings are compared without case.
    pub fn from_file_name(name: &str) -> Result<Compression, UnsupportedCompression> {
        let ending = name.rsplit(['/', '.']).next().unwrap_or("").to_ascii_lowercase();
        let refuse = |codec| Err(UnsupportedCompression { file_name: name.to_owned(), codec });
        match ending.as_str() {
            "gz" | "gzip" => Ok(Compression::Gzip),
            "zst" | "zstd" => Ok(Compression::Zstd),
            "bz2" | "bzip2" => Ok(Compression::Bzip2),
            "xz" => Ok(Compression::Xz),
            "lz4" => refuse("lz4"),
            "snappy" => refuse("snappy"),
            "deflate" => refuse("deflate"),
            _ => Ok(Compression::None),
        }
    }

    /// A reader of the uncompressed bytes. Reading fails with [`io::ErrorKind::UnexpectedEof`] when the compressed
    /// data ends early, and with the codec's own error when it is damaged.
    pub fn reader<'r>(self, input: impl Read + Send + 'r) -> io::Result<Box<dyn Read + Send + 'r>> {
        Ok(match self {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(BufReader::new(input))?),
            Compression::Bzip2 => Box::new(MultiBzDecoder::new(input)),
            Compression::Xz => Box::new(XzDecoder::new_multi_decoder(input)),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn bzip2(text: &[u8]) -> Vec<u8> {
        let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn xz(text: &[u8]) -> Vec<u8> {
        let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 1);
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn read(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        compression.reader(bytes)?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn names_decide() {
        assert_eq!(Compression::from_file_name("a/b.json"), Ok(Compression::None));
        assert_eq!(Compression::from_file_name("a.gz/b"), Ok(Compression::None));
        assert_eq!(Compression::from_file_name("a/b.JSON.GZ"), Ok(Compression::Gzip));
        assert_eq!(Compression::from_file_name("b.csv.zst"), Ok(Compression::Zstd));
        assert_eq!(Compression::from_file_name("b.csv.bz2"), Ok(Compression::Bzip2));
        assert_eq!(Compression::from_file_name("b.csv.xz"), Ok(Compression::Xz));
        assert!(Compression::from_file_name("b.csv.lz4").unwrap_err().to_string().contains("lz4"));
    }

    #[test]
    fn members_and_frames_are_joined() {
        let mut bytes = gzip(b"one\n");
        bytes.extend(gzip(b"two\n"));
        assert_eq!(read(Compression::Gzip, &bytes).unwrap(), b"one\ntwo\n");
        let mut bytes = zstd::encode_all(&b"one\n"[..], 1).unwrap();
        bytes.extend(zstd::encode_all(&b"two\n"[..], 1).unwrap());
        assert_eq!(read(Compression::Zstd, &bytes).unwrap(), b"one\ntwo\n");
        let bytes = [bzip2(b"one\n"), bzip2(b"two\n")].concat();
        assert_eq!(read(Compression::Bzip2, &bytes).unwrap(), b"one\ntwo\n");
        let bytes = [xz(b"one\n"), xz(b"two\n")].concat();
        assert_eq!(read(Compression::Xz, &bytes).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn every_torn_prefix_is_an_error() {
        let text = b"a line that is long enough to be compressed, compressed, compressed\n";
        for (compression, bytes) in [
            (Compression::Gzip, gzip(text)),
            (Compression::Zstd, zstd::encode_all(&text[..], 1).unwrap()),
            (Compression::Bzip2, bzip2(text)),
            (Compression::Xz, xz(text)),
        ] {
            assert_eq!(read(compression, &bytes).unwrap(), text);
            for end in 1..bytes.len() {
                assert!(read(compression, &bytes[..end]).is_err(), "{compression:?} torn at {end}");
            }
        }
    }
}
