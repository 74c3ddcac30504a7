//! Every file below a root in the order of paths, those that do not count too.
//!
//! For questions, not for reading: what cannot be entered is passed over. Holds the names of one directory per level.

use std::path::Path;

use super::listing::{Lister, Names, refuse_loop};
use super::root::Target;
use super::rules::Ignored;
use crate::error::Result;

/// Takes a path, and why a listing does not give it; false ends the walk.
pub type Visit<'v> = dyn FnMut(&str, Option<Ignored>) -> Result<bool> + 'v;

/// Walks everything that `lister` could look at, also what it does not. A root that is gone has no files.
pub fn walk(lister: &Lister, visit: &mut Visit<'_>) -> Result<()> {
    let Some(base) = lister.root().base.to_str() else { return Ok(()) };
    if lister.root().target == Target::File {
        return visit(base, None).map(|_| ());
    }
    let prefix = if base.ends_with('/') { base.to_owned() } else { format!("{base}/") };
    directory(lister, &prefix, prefix.len(), visit).map(|_| ())
}

/// `prefix` ends in `/`; what is behind byte `base` of it is relative to the root. False when the walk has ended.
fn directory(lister: &Lister, prefix: &str, base: usize, visit: &mut Visit<'_>) -> Result<bool> {
    let Ok(entries) = std::fs::read_dir(prefix) else { return Ok(true) };
    let within = prefix.get(base..).unwrap_or_default();
    let hidden = lister.hidden().part(within.trim_end_matches('/')).is_some() && !within.is_empty();
    let mut names = Names::default();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let (Some(name), Ok(kind)) = (name.to_str(), entry.file_type()) else { continue };
        let is_directory = kind.is_dir() || kind.is_symlink() && entry.path().is_dir();
        if !is_directory {
            names.push(name);
            continue;
        }
        let relative = format!("{within}{name}");
        let looks = hidden || lister.hidden().hides(name) || lister.root().enters(&relative);
        let loops = kind.is_symlink() && (hidden || refuse_loop(&entry.path(), Path::new(prefix)).is_err());
        if looks && !loops {
            // With the slash it stands where its files stand among the others.
            names.push(&format!("{name}/"));
        }
    }
    names.sort();
    for name in names.iter() {
        let path = format!("{prefix}{name}");
        let goes_on = match name.ends_with('/') {
            true => directory(lister, &path, base, visit)?,
            false => visit(&path, lister.ignore(path.get(base..).unwrap_or_default()))?,
        };
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::super::glob::Glob;
    use super::super::root::Root;
    use super::*;

    #[test]
    fn everything_is_seen_in_the_order_of_paths_with_why_it_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/1.json", "a.json", "a-b.json", "_t/x.json", "b/.y", "b/z.csv", "b/c/d.json"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("b/up")).unwrap();
        let root = Root::find(dir.path().to_str().unwrap(), true).unwrap();
        let lister = Lister::new(root, Some(Glob::new("*.json", true).unwrap()));
        let (mut seen, mut paths) = (Vec::new(), Vec::new());
        walk(&lister, &mut |path, ignored| {
            paths.push(path.to_owned());
            let relative = path.strip_prefix(dir.path().to_str().unwrap()).unwrap()[1..].to_owned();
            seen.push((relative, ignored.map(|ignored| ignored.word())));
            Ok(true)
        })
        .unwrap();
        assert!(paths.is_sorted());
        let seen: Vec<_> = seen.iter().map(|(path, word)| (path.as_str(), *word)).collect();
        let (hidden, filtered) = (Some("hidden"), Some("filtered"));
        assert_eq!(
            seen,
            [
                ("_t/x.json", hidden),
                ("a-b.json", None),
                ("a.json", None),
                ("a/1.json", None),
                ("b/.y", hidden),
                ("b/c/d.json", None),
                ("b/z.csv", filtered),
            ]
        );
        let mut count = 0;
        walk(&lister, &mut |_, _| {
            count += 1;
            Ok(count < 2)
        })
        .unwrap();
        assert_eq!(count, 2);
    }
}
