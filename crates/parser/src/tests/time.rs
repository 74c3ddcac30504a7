use super::*;
#[test]
fn words() {
    let symbols = ["-", "+", "~", "!", "@", "[", "{", "(", "?", ":", ".", ",", "<", "x ->", "a =>", "'a'", "1", "x::", "x.", "x AS", "f(", "CASE x", "INTERVAL x", "DATE (", "STRUCT<x", "x[", "NOT x"];
    for word in symbols {
        for prefix in ["", "SELECT ", "SELECT * FROM ", "SELECT * FROM t WHERE ", "CREATE TABLE t (a ", "WITH a AS "] {
            for n in [30, 50, 100] {
                let text = format!("{prefix}{}", format!("{word} ").repeat(n));
                let begin = std::time::Instant::now();
                drop(parse_statement(&text, START));
                let took = begin.elapsed();
                if took.as_millis() > 1500 { eprintln!("{prefix}|{word} x{n}: {took:?}"); break; }
            }
        }
    }
}
