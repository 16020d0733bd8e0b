//! Reads the suite's lists of tests: which program, with how many ranks, arguments and variables, and what of it is right.
//! It must never drop a line that it does not understand: a test that is not listed is a test that nobody misses.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Files with tests in every directory: written by hand, and generated for many datatypes.
const FILES: [&str; 2] = ["testlist", "testlist.dtp"];
/// What the suite's own runner gives a test of which the list does not say it.
const RANKS: u32 = 2;
const SECONDS: u64 = 180;

/// What a test has to do to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// End well, and say nothing but " No Errors".
    NoErrors,
    /// End with an error, whatever it says.
    Failure,
    /// End with an error, and say " No Errors".
    FailureNoErrors,
}

/// One line of a list.
#[derive(Debug, Clone)]
pub(super) struct Test {
    /// Directory and line: no two tests have the same.
    pub(super) name: String,
    /// The list's directory, from the top of the suite.
    pub(super) dir: String,
    /// The program, from that directory.
    pub(super) program: String,
    /// How many ranks it is started with.
    pub(super) ranks: u32,
    /// The program's arguments.
    pub(super) arguments: Vec<String>,
    /// Variables of its environment.
    pub(super) variables: Vec<(String, String)>,
    /// Arguments of the launcher.
    pub(super) launcher: Vec<String>,
    /// What is right.
    pub(super) expected: Expected,
    /// After so many seconds it hangs.
    pub(super) seconds: u64,
    /// The launcher is to end it then, and that is right.
    pub(super) times_out: bool,
    /// Why it is known to fail, whatever MPICH runs over.
    pub(super) known_failure: Option<String>,
    /// Memory that it needs, in units of 2^30 bytes.
    pub(super) memory: f64,
}

impl Test {
    /// The directory below the top that it belongs to: the rows of the table.
    pub(super) fn group(&self) -> &str {
        self.dir.split('/').next().unwrap_or_default()
    }

    /// Do these words name it? A directory, a program, or the whole line.
    pub(super) fn is_named(&self, name: &str) -> bool {
        name == self.program || name == self.name || name == format!("{}/{}", self.dir, self.program)
    }
}

/// The tests of `dir` below `root` and of the directories that its lists name.
pub(super) fn read(root: &Path, dir: &str) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for file in FILES {
        let path = root.join(dir).join(file);
        if !path.is_file() && file != FILES[0] {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for line in lines(&text) {
            let first = line.split_whitespace().next().unwrap_or_default();
            if root.join(dir).join(first).is_dir() {
                tests.extend(read(root, &format!("{dir}/{first}"))?);
            } else {
                tests.push(parse(dir, line).with_context(|| format!("{}: {line:?}", path.display()))?);
            }
        }
    }
    number(&mut tests);
    Ok(tests)
}

/// Lines without comments.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty())
}

/// Some lines stand twice in a list.
fn number(tests: &mut [Test]) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    for test in tests {
        let count = seen.entry(test.name.clone()).or_insert(0);
        *count += 1;
        if *count > 1 {
            test.name = format!("{} ({count})", test.name);
        }
    }
}

/// "program [ranks [key=value ...]]".
fn parse(dir: &str, line: &str) -> Result<Test> {
    let mut words = line.split_whitespace();
    let program = words.next().context("no program")?.to_owned();
    if program.contains('!') {
        bail!("it wants something to be built first, which is not supported");
    }
    let ranks = words.next().map_or(Ok(RANKS), str::parse).context("the number of ranks")?;
    let mut test = Test {
        name: format!("{dir}/{}", line.split_whitespace().collect::<Vec<_>>().join(" ")),
        dir: dir.to_owned(),
        program,
        ranks,
        arguments: Vec::new(),
        variables: Vec::new(),
        launcher: Vec::new(),
        expected: Expected::NoErrors,
        seconds: SECONDS,
        times_out: false,
        known_failure: None,
        memory: 0.0,
    };
    let mut limited = false;
    for word in words {
        if word == format!("test/mpi/{dir}/{}", test.program) {
            // What generates the lists leaves it there; the suite's own runner takes no notice either.
            continue;
        }
        let (key, value) = word.split_once('=').with_context(|| format!("{word:?} is no key=value"))?;
        match key {
            "arg" => test.arguments.push(value.to_owned()),
            "mpiexecarg" => test.launcher.push(value.to_owned()),
            "env" => {
                let (name, value) = value.split_once('=').with_context(|| format!("{word:?}"))?;
                test.variables.push((name.to_owned(), value.to_owned()));
            }
            "timeLimit" => {
                test.seconds = value.parse().context("the time limit")?;
                limited = true;
            }
            "resultTest" => test.expected = expected(value)?,
            "xfail" => test.known_failure = Some(value.to_owned()),
            "mem" => test.memory = value.parse().context("the memory")?,
            // Which MPIs have what is tested: MPICH has it all.
            "strict" | "mpix" | "mpiversion" => {}
            _ => bail!("the key {key} is not known"),
        }
    }
    test.times_out = limited && test.expected == Expected::Failure;
    Ok(test)
}

/// The names of the suite's own runner.
fn expected(name: &str) -> Result<Expected> {
    match name {
        "TestStatus" | "TestErrFatal" => Ok(Expected::Failure),
        "TestStatusNoErrors" => Ok(Expected::FailureNoErrors),
        _ => bail!("the result test {name} is not known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_all_its_keys() {
        let line = "probe 4 test/mpi/pt2pt/probe arg=-n=3 arg=x env=A=b=c mpiexecarg=-q timeLimit=60 mem=6.5 strict=false";
        let test = parse("pt2pt", line).expect("a test");
        assert_eq!((test.program.as_str(), test.ranks, test.seconds), ("probe", 4, 60));
        assert_eq!(test.arguments, ["-n=3", "x"]);
        assert_eq!(test.variables, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(test.launcher, ["-q"]);
        assert_eq!(test.expected, Expected::NoErrors);
        assert!(!test.times_out && test.memory > 6.0);
        assert!(test.is_named("probe") && test.is_named("pt2pt/probe") && !test.is_named("prob"));
    }

    #[test]
    fn what_is_not_said_is_as_in_the_suites_own_runner() {
        let test = parse("errors/coll", "noalias").expect("a test");
        assert_eq!((test.ranks, test.seconds, test.group()), (2, 180, "errors"));
        let fatal = parse("init", "timeout 2 resultTest=TestErrFatal timeLimit=10").expect("a test");
        assert!(fatal.times_out && fatal.expected == Expected::Failure);
        assert!(!parse("init", "exitst1 2 resultTest=TestStatus").expect("a test").times_out);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for line in ["a two", "a 2 colour=red", "a 2 env=A", "a 2 resultTest=Luck", "a 2 loose"] {
            assert!(parse("pt2pt", line).is_err(), "{line}");
        }
    }

    #[test]
    fn comments_are_no_tests_and_equal_lines_have_names_of_their_own() {
        let text = "# words\n\nput 2 # more\nput 2\nget\n";
        let mut tests: Vec<Test> = lines(text).map(|line| parse("rma", line).expect("a test")).collect();
        number(&mut tests);
        let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(names, ["rma/put 2", "rma/put 2 (2)", "rma/get"]);
    }
}
