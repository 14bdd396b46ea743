//! The server as a process: killed at any moment, on a full or read-only folder, and with clients
//! that do not behave.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use self::process::{Server, content, drained, hear, ids, positions};

#[path = "../compute/tests/support/process.rs"]
mod process;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-llama3")
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchboard"));
    command.args(["serve", "--port", "0", "--model"]).arg(tiny()).arg("--data").arg(data);
    command.env("RUST_LOG", "error").env_remove("RUST_BACKTRACE");
    command
}

fn start(data: &Path) -> Server {
    Server::from(&mut command(data))
}

/// The same with several workers.
fn with_workers(data: &Path, n_workers: usize) -> Server {
    Server::from(command(data).args(["--device", "cpu"].repeat(n_workers)))
}

/// `n` different pairs; large enough that a sweep takes some milliseconds.
fn table(n: usize) -> String {
    let pair = |i: usize| {
        json!({ "entity": format!("The king {i}"),
            "source": format!("The king orders the guards and the crew of ship {i} to leave."),
            "base": format!("The king watches the guards and the crew of ship {i} at rest.") })
    };
    json!({ "name": "many", "pairs": (0..n).map(pair).collect::<Vec<_>>() }).to_string()
}

/// Kills a server in the middle of the pair that comes after `n_done` results, or at its end where
/// there are fewer.
fn kill_after(server: Server, n_done: usize, random: &mut StdRng) {
    loop {
        let job = &server.get("/api/jobs")["jobs"][0];
        if job["n_done"].as_u64().unwrap() as usize >= n_done || job["state"] == "done" {
            break;
        }
    }
    // Any moment within a pair is as good as another.
    std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
    server.kill();
}

/// Killed at random moments while it works through a queue, with one worker or two, the server
/// always comes back with whole results, and comes to the same end as one that was left alone. `PATCHBOARD_KILLS` sets how
/// often.
#[test]
fn killed_at_any_moment_it_loses_nothing() {
    const N_PAIRS: usize = 60;
    let n_kills: usize = env::var("PATCHBOARD_KILLS").map_or(30, |n| n.parse().unwrap());
    let quiet = tempfile::tempdir().unwrap();
    let server = start(quiet.path());
    assert_eq!(server.ask("POST", "/api/jobs", &table(N_PAIRS)).0, 201);
    drained(&server);
    let expected: Vec<_> = ids(&server).iter().map(|id| content(&server, id)).collect();
    assert_eq!(expected.len(), N_PAIRS);
    drop(server);

    let mut data = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let (mut n_finished, mut n_in_the_middle) = (0, 0);
    // A kill counts if it hit a running queue, however fast the machine is.
    for round in 0.. {
        assert!(round < 20 * n_kills, "{n_in_the_middle} kills hit a running queue");
        let n_workers = 1 + round % 2;
        let server = with_workers(data.path(), n_workers);
        // What is listed is there, whole and right, and never less than before.
        let there = ids(&server);
        assert!(there.len() >= n_finished, "{} of {n_finished} results", there.len());
        n_finished = there.len();
        for id in &there {
            let expected = expected.iter().find(|document| document["id"] == **id).unwrap();
            assert_eq!(content(&server, id), *expected, "round {round}");
        }
        let jobs = server.get("/api/jobs")["jobs"].as_array().unwrap().clone();
        if round > 0 && jobs.iter().any(|job| job["state"] != "done") {
            n_in_the_middle += 1;
        }
        if n_in_the_middle == n_kills {
            break;
        }
        if jobs.iter().all(|job| job["state"] == "done") {
            // Everything was done: once more from the beginning.
            drop(server);
            data = tempfile::tempdir().unwrap();
            n_finished = 0;
            let server = with_workers(data.path(), n_workers);
            assert_eq!(server.ask("POST", "/api/jobs", &table(N_PAIRS)).0, 201);
            kill_after(server, random.random_range(0..N_PAIRS / 2), &mut random);
        } else {
            kill_after(server, n_finished + random.random_range(0..6), &mut random);
        }
    }

    let server = start(data.path());
    let jobs = drained(&server);
    assert!(jobs.iter().all(|job| job["state"] == "done" && job["n_failed"] == 0), "{jobs:?}");
    let found: Vec<_> = ids(&server).iter().map(|id| content(&server, id)).collect();
    assert_eq!(found.len(), N_PAIRS);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}

/// One pair of long prompts, swept in as many passes as it has columns.
fn long_pair() -> String {
    let words = |verb: &str| format!("The king {verb} {}", "the guards of the crew ".repeat(8));
    json!({ "pairs": [{ "source": words("orders"), "base": words("watches") }],
        "settings": { "template": "none", "answers": [" the", " a"], "exact_answers": true } })
    .to_string()
}

