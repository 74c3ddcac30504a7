//! An error as text with the line it speaks of and carets under the place. Knows no colours and no terminal.

use crate::diagnostic::Diagnostic;

/// The text in which a [`Diagnostic`] has its place.
#[derive(Clone, Debug)]
pub struct SourceText {
    /// The script's name; `None` for text that was typed or piped in.
    pub file: Option<String>,
    /// The text.
    pub text: String,
    /// The number of the text's first line.
    pub first_line: u64,
}

impl SourceText {
    /// What is shown in front of line and column.
    pub fn name(&self) -> &str {
        self.file.as_deref().unwrap_or("<input>")
    }

    fn line(&self, number: u64) -> Option<&str> {
        let index = usize::try_from(number.checked_sub(self.first_line)?).ok()?;
        self.text.split('\n').nth(index).map(|line| line.trim_end_matches('\r'))
    }
}

impl Diagnostic {
    /// The error as a user reads it: message, place, line with carets, ways out. Ends without a newline.
    pub fn render(&self, source: &SourceText) -> String {
        let mut lines = vec![self.to_string()];
        let mut indent = " ".to_owned();
        if self.span.is_known() {
            let number = self.span.start.line.to_string();
            let margin = " ".repeat(number.len());
            lines.push(format!("{margin}--> {}:{}", source.name(), self.span.start));
            if let Some(line) = source.line(self.span.start.line) {
                lines.push(format!("{margin} |"));
                lines.push(format!("{number} | {line}").trim_end().to_owned());
                lines.push(format!("{margin} | {}", self.carets(line)));
            }
            indent = margin;
        }
        lines.extend(self.help.iter().map(|help| format!("{indent} = help: {help}")));
        lines.join("\n")
    }

    /// Padding, carets and label for the first line of the span. Tabs are repeated in the padding, so that
    /// the carets stand right whatever a tab's width.
    fn carets(&self, line: &str) -> String {
        let column = usize::try_from(self.span.start.column).unwrap_or(1).max(1);
        let padding = line.chars().map(Some).chain(std::iter::repeat(None)).take(column - 1);
        let padding: String = padding.map(|letter| if letter == Some('\t') { '\t' } else { ' ' }).collect();
        let last = if self.span.end.line > self.span.start.line {
            line.trim_end().chars().count() + 1
        } else {
            usize::try_from(self.span.end.column).unwrap_or(column)
        };
        let carets = "^".repeat(last.saturating_sub(column).max(1));
        format!("{padding}{carets} {}", self.label).trim_end().to_owned()
    }
}
