//! Files and Markdown blocks that show commands and their output: how they are read, run and written anew.
//!
//! A command begins with `$ `. What follows is its standard output; in a file `2> ` begins a line of standard error, and `? 1` is its
//! exit code where that is not 0. A document shows what a terminal would: both outputs alike, and no exit code. There a line of `…`
//! stands for lines that are left out, and a comment before a block may say `<!-- console: dmesg = FILE -->` (what the pipe's first command would print), `<!-- console: not run: WHY -->`, or, before a
//! block of any language, `<!-- file: NAME -->`: commands of the same document that name it get the block's text as that file.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn bouncescope() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bouncescope"));
    // Neither the terminal's width nor its colours may change what is printed.
    command.current_dir(root()).env_clear();
    command
}

/// What the commands of a document find that is not in the repository.
#[derive(Default)]
pub(crate) struct Inputs {
    /// Standard error and exit code are shown as in a terminal.
    is_document: bool,
    /// For a command before a pipe, the file that has what it would print.
    piped: HashMap<String, String>,
    /// Files that a document shows, and where they were written to.
    files: HashMap<String, String>,
}

/// Words of a command line; only quotes mean anything.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for char in line.chars() {
        let word = words.last_mut().expect("never empty");
        match (char, quote) {
            ('"' | '\'', None) => quote = Some(char),
            (char, Some(open)) if char == open => quote = None,
            (' ', None) if word.is_empty() => {}
            (' ', None) => words.push(String::new()),
            _ => word.push(char),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Runs a command line and returns what it printed, line by line.
fn run(line: &str, inputs: &Inputs) -> Result<Vec<String>, String> {
    let (before, line) = line.split_once(" | ").map_or((None, line), |(before, line)| (Some(before), line));
    let (line, from) = line.split_once(" < ").map_or((line, None), |(line, file)| (line, Some(file.trim())));
    let piped = before.map(|command| {
        inputs.piped.get(command).map(String::as_str).ok_or(format!("no comment says what {command} prints"))
    });
    let stdin = match piped.transpose()?.or(from) {
        Some(file) => File::open(root().join(file)).map_err(|error| format!("{file}: {error}"))?.into(),
        None => Stdio::null(),
    };
    let words = words(line);
    let [program, arguments @ ..] = &words[..] else { return Err("a command is missing".to_owned()) };
    if program != "bouncescope" {
        return Err(format!("{program} cannot be run here: give the block a reason (console: not run: …)"));
    }
    let arguments = arguments.iter().map(|word| inputs.files.get(word).unwrap_or(word));
    let output = bouncescope().args(arguments).stdin(stdin).output().map_err(|error| error.to_string())?;
    let text = |bytes| String::from_utf8(bytes).map_err(|error| format!("{line}: {error}"));
    let mut lines: Vec<String> = text(output.stdout)?.lines().map(str::to_owned).collect();
    let mark = if inputs.is_document { "" } else { "2> " };
    lines.extend(text(output.stderr)?.lines().map(|line| format!("{mark}{line}").trim_end().to_owned()));
    match output.status.code() {
        Some(0) => {}
        Some(_) if inputs.is_document => {}
        Some(code) => lines.push(format!("? {code}")),
        None => return Err(format!("{line}: {}", output.status)),
    }
    Ok(lines)
}

fn is_elision(line: &str) -> bool {
    line.trim() == "…"
}

/// A line's first cell.
fn label(line: &str) -> &str {
    line.trim_start().split("  ").next().unwrap_or_default()
}

/// Whether one line is the other with other figures.
fn is_alike(one: &str, other: &str) -> bool {
    let is_no_digit = |char: &char| !char.is_ascii_digit();
    label(one) == label(other) || one.chars().filter(is_no_digit).eq(other.chars().filter(is_no_digit))
}

/// Where this line, or one like it, is.
fn find(line: &str, lines: &[&str]) -> Option<usize> {
    let at = |is_it: &dyn Fn(&str) -> bool| lines.iter().position(|other| is_it(other));
    at(&|other| other == line)
        .or_else(|| at(&|other| label(other) == label(line)))
        .or_else(|| at(&|other| is_alike(other, line)))
}

/// The printed lines, less what the old text leaves out at its `…`.
pub(crate) fn elided(old: &[&str], printed: &[&str]) -> Result<Vec<String>, String> {
    let mut new = Vec::new();
    let mut rest = printed;
    let parts: Vec<_> = old.split(|line| is_elision(line)).collect();
    let mut elisions = old.iter().filter(|line| is_elision(line));
    for (index, part) in parts.iter().enumerate() {
        let (is_first, is_last) = (index == 0, index + 1 == parts.len());
        if let [first, .., last] | [first @ last] = part {
            let missing = |line| format!("no line like {line:?} is printed any more: renew this block by hand");
            let begin = match rest.len().checked_sub(part.len()) {
                _ if is_first => 0,
                Some(begin) if is_last && is_alike(rest[begin], first) => begin,
                _ => find(first, rest).ok_or_else(|| missing(first))?,
            };
            let end = if is_last {
                rest.len()
            } else {
                let usual = begin + part.len() - 1;
                let as_long = rest.get(usual).is_some_and(|line| is_alike(line, last)).then_some(usual);
                let found = as_long.or_else(|| find(last, &rest[begin..]).map(|at| begin + at));
                found.ok_or_else(|| missing(last))? + 1
            };
            new.extend(rest[begin..end].iter().map(|line| (*line).to_owned()));
            rest = &rest[end..];
        }
        new.extend(elisions.next().map(|line| (*line).to_owned()));
    }
    Ok(new)
}

/// The lines of a file or block of commands, with what they print now.
pub(crate) fn renewed(old: &[&str], inputs: &Inputs) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = old;
    while let [line, after @ ..] = rest {
        let command = line.strip_prefix("$ ").ok_or_else(|| format!("{line:?} stands where a command should"))?;
        let (shown, next) = after.split_at(after.iter().position(|line| line.starts_with("$ ")).unwrap_or(after.len()));
        rest = next;
        let printed = run(command, inputs)?;
        let printed: Vec<&str> = printed.iter().map(String::as_str).collect();
        let lines = if shown.iter().any(|line| is_elision(line)) {
            elided(shown, &printed)?.join("\n")
        } else {
            printed.join("\n")
        };
        text += &format!("{line}\n{lines}{}", if lines.is_empty() { "" } else { "\n" });
    }
    Ok(text)
}

