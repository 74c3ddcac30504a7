//! From the characters of other encodings to UTF-8.

use std::io::{self, Read};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE};

/// An encoding of text other than UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// Each byte is the character of that number.
    Latin1,
    /// One of the encodings of the web.
    Other(&'static Encoding),
}

impl Charset {
    /// The encoding of that name, as Java knows it; None inside for UTF-8 and its subset ASCII.
    pub fn from_name(name: &str) -> Option<Option<Charset>> {
        match name.to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" | "US-ASCII" | "ASCII" => Some(None),
            "ISO-8859-1" | "ISO8859-1" | "ISO8859_1" | "LATIN1" | "LATIN-1" => Some(Some(Charset::Latin1)),
            // Without a byte order mark Java's UTF-16 is big-endian; with one the mark decides.
            "UTF-16" => Some(Some(Charset::Other(UTF_16BE))),
            label => {
                let found = Encoding::for_label_no_replacement(label.as_bytes())?;
                Some((found != UTF_8).then_some(Charset::Other(found)))
            }
        }
    }

    /// A reader of the same text in UTF-8. What is no character becomes U+FFFD.
    pub fn reader<'r>(self, input: impl Read + Send + 'r) -> Box<dyn Read + Send + 'r> {
        let decoder = match self {
            Charset::Latin1 => None,
            Charset::Other(encoding) => Some(encoding.new_decoder()),
        };
        Box::new(Utf8Reader { input, decoder, raw: vec![0; 64 << 10], text: Vec::new(), at: 0, done: false })
    }
}

struct Utf8Reader<R> {
    input: R,
    decoder: Option<Decoder>,
    raw: Vec<u8>,
    text: Vec<u8>,
    at: usize,
    done: bool,
}

impl<R: Read> Utf8Reader<R> {
    /// Decodes the next piece.
    fn refill(&mut self) -> io::Result<()> {
        let count = self.input.read(&mut self.raw)?;
        self.text.clear();
        self.at = 0;
        self.done = count == 0;
        let Some(decoder) = &mut self.decoder else {
            for &byte in &self.raw[..count] {
                let mut buffer = [0; 2];
                self.text.extend_from_slice(char::from(byte).encode_utf8(&mut buffer).as_bytes());
            }
            return Ok(());
        };
        let mut from = 0;
        loop {
            let written = self.text.len();
            let room = decoder.max_utf8_buffer_length(count - from).unwrap_or(4 * (count - from) + 16);
            self.text.resize(written + room, 0);
            let (result, read, wrote, _) =
                decoder.decode_to_utf8(&self.raw[from..count], &mut self.text[written..], self.done);
            self.text.truncate(written + wrote);
            from += read;
            if result == CoderResult::InputEmpty {
                return Ok(());
            }
        }
    }
}

impl<R: Read> Read for Utf8Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.text.len() {
            if self.done {
                return Ok(0);
            }
            self.refill()?;
        }
        let count = (self.text.len() - self.at).min(out.len());
        out[..count].copy_from_slice(&self.text[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> String {
        let mut text = String::new();
        Charset::from_name(name).unwrap().unwrap().reader(bytes).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn bytes_become_characters() {
        assert_eq!(read("iso-8859-1", b"caf\xe9 \x80"), "café \u{80}");
        assert_eq!(read("windows-1252", b"caf\xe9 \x80"), "café €");
        assert_eq!(read("UTF-16LE", b"h\0\xe9\0"), "hé");
        assert_eq!(read("UTF-16", b"\0h\0\xe9"), "hé");
        assert_eq!(read("UTF-16", b"\xff\xfeh\0\xe9\0"), "hé");
        assert_eq!(read("UTF-16", b"\0h\0"), "h\u{FFFD}");
        assert_eq!(Charset::from_name("utf-8"), Some(None));
        assert_eq!(Charset::from_name("EBCDIC"), None);
    }

    #[test]
    fn long_texts_are_decoded_across_pieces() {
        let text = "aé€😀".repeat(50_000);
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(read("UTF-16LE", &bytes) == text);
    }
}
