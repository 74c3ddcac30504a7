//! Random cuts of a stream with a LIMIT: so many rows come out as are there, up to the limit, each once.

use super::*;
use crate::operator::rows_let_through;

#[tokio::test]
async fn a_limit_counts_over_the_life_of_a_stream() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let limit = [0, 1, 7, 40][random.below(4)];
        let sql = format!("SELECT v FROM STREAM s LIMIT {limit}");
        let place = match random.below(8) {
            0 => Store::Disk(TestDir::new()),
            _ => Store::Memory(Arc::default()),
        };
        let budget = [1 << 20, 0][random.below(2)];
        let mut stream = Stream::new(&sql, OutputMode::Append, 1 + random.below(3), budget, 0);
        stream.open(place.open());
        let (mut came, mut out) = (0, Vec::new());
        for epoch in 0..8 {
            let rows: Vec<Row> =
                (0..random.below(12) as i64).map(|at| Row { ts: None, k: 0, v: epoch * 100 + at }).collect();
            out.extend(stream.epoch(&rows, random.below(3) == 0).await.rows);
            came += rows.len();
            assert_eq!(out.len(), came.min(limit), "seed {seed}, epoch {epoch}");
            assert_eq!(rows_let_through(&stream.states[0]).unwrap(), out.len() as u64, "seed {seed}, epoch {epoch}");
            if random.below(3) == 0 {
                stream.close();
                stream.open(place.open());
            }
        }
        let different: BTreeSet<&String> = out.iter().collect();
        assert_eq!(different.len(), out.len(), "seed {seed}: no row came out twice");
    }
}
