use super::*;
#[test]
fn words() {
    let symbols = ["-", "+", "~", "!", "@", "[", "{", "(", "?", ":", ".", ",", "<", "x ->", "a =>", "'a'", "1", "x::", "x.", "x AS", "f(", "CASE x", "INTERVAL x", "DATE (", "STRUCT<x", "x[", "NOT x"];
    for word in crate::sqlparser::keywords::ALL_KEYWORDS.iter().chain(&symbols).chain(crate::KEYWORDS) {
        for prefix in ["", "SELECT ", "SELECT * FROM ", "SELECT * FROM t WHERE ", "CREATE TABLE t (a ", "WITH a AS "] {
            for n in [6, 9, 12, 15, 18, 20] {
                let text = format!("{prefix}{}", format!("{word} ").repeat(n));
                let begin = std::time::Instant::now();
                drop(parse_statement(&text, START));
                let took = begin.elapsed();
                if took.as_millis() > 30 { eprintln!("{prefix}|{word} x{n}: {took:?}"); break; }
            }
        }
    }
}