/// A fenced block of a document.
pub(crate) struct Fence<'a> {
    pub(crate) language: &'a str,
    pub(crate) lines: Vec<&'a str>,
    /// The comment in the line before it.
    comment: Option<&'a str>,
    /// The line of the document that its first line is.
    first: usize,
}

pub(crate) fn fences(document: &str) -> impl Iterator<Item = Fence<'_>> {
    let mut lines = document.lines().enumerate();
    let mut before = "";
    std::iter::from_fn(move || {
        loop {
            let (at, line) = lines.next()?;
            let Some(language) = line.strip_prefix("```") else {
                before = line;
                continue;
            };
            let comment = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
            before = "";
            let lines = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            return Some(Fence { language, lines, comment, first: at + 1 });
        }
    })
}

/// A `console` block.
pub(crate) struct Block<'a> {
    fence: Fence<'a>,
    pub(crate) commands: Vec<&'a str>,
    /// Why it is not run.
    pub(crate) not_run: Option<&'a str>,
}

pub(crate) fn blocks(document: &str) -> impl Iterator<Item = Block<'_>> {
    fences(document).filter(|fence| fence.language == "console").map(|fence| {
        let prompts = fence.lines.iter().filter_map(|line| line.strip_prefix("$ ").or(line.strip_prefix("# ")));
        let commands = prompts.collect();
        let not_run = fence.comment.and_then(|comment| comment.strip_prefix("console: not run: "));
        Block { fence, commands, not_run }
    })
}

/// A document with the output of its blocks as it is now.
pub(crate) fn document(old: &str) -> Result<String, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut inputs = Inputs { is_document: true, ..Inputs::default() };
    for fence in fences(old) {
        let Some(comment) = fence.comment else { continue };
        if let Some(name) = comment.strip_prefix("file: ") {
            let path = dir.path().join(name);
            fs::write(&path, fence.lines.join("\n") + "\n").map_err(|error| error.to_string())?;
            inputs.files.insert(name.to_owned(), path.display().to_string());
        } else if let Some((command, file)) = comment.strip_prefix("console: ").and_then(|rest| rest.split_once(" = "))
        {
            inputs.piped.insert(command.to_owned(), file.to_owned());
        }
    }
    let mut lines: Vec<String> = old.lines().map(str::to_owned).collect();
    let run: Vec<Block> = blocks(old).filter(|block| block.not_run.is_none()).collect();
    // From the last, so that the lines of those before it stay where they are.
    for block in run.iter().rev() {
        let new = renewed(&block.fence.lines, &inputs)?;
        let range = block.fence.first..block.fence.first + block.fence.lines.len();
        lines.splice(range, new.lines().map(str::to_owned));
    }
    Ok(lines.join("\n") + "\n")
}

/// What `serve` answers to a GET of each path: the bodies.
#[cfg(feature = "report")]
pub(crate) fn served<'a>(arguments: &[&str], paths: impl Iterator<Item = &'a &'a str>) -> Vec<String> {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};

    let mut command = bouncescope();
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines().next();
    let address = said.and_then(Result::ok).and_then(|line| {
        line.strip_prefix("serving http://").and_then(|rest| rest.split('/').next().map(str::to_owned))
    });
    let bodies = address.map(|address| {
        let get = |path: &&str| {
            let mut stream = std::net::TcpStream::connect(&address)?;
            write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer.split_once("\r\n\r\n").unwrap_or_default().1.to_owned())
        };
        paths.map(get).collect::<Result<Vec<String>, _>>()
    });
    child.kill().ok();
    child.wait().ok();
    bodies.expect("serve says where it listens").expect("serve answers")
}
