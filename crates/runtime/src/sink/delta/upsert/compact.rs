//! Which files an epoch writes again, so that a table that is changed for ever keeps few files and few dead rows.
//!
//! A file half of whose rows are dead is written again without them: each row that is copied is paid for by one that
//! died. Small files of about the same size are merged when there are enough of them: a row is copied once for each size
//! it grows through. Both are spread over epochs by a limit that follows what the epoch itself changes. Pure decisions.

use std::collections::{BTreeMap, BTreeSet};

/// Small files of about one size, from here on, are merged.
const FILES_PER_SIZE: usize = 8;
/// Files with more live rows than this are not merged: their rows would have to move in the index.
const SMALL_ROWS: u64 = 1 << 16;
/// Rows of one merge, but for the fewest files that make one: each is in memory with its key until the epoch has ended.
const MERGED_ROWS: u64 = 1 << 17;
/// Rows that are copied per row that changed, at most; one file may always be.
const COPIED_PER_CHANGED: u64 = 4;
/// Rows that are merged per row that changed, at most; the files of one size and partition may always be. As many as the
/// sizes that a row grows through: merging keeps up with whatever comes, in however many partitions.
const MERGED_PER_CHANGED: u64 = 6;

/// What is known of a file.
#[derive(Debug, Clone)]
pub struct FileSize {
    /// Its number.
    pub number: u32,
    /// Files of different partitions are not merged.
    pub partition: Vec<Option<String>>,
    /// Rows in the file.
    pub rows: u64,
    /// Those that no longer count, after this epoch.
    pub dead: u64,
    /// Some died in this epoch.
    pub touched: bool,
}

impl FileSize {
    fn live(&self) -> u64 {
        self.rows.saturating_sub(self.dead)
    }
}

/// What is written again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Files that are merged, those of a partition into one.
    pub merged: Vec<u32>,
    /// Files that are written again, each by itself.
    pub rewritten: Vec<u32>,
}

/// Decides for an epoch that changes so many rows. Without deletion vectors every file that lost a row is written again.
pub fn plan(files: &[FileSize], changed: u64, vectors: bool) -> Compaction {
    let merged = merged(files, changed);
    let gone: BTreeSet<u32> = merged.iter().copied().collect();
    let others = files.iter().filter(|file| !gone.contains(&file.number) && file.live() > 0);
    if !vectors {
        return Compaction { rewritten: others.filter(|file| file.touched).map(|file| file.number).collect(), merged };
    }
    let mut sparse: Vec<&FileSize> = others.filter(|file| file.dead * 2 >= file.rows).collect();
    // The most is won first.
    sparse.sort_by_key(|file| (file.live() * 1000 / file.rows.max(1), file.number));
    let (limit, mut copied) = (changed.saturating_mul(COPIED_PER_CHANGED), 0);
    let within = |file: &&FileSize| {
        let first = copied == 0;
        copied += file.live();
        first || copied <= limit
    };
    Compaction { rewritten: sparse.into_iter().take_while(within).map(|file| file.number).collect(), merged }
}

