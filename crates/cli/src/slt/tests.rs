//! Which files are found and how often each runs.
#![allow(clippy::unwrap_used)]

use super::*;

fn args(paths: Vec<PathBuf>, replays: Vec<Replay>) -> TestArgs {
    TestArgs { paths, complete: false, replays, jobs: 1 }
}

#[test]
fn directories_are_searched_and_sorted() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("a")).unwrap();
    for name in ["z.slt", "a/b.slt", "a/notes.txt"] {
        std::fs::write(directory.path().join(name), "# a comment\n").unwrap();
    }
    let jobs = jobs(&args(vec![directory.path().to_owned(), directory.path().join("z.slt")], vec![])).unwrap();
    let names: Vec<&Path> = jobs.iter().map(|job| job.path.strip_prefix(directory.path()).unwrap()).collect();
    assert_eq!(names, [Path::new("a/b.slt"), Path::new("z.slt")]);
}

#[test]
fn files_say_which_replays_they_take_part_in() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("epochs.slt");
    std::fs::write(&path, "# about epochs\n# replays: each, straight\nstatement ok\nSELECT 1\n").unwrap();
    let replays: Vec<Replay> =
        jobs(&args(vec![path.clone()], vec![Replay::All])).unwrap().iter().map(|job| job.replay).collect();
    assert_eq!(replays, [Replay::Straight, Replay::Each]);
    assert_eq!(jobs(&args(vec![path.clone()], vec![Replay::Restart])).unwrap().len(), 0);
    std::fs::write(&path, "# replays: sideways\n").unwrap();
    assert!(jobs(&args(vec![path], vec![])).is_err());
}

#[test]
fn a_path_without_tests_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    assert!(jobs(&args(vec![directory.path().to_owned()], vec![])).is_err());
    assert!(jobs(&args(vec![directory.path().join("none.slt")], vec![])).is_err());
}
