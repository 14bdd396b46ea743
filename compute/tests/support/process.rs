//! `patchboard serve` as a process, and its clients.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "not every test needs all of it")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running server; ends when dropped.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn from(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").unwrap_or_else(|| panic!("{line:?}")).1;
        Self { child, address: address.trim_end_matches('/').parse().unwrap() }
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends a request and reads its answer to the end; `None` if the server goes away meanwhile.
    pub fn try_ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let n = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {n}\r\nConnection: close\r\n\r\n{body}",
            self.address
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_string()))
    }

    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = self.try_ask(method, path, body).unwrap();
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {value}");
        value
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until no job is left and returns all jobs.
pub fn drained(server: &Server) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let jobs = server.get("/api/jobs")["jobs"].as_array().unwrap().clone();
        let is_over = |job: &Value| job["state"] != "queued" && job["state"] != "running";
        if jobs.iter().all(is_over) {
            return jobs;
        }
        assert!(Instant::now() < deadline, "{jobs:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a document says, without what differs from run to run.
pub fn content(server: &Server, id: &str) -> Value {
    let mut document = server.get(&format!("/api/experiments/{id}"));
    for field in ["wall_secs", "finished_at"] {
        document["provenance"][field] = Value::Null;
    }
    document
}

pub fn ids(server: &Server) -> Vec<String> {
    let page = server.get("/api/experiments?limit=200&sort=entity");
    let list = page["experiments"].as_array().unwrap();
    assert_eq!(page["total"], list.len());
    list.iter().map(|entry| entry["id"].as_str().unwrap().to_string()).collect()
}

/// Reads events until `until` is content with one; `None` if the stream ends before.
pub fn hear<T>(server: &Server, until: impl FnMut(Value) -> Option<T>) -> Option<T> {
    let mut events = server.connect();
    write!(events, "GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).unwrap();
    let lines = BufReader::new(events).lines();
    let mut events = lines
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    events.find_map(until)
}

/// The positions of columns.
pub fn positions(columns: &Value) -> BTreeSet<u64> {
    let columns = columns.as_array().into_iter().flatten();
    columns.map(|column| column["position"].as_u64().unwrap()).collect()
}