/// Files of one partition and about one size, where there are enough of them: the smallest first.
fn merged(files: &[FileSize], changed: u64) -> Vec<u32> {
    let mut sizes: BTreeMap<(u32, &[Option<String>]), Vec<&FileSize>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.live() > 0 && file.live() <= SMALL_ROWS) {
        sizes.entry((file.live().ilog(FILES_PER_SIZE as u64), &file.partition)).or_default().push(file);
    }
    let full = sizes.into_values().filter(|group| group.len() >= FILES_PER_SIZE).map(|mut group| {
        let mut rows = 0;
        let fits = |file: &&&FileSize| {
            rows += file.live();
            rows <= MERGED_ROWS
        };
        group.truncate(group.iter().take(2 * FILES_PER_SIZE).take_while(fits).count().max(2));
        group
    });
    let (limit, mut copied) = (changed.saturating_mul(MERGED_PER_CHANGED), 0);
    let within = |group: &Vec<&FileSize>| {
        let first = copied == 0;
        copied += group.iter().map(|file| file.live()).sum::<u64>();
        first || copied <= limit
    };
    full.take_while(within).flatten().map(|file| file.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u32, rows: u64, dead: u64) -> FileSize {
        FileSize { number, partition: Vec::new(), rows, dead, touched: dead > 0 }
    }

    #[test]
    fn half_dead_files_go_one_by_one_and_small_ones_together() {
        let sparse = [file(0, 1_000_000, 500_000), file(1, 1_000_000, 600_000), file(2, 1_000_000, 499_999)];
        assert_eq!(plan(&sparse, 1_000, true).rewritten, [1], "one file whatever the limit");
        assert_eq!(plan(&sparse, 300_000, true).rewritten, [1, 0]);
        assert_eq!(plan(&sparse, 1, false).rewritten, [0, 1, 2], "without vectors all that lost rows");
        assert_eq!(plan(&[file(0, 10, 10)], 1, true), Compaction::default(), "what is all dead just goes");

        let small: Vec<FileSize> = (0..8).map(|number| file(number, 100 + u64::from(number), 0)).collect();
        assert_eq!(plan(&small, 1, true).merged, (0..8).collect::<Vec<_>>());
        assert_eq!(plan(&small[..7], 1, true), Compaction::default());
        let partitioned: Vec<FileSize> = (small.iter().cloned())
            .map(|file| FileSize { partition: vec![Some((file.number % 2).to_string())], ..file })
            .collect();
        assert_eq!(plan(&partitioned, 1, true), Compaction::default());
        let large: Vec<FileSize> = (0..20).map(|number| file(number, SMALL_ROWS + 1, 0)).collect();
        assert_eq!(plan(&large, 1, true), Compaction::default());
    }

    /// A thousand epochs that each change as many rows of a table that does not grow.
    #[test]
    fn neither_files_nor_dead_rows_nor_copies_get_out_of_hand() {
        for (keys, changed) in [(100_000, 100), (1_000_000, 20_000), (50, 50)] {
            let mut files = vec![file(0, keys, 0)];
            let (mut next, mut copied, mut most_files) = (1, 0, 0);
            for _ in 0..1000 {
                // Rows die everywhere alike.
                let live: u64 = files.iter().map(FileSize::live).sum();
                let mut left = changed.min(live);
                for file in &mut files {
                    let dies = (file.live() * changed.min(live)).div_ceil(live.max(1)).min(left).min(file.live());
                    file.dead += dies;
                    left -= dies;
                }
                let compaction = plan(&files, changed, true);
                let rows: u64 =
                    files.iter().filter(|f| compaction.merged.contains(&f.number)).map(FileSize::live).sum();
                copied += rows;
                for file in files.iter_mut().filter(|file| compaction.rewritten.contains(&file.number)) {
                    copied += file.live();
                    (file.rows, file.dead) = (file.live(), 0);
                }
                files.retain(|file| file.live() > 0 && !compaction.merged.contains(&file.number));
                files.extend((rows > 0).then(|| file(next, rows, 0)));
                files.push(file(next + 1, changed, 0));
                next += 2;
                most_files = most_files.max(files.len());
            }
            let (rows, dead) = files.iter().fold((0, 0), |sum, file| (sum.0 + file.rows, sum.1 + file.dead));
            assert!(dead * 3 <= rows * 2, "{keys} keys: {dead} of {rows} rows are dead");
            assert!(most_files < 70, "{keys} keys: {most_files} files");
            assert!(copied <= changed * 1000 * 7, "{keys} keys: {copied} rows were copied");
        }
    }

    /// Three hundred epochs that each bring a row to every one of forty partitions.
    #[test]
    fn every_partition_keeps_few_files() {
        let (mut files, mut next, mut copied) = (Vec::<FileSize>::new(), 0, 0);
        for _ in 0..300 {
            let compaction = plan(&files, 40, true);
            let mut together: BTreeMap<Vec<Option<String>>, u64> = BTreeMap::new();
            for file in files.iter().filter(|file| compaction.merged.contains(&file.number)) {
                *together.entry(file.partition.clone()).or_default() += file.live();
            }
            files.retain(|file| !compaction.merged.contains(&file.number));
            copied += together.values().sum::<u64>();
            let new = (0..40).map(|at| (vec![Some(at.to_string())], 1));
            for (partition, rows) in together.into_iter().chain(new) {
                files.push(FileSize { partition, ..file(next, rows, 0) });
                next += 1;
            }
        }
        assert!(files.len() < 40 * 24, "{} files", files.len());
        assert!(copied <= 40 * 300 * 6, "{copied} rows were copied");
    }
}