/// Killed in the middle of one long sweep again and again, the server always goes on from the
/// columns that it has told, shows them at once, and comes to the same numbers, to the bit.
#[test]
fn killed_within_a_sweep_it_goes_on_from_the_finished_passes() {
    const N_KILLS: usize = 12;
    let start =
        |data: &Path| Server::from(command(data).args(["--passes", "200", "--keep-every", "0"]));
    let quiet = tempfile::tempdir().unwrap();
    let server = start(quiet.path());
    assert_eq!(server.ask("POST", "/api/jobs", &long_pair()).0, 201);
    drained(&server);
    let id = ids(&server).remove(0);
    let expected = content(&server, &id);
    assert!(expected["token_labels"].as_array().unwrap().len() > 40);
    drop(server);

    // Kills that found the sweep over do not count, however fast the machine is.
    let mut n_in_the_middle = 0;
    for folder in 0.. {
        assert!(folder < 4 * N_KILLS, "{n_in_the_middle} kills hit a running sweep");
        let data = tempfile::tempdir().unwrap();
        let server = start(data.path());
        assert_eq!(server.ask("POST", "/api/jobs", &long_pair()).0, 201);
        let mut seen = BTreeSet::new();
        let mut server = Some(server);
        while n_in_the_middle < N_KILLS {
            let running = server.take().unwrap();
            // What was told before is there as soon as the sweep is.
            let mut is_first = true;
            let told = hear(&running, |event| {
                let live = match &event["type"] {
                    kind if kind == "snapshot" => &event["live"][0],
                    kind if kind == "begun" => &event["live"],
                    kind if kind == "columns" => {
                        seen.extend(positions(&event["columns"]));
                        return Some(true);
                    }
                    kind if kind == "pair" && event["pair"]["state"] == "done" => {
                        return Some(false);
                    }
                    _ => return None,
                };
                if live.is_object() {
                    let there = positions(&live["columns"]);
                    if is_first {
                        assert!(seen.is_subset(&there), "{seen:?} of {there:?}");
                        is_first = false;
                    }
                    seen.extend(there);
                }
                let jobs = event["jobs"].as_array();
                jobs.is_some_and(Vec::is_empty).then_some(false)
            });
            running.kill();
            server = Some(start(data.path()));
            if told != Some(true) || !ids(server.as_ref().unwrap()).is_empty() {
                break;
            }
            n_in_the_middle += 1;
        }
        let server = server.unwrap();
        let jobs = drained(&server);
        assert_eq!((&jobs[0]["state"], &jobs[0]["n_done"]), (&json!("done"), &json!(1)));
        assert_eq!(content_without_cost(&server, &id), without_cost(expected.clone()));
        if n_in_the_middle == N_KILLS {
            break;
        }
    }
}

/// The operations of passes that were broken off are not known.
fn without_cost(mut document: Value) -> Value {
    document["provenance"]["operations"] = Value::Null;
    document
}

fn content_without_cost(server: &Server, id: &str) -> Value {
    without_cost(content(server, id))
}

#[test]
fn it_stops_when_asked_and_goes_on_later() {
    let data = tempfile::tempdir().unwrap();
    let mut server = start(data.path());
    assert_eq!(server.ask("POST", "/api/jobs", &table(80)).0, 201);
    let mut events = server.connect();
    write!(events, "GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).unwrap();
    let second = Command::new(env!("CARGO_BIN_EXE_patchboard"))
        .args(["serve", "--port", "0", "--read-only", "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another server uses the data folder"), "{said}");

    let killed = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -TERM {}", server.child.id()))
        .status()
        .unwrap();
    assert!(killed.success());
    assert!(exit(&mut server.child).success());
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("event: snapshot"), "{rest}");
    let names = fs::read_dir(data.path()).unwrap().map(|e| e.unwrap().file_name());
    let names: Vec<_> = names.collect();
    assert!(!names.iter().any(|name| name == "patchboard.db-wal"), "{names:?}");

    let server = start(data.path());
    let jobs = drained(&server);
    assert_eq!((&jobs[0]["state"], &jobs[0]["n_done"]), (&json!("done"), &json!(80)));
}

