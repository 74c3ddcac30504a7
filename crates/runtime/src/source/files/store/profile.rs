//! Credentials of a profile in the shared AWS credentials file.
//!
//! Only static keys are taken: a profile that assumes a role or signs on elsewhere is somebody else's to turn into keys.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// A profile's keys.
#[derive(PartialEq)]
pub struct Profile {
    /// Access key.
    pub key: String,
    /// Its secret.
    pub secret: String,
    /// Token of temporary credentials.
    pub token: Option<String>,
}

/// The keys of `AWS_PROFILE`, or of the profile `default`; None without a file, or where the profile has no keys.
pub fn read() -> Result<Option<Profile>> {
    let name = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    let path = match std::env::var_os("AWS_SHARED_CREDENTIALS_FILE") {
        Some(path) => PathBuf::from(path),
        None => match std::env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(".aws/credentials"),
            None => return Ok(None),
        },
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(find(&text, &name)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", &path, &e)),
    }
}

fn find(text: &str, name: &str) -> Option<Profile> {
    let mut inside = false;
    let (mut key, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = header.trim() == name;
        } else if let (true, Some((field, value))) = (inside, line.split_once('=')) {
            let value = Some(value.trim().to_owned());
            match field.trim() {
                "aws_access_key_id" => key = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(Profile { key: key?, secret: secret?, token })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_its_own_keys() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=S=\n\n[role]\nrole_arn = x\n[t]\naws_access_key_id=B\naws_secret_access_key=C\naws_session_token = D\n";
        let default = find(text, "default").unwrap();
        assert_eq!((default.key.as_str(), default.secret.as_str(), default.token), ("A", "S=", None));
        assert_eq!(find(text, "t").unwrap().token.as_deref(), Some("D"));
        assert!(find(text, "role").is_none() && find(text, "none").is_none());
    }
}
