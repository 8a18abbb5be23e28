//! Real children are bound, and their bindings are read back. On a machine with a single node, several nodes are not
//! tested: see docs/topology.md.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use sealbus_worker::{
    bind::{self, Binding, BoundPolicy, MemoryBinding, exec, read_back},
    processor::child::PARENT_PID,
    topology::{CpuSet, Source, load},
};

const WORKER: &str = env!("CARGO_BIN_EXE_sealbus-worker");

fn set(list: &str) -> CpuSet {
    list.parse().expect(list)
}

/// The processing units that this process may use. Each test binds to one of them or to all.
fn units() -> Vec<u32> {
    load(Source::ThisMachine).expect("machine").units().iter().collect()
}

fn node() -> CpuSet {
    [load(Source::ThisMachine).expect("machine").nodes[0].os_index].into_iter().collect()
}

fn to(unit: u32, memory: Option<MemoryBinding>) -> Binding {
    Binding { cpus: [unit].into_iter().collect(), memory }
}

fn memory(strict: bool) -> Option<MemoryBinding> {
    Some(MemoryBinding { nodes: node(), strict })
}

/// A child that has become another executable and lives until it is killed.
struct Bound(Child);

impl Bound {
    /// Starts a shell that prints a line when it runs, and has a child of its own.
    fn start(binding: &Binding) -> Self {
        let mut command = bind::command(Path::new(WORKER), binding, "sh".as_ref());
        command.args(["-c", "sleep 1000 & echo there; wait"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("line");
        assert_eq!(line, "there\n");
        Self(child)
    }

    fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.0.id());
        let text = fs::read_to_string(path).expect("children");
        text.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        for pid in self.children() {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A field of a kernel file about a process, read without the code under test.
fn status(path: &str, field: &str) -> String {
    let text = fs::read_to_string(path).expect(path);
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect(field);
    line.trim().to_owned()
}

fn run(binding: &Binding, bin: &str, arguments: &[&str]) -> Output {
    bind::command(Path::new(WORKER), binding, bin.as_ref()).args(arguments).output().expect("run")
}

/// The exit status, and the last line of stderr.
fn refused(output: &Output) -> (i32, String) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code().expect("an exit status"), stderr.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn a_child_is_bound_as_wanted_and_again_after_a_restart() {
    let units = units();
    if units.len() == 1 {
        println!("one unit only: that a child is kept off others is not exercised");
    }
    for unit in [units[0], units[units.len() - 1], units[0]] {
        let wanted = to(unit, memory(true));
        let child = Bound::start(&wanted);
        let pid = child.0.id();
        // The kernel's view of the child and of what it has started.
        for pid in [vec![pid], child.children()].concat() {
            assert_eq!(status(&format!("/proc/{pid}/status"), "Cpus_allowed_list"), unit.to_string());
            let maps = fs::read_to_string(format!("/proc/{pid}/numa_maps")).expect("maps");
            let stack = maps.lines().find(|line| line.contains(" stack ")).expect("stack");
            assert!(stack.contains(&format!(" bind:{} ", node())), "{stack}");
        }
        let bound = read_back(pid).expect("bound");
        assert_eq!(bound.cpus, wanted.cpus);
        assert_eq!(bound.memory, Some(BoundPolicy::Bind(node())));
        assert_eq!(bound.check(&wanted), Ok(()));
        assert!(bound.check(&to(unit + 1, None)).is_err());
    }
}

#[test]
fn threads_of_a_child_are_where_it_is() {
    let unit = units()[0];
    // A shell has only one thread, so a program with several threads is used. The built-in processor's threads depend
    // on its libraries.
    let script = "import threading, sys, time\n\
                  for _ in range(3): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n\
                  print('there', flush=True)\n\
                  sys.stdin.read()";
    let mut command = bind::command(Path::new(WORKER), &to(unit, None), "python3".as_ref());
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("start");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("line");
    assert_eq!(line, "there\n");
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).expect("tasks");
    let lists: Vec<String> = tasks
        .map(|task| status(&format!("{}/status", task.expect("task").path().display()), "Cpus_allowed_list"))
        .collect();
    assert_eq!(lists, vec![unit.to_string(); 4]);
    assert_eq!(read_back(child.id()).expect("bound").cpus, set(&unit.to_string()));
    drop(child.stdin.take());
    assert!(child.wait().expect("end").success());
}

#[test]
fn memory_that_is_preferred_is_not_demanded() {
    let wanted = to(units()[0], memory(false));
    let child = Bound::start(&wanted);
    let bound = read_back(child.0.id()).expect("bound");
    assert_eq!(bound.memory, Some(BoundPolicy::Prefer(node())));
    assert_eq!(bound.check(&wanted), Ok(()));
    assert!(bound.check(&to(units()[0], memory(true))).is_err());
    let without = Bound::start(&to(units()[0], None));
    assert_eq!(read_back(without.0.id()).expect("bound").memory, Some(BoundPolicy::Default));
}

#[test]
fn all_units_can_be_bound_to() {
    let all: CpuSet = units().into_iter().collect();
    let output = run(&Binding { cpus: all.clone(), memory: None }, "cat", &["/proc/self/status"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("list");
    assert_eq!(set(list), all);
}

#[test]
fn what_is_not_there_or_not_allowed_is_refused_before_the_executable_runs() {
    let unit = units()[0];
    let there: CpuSet = units().into_iter().collect();
    let beyond = to(4095, None);
    let expected = format!(
        "sealbus-worker exec-bound: cannot bind to cpus 4095: not there, or not allowed; this process may use {there}"
    );
    assert_eq!(refused(&run(&beyond, "echo", &["ran"])), (i32::from(exec::EXIT_NOT_BOUND), expected));

    let nodes = Some(MemoryBinding { nodes: set("1000"), strict: true });
    let (code, line) = refused(&run(&to(unit, nodes), "echo", &["ran"]));
    assert_eq!(code, 78);
    assert!(line.contains("cannot bind to nodes 1000: not there, or not allowed"), "{line}");

    let (code, line) = refused(&run(&Binding { cpus: set(""), memory: None }, "echo", &["ran"]));
    assert_eq!((code, line.as_str()), (78, "sealbus-worker exec-bound: cannot bind to no cpus at all"));

    // A cpu that the machine has, but that this process's own affinity excludes.
    let others: Vec<u32> = units().into_iter().skip(1).collect();
    let Some(other) = others.first() else {
        println!("one unit only: that a worker's own affinity is kept is not exercised");
        return;
    };
    let inner = bind::arguments(&to(*other, None), "echo".as_ref());
    let inner: Vec<&str> = inner.iter().map(|argument| argument.to_str().expect("text")).collect();
    let (code, line) = refused(&run(&to(unit, None), WORKER, &inner));
    assert_eq!(code, 78);
    assert!(line.ends_with(&format!("this process may use {unit}")), "{line}");
}

#[test]
fn an_executable_that_cannot_be_started_is_told_apart_from_a_binding_that_fails() {
    let binding = to(units()[0], None);
    let (code, line) = refused(&run(&binding, "/no/such/processor", &[]));
    assert_eq!(code, i32::from(exec::EXIT_NOT_FOUND));
    assert!(line.starts_with("sealbus-worker exec-bound: cannot start /no/such/processor: "), "{line}");
    let (code, _) = refused(&run(&binding, "/etc/passwd", &[]));
    assert_eq!(code, i32::from(exec::EXIT_NOT_STARTED));
}

#[test]
fn arguments_output_and_exit_status_are_those_of_the_executable() {
    let output = run(&to(units()[0], memory(true)), "sh", &["-c", "echo \"$0 $1\"; exit 7", "--cpus", "-- x"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), &b"--cpus -- x\n"[..]));
    assert!(output.stderr.is_empty(), "{output:?}");
    let output = run(&to(units()[0], None), "sh", &["-c", "kill -9 $$"]);
    assert_eq!(output.status.signal(), Some(9));
}

#[test]
fn a_child_dies_with_the_worker_that_it_names_and_does_not_start_for_another() {
    let binding = to(units()[0], None);
    let arguments = bind::arguments(&binding, "sleep".as_ref());
    // A shell acts as the worker: it starts the child, prints its pid, and is killed.
    let quoted: Vec<String> = arguments.iter().map(|it| format!("'{}'", it.to_str().expect("text"))).collect();
    let script = format!("{PARENT_PID}=$$ '{WORKER}' {} 1000 & echo $!; wait", quoted.join(" "));
    let mut worker = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("start");
    let mut stdout = BufReader::new(worker.stdout.take().expect("stdout"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("line");
    let comm = format!("/proc/{}/comm", line.trim());
    while fs::read_to_string(&comm).expect("the child lives") != "sleep\n" {
        std::thread::yield_now();
    }
    worker.kill().expect("kill");
    worker.wait().expect("end");
    // The child holds the other end of the pipe, so the pipe closes when the child is gone.
    line.clear();
    assert_eq!(stdout.read_line(&mut line).expect("end"), 0);

    let mut command = bind::command(Path::new(WORKER), &binding, "echo".as_ref());
    let output = command.arg("ran").env(PARENT_PID, "1").output().expect("run");
    assert_eq!(refused(&output), (78, "sealbus-worker exec-bound: the parent process is gone".to_owned()));
}

#[test]
fn the_arguments_say_what_is_wanted() {
    let text = |binding: &Binding| {
        let arguments = bind::arguments(binding, "pc1".as_ref());
        arguments.into_iter().map(|it| it.into_string().expect("text")).collect::<Vec<_>>().join(" ")
    };
    let binding = |memory| Binding { cpus: set("0-3,8"), memory };
    let nodes = |strict| Some(MemoryBinding { nodes: set("1"), strict });
    assert_eq!(text(&binding(None)), "exec-bound --cpus 0-3,8 -- pc1");
    assert_eq!(text(&binding(nodes(true))), "exec-bound --cpus 0-3,8 --nodes 1 -- pc1");
    assert_eq!(text(&binding(nodes(false))), "exec-bound --cpus 0-3,8 --nodes 1 --prefer -- pc1");
    assert_eq!(binding(nodes(false)).to_string(), "cpus 0-3,8, memory of nodes 1 first");
    let help = Command::new(WORKER).arg("--help").output().expect("run");
    assert!(!String::from_utf8_lossy(&help.stdout).contains(bind::EXEC_BOUND), "it is no command for people");
}