/// Waits for a process's end. Only one that does not end by itself takes this long.
fn exit(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None => assert!(Instant::now() < deadline, "the server does not stop"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether this test runs as root, whom no permission stops.
fn is_root() -> bool {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    fs::write(folder.path().join("x"), "").is_ok()
}

#[test]
fn what_is_in_a_read_only_folder_is_still_shown() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    server.ask("POST", "/api/jobs", &table(3));
    drained(&server);
    let documents: Vec<_> = ids(&server).iter().map(|id| content(&server, id)).collect();
    // One that was killed leaves a log behind, which belongs to the data.
    server.kill();
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data.path()).unwrap() {
        let entry = entry.unwrap();
        let to = copy.path().join(entry.file_name());
        fs::copy(entry.path(), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = command(copy.path());
    // Root may write anywhere, so the server runs as somebody who may not.
    let program = tempfile::tempdir().unwrap();
    if is_root() {
        let to = program.path().join("patchboard");
        fs::copy(env!("CARGO_BIN_EXE_patchboard"), &to).unwrap();
        fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command = Command::new(&to);
        command.args(["serve", "--port", "0", "--read-only", "--data"]).arg(copy.path());
        command.stdout(Stdio::piped()).uid(65_534).gid(65_534);
    }
    let server = Server::from(&mut command);
    let found: Vec<_> = ids(&server).iter().map(|id| content(&server, id)).collect();
    assert_eq!(found, documents);
    assert_eq!(server.get("/api/server")["writable"], false);
    let (status, problem) = server.ask("POST", "/api/import", &documents[0].to_string());
    assert_eq!(status, 403, "{problem}");
    drop(server);
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn beyond_this_machine_it_takes_a_decision() {
    let data = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = command(data.path());
        let output = command.args(args).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run(&["--host", "0.0.0.0"]);
    assert!(said.contains("`--read-only`, or give `--token-file FILE`"), "{said}");
    let token = data.path().join("token");
    fs::write(&token, "hunter2\n").unwrap();
    let said = run(&["--host", "::", "--token-file", token.to_str().unwrap()]);
    assert!(said.contains("has 7 characters, and needs at least 20"), "{said}");
    assert!(!said.contains("hunter2"));
    let said = run(&["--token-file", "/no/such/file"]);
    assert!(said.contains("cannot read the token file"), "{said}");
    let said = run(&["--model", "/no/such/model"]);
    assert!(said.contains("/no/such/model"), "{said}");

    fs::write(&token, "a-token-that-is-long-enough\n").unwrap();
    let mut command = command(data.path());
    command.args(["--host", "0.0.0.0", "--token-file"]).arg(&token);
    command.env("RUST_LOG", "trace").stderr(Stdio::piped());
    let mut server = Server::from(&mut command);
    server.address.set_ip([127, 0, 0, 1].into());
    assert_eq!(server.ask("POST", "/api/jobs", &table(1)).0, 401);
    let mut stream = server.connect();
    let body = table(1);
    write!(
        stream,
        "POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer \
         a-token-that-is-long-enough\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let mut log = server.child.stderr.take().unwrap();
    drop(server);
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert!(text.contains("answered") && !text.contains("a-token-that"), "{text}");
}

#[test]
fn clients_that_do_not_behave_do_not_keep_others_out() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    // A body of 100 MB is refused by its length, or once it is too long.
    for head in ["Content-Length: 104857600", "Transfer-Encoding: chunked"] {
        let mut stream = server.connect();
        write!(
            stream,
            "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Connection: close\r\n{head}\r\n\r\n"
        )
        .unwrap();
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        let chunk = if head.starts_with('T') { chunk } else { " ".repeat(0x10000) };
        let n_sent = (0..1_600).take_while(|_| stream.write_all(chunk.as_bytes()).is_ok()).count();
        assert!(n_sent < 1_600, "all of it was taken");
        let mut answer = Vec::new();
        // The answer may be lost with the connection, which is cut off in the middle of the body.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
    // Nonsense, half a head, half a body: all of them stay open, and others are served.
    let mut odd = Vec::new();
    for text in [
        "\0\u{1}\u{2}\r\n\r\n",
        "GET / HT",
        "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"pairs\"",
    ] {
        for _ in 0..20 {
            let mut stream = server.connect();
            stream.write_all(text.as_bytes()).unwrap();
            odd.push(stream);
        }
    }
    assert_eq!(server.get("/healthz"), "ok\n");

    // More idle connections than there may be: the others are told so at once.
    let (mut idle, mut n_refused) = (Vec::new(), 0);
    for _ in 0..1_500 {
        let Ok(stream) = TcpStream::connect(server.address) else { continue };
        idle.push(stream);
        if idle.len() > 900 {
            break;
        }
    }
    for stream in &idle {
        stream.set_nonblocking(true).unwrap();
    }
    let n_idle = idle.len();
    let deadline = Instant::now() + Duration::from_secs(20);
    while n_refused <= 50 {
        idle.retain_mut(|stream| {
            let mut begin = [0; 12];
            match stream.read(&mut begin) {
                Ok(n) => n_refused += usize::from(begin[..n].starts_with(b"HTTP/1.1 503")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
            }
            false
        });
        assert!(Instant::now() < deadline, "{n_refused} of {n_idle} were refused");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(odd);
    drop(idle);
    // They go away, and all is as before.
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.try_ask("GET", "/healthz", "").is_none_or(|(status, _)| status != 200) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
}
