//! Writing the rescued data column: one JSON object per row, with the file's path as its last member.

/// Appends `text` as a JSON string with its quotes.
pub(crate) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// A JSON object being written.
#[derive(Debug, Default)]
pub(crate) struct RescueObject {
    /// The text; empty while nothing was rescued.
    out: Vec<u8>,
}

impl RescueObject {
    /// Begins a new object; what was written is forgotten.
    pub fn clear(&mut self) {
        self.out.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Where to append the next member: inside the outermost object, comma written.
    pub fn member(&mut self) -> &mut Vec<u8> {
        self.out.push(if self.out.is_empty() { b'{' } else { b',' });
        &mut self.out
    }

    /// The text so far, to append to a member that is an object itself.
    pub fn nested(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Appends a member whose value is the string `text`; bytes that are not UTF-8 become U+FFFD.
    pub fn text(&mut self, name: &[u8], text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let out = self.member();
        write_string(name, out);
        out.push(b':');
        write_string(text.as_bytes(), out);
    }

    /// Closes the object with the file's path and returns it.
    pub fn close(&mut self, path: &str) -> &[u8] {
        self.text(b"_file_path", path.as_bytes());
        self.out.push(b'}');
        &self.out
    }
}
