//! "Did you mean": the known name nearest to a mistyped one, as the parser finds it for keywords.

pub use alluvium_parser::near as nearest;
