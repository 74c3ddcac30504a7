//! Tests of the XML decoder.
