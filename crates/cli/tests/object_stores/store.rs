//! The object store of the tests: `store.py` beside this file, in an environment of its own.
//!
//! The environment is made once, below the build directory, by `python3 -m venv` and pip; `ALLUVIUM_MOTO_PYTHON` names a
//! Python that has `moto[server]` and `boto3` instead. Where neither can be had the tests are skipped and say why.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

/// A running store; dropped, it ends.
pub struct Store {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    endpoint: String,
}

impl Store {
    /// Starts one; None, said aloud, where it cannot be had.
    pub fn start() -> Option<Store> {
        let python = match python() {
            Ok(python) => python,
            Err(why) => {
                eprintln!("skipped: no object store to test against: {why}");
                return None;
            }
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/object_stores/store.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut store = Store { child, input, output, endpoint: String::new() };
        store.endpoint = store.line()["endpoint"].as_str().unwrap().to_owned();
        Some(store)
    }

    /// Environment in which the program finds this store.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", self.google()),
        ]
    }

    /// An account for Google's store that needs no token and finds this one: both speak the same XML.
    fn google(&self) -> String {
        json!({
            "gcs_base_url": self.endpoint,
            "disable_oauth": true,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        })
        .to_string()
    }

    /// A new bucket.
    pub fn bucket(&mut self, name: &str) {
        self.tell(&json!({"do": "bucket", "name": name}));
    }

    /// Puts objects of text.
    pub fn put(&mut self, bucket: &str, objects: &[(String, String)]) {
        let objects: Vec<Value> = objects.iter().map(|(key, text)| json!([key, text])).collect();
        self.tell(&json!({"do": "put", "bucket": bucket, "objects": objects}));
    }

    /// Removes an object.
    pub fn remove(&mut self, bucket: &str, key: &str) {
        self.tell(&json!({"do": "remove", "bucket": bucket, "key": key}));
    }

    /// A new queue that the bucket tells of its objects; its URL.
    pub fn queue(&mut self, name: &str, bucket: &str) -> String {
        self.tell(&json!({"do": "queue", "name": name, "bucket": bucket})).as_str().unwrap().to_owned()
    }

    /// The bucket tells nobody of its objects any more.
    pub fn silence(&mut self, bucket: &str) {
        self.tell(&json!({"do": "silence", "bucket": bucket}));
    }

    /// Puts an object that was modified at `at`.
    pub fn put_dated(&mut self, bucket: &str, key: &str, text: &str, at: &str) {
        self.put(bucket, &[(key.to_owned(), text.to_owned())]);
        self.tell(&json!({"do": "date", "bucket": bucket, "key": key, "at": at}));
    }

    /// The first thousand keys in a bucket that begin with `prefix`.
    pub fn keys(&mut self, bucket: &str, prefix: &str) -> Vec<String> {
        let keys = self.tell(&json!({"do": "keys", "bucket": bucket, "prefix": prefix}));
        keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
    }

    /// The next requests of a kind fail with a status.
    pub fn refuse(&mut self, kind: &str, times: u64, status: u16) {
        self.tell(&json!({"do": "refuse", "kind": kind, "times": times, "status": status}));
    }

    /// Sends a message.
    pub fn send(&mut self, queue: &str, body: &str) {
        self.tell(&json!({"do": "send", "queue": queue, "body": body}));
    }

    /// Messages in a queue, and messages received and not deleted.
    pub fn depth(&mut self, queue: &str) -> (u64, u64) {
        let depth = self.tell(&json!({"do": "depth", "queue": queue}));
        (depth[0].as_u64().unwrap(), depth[1].as_u64().unwrap())
    }

    /// How many requests of a kind were served: `list`, `get`, `head`, `ReceiveMessage` …
    pub fn requests(&mut self, kind: &str) -> u64 {
        self.tell(&json!({"do": "counts"}))[kind].as_u64().unwrap_or(0)
    }

    fn tell(&mut self, command: &Value) -> Value {
        writeln!(self.input, "{command}").unwrap();
        let mut answer = self.line();
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer["answer"].take()
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the store said {line:?}: {error}"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Python with what the store needs.
fn python() -> Result<PathBuf, String> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(make_python).clone()
}

fn make_python() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("ALLUVIUM_MOTO_PYTHON") {
        return Ok(PathBuf::from(given));
    }
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto");
    let python = environment.join("bin/python");
    if works(&python) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "moto[server]", "boto3"]))?;
    if works(&python) { Ok(python) } else { Err("moto was installed and cannot be imported".to_owned()) }
}

fn works(python: &Path) -> bool {
    let import = Command::new(python).args(["-c", "import moto.server, boto3"]).stderr(Stdio::null()).status();
    import.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
