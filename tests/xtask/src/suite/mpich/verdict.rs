//! Judges what a test of the suite has printed, by the rules of the suite's own runner.
//! Lines that MPICH and the provider print because they were asked to are no words of the test; everything else is.

use super::list::Expected;

/// How the provider's own lines begin.
const PROVIDER: &str = "rdgram: ";
/// How the lines of MPICH's summary begin (`MPIR_CVAR_DEBUG_SUMMARY`), from 4.0 to 5.0.
const SUMMARY: [&str; 26] = [
    "====",
    "MPIDI_",
    "MPIR_CVAR_",
    "MPIR: ",
    "MPID: ",
    "MPID/shm: ",
    "MPICH ",
    "sizeof(",
    "Required minimum FI_VERSION:",
    "provider: ",
    "libfabric provider: ",
    "MAXIMUM SUPPORTED RANKS:",
    "MAXIMUM TAG:",
    "max_",
    "tx_iov_limit:",
    "rx_iov_limit:",
    "rma_iov_limit:",
    "num_vcis:",
    "num_vnis:",
    "num_nics:",
    "error checking ",
    "QMPI ",
    "debugger support ",
    "thread level ",
    "thread CS ",
    "threadcomm ",
];

/// Did a test that ended by itself do what was expected? If not, what was wrong.
pub(super) fn judge(expected: Expected, output: &str, success: bool) -> Result<(), String> {
    if expected != Expected::NoErrors && success {
        return Err("it ended well, and should not have".to_owned());
    }
    if expected == Expected::Failure {
        return Ok(());
    }
    let mut without_errors = false;
    for line in without_counters(output).lines().filter(|line| !is_summary(line)) {
        match line.trim() {
            "No Errors" | "No errors" if !without_errors => without_errors = true,
            // The launcher may pass on the end of a line by itself, after a line of another process.
            "Test Passed" | "" => {}
            _ => return Err(format!("it printed {:?}", line.chars().take(160).collect::<String>())),
        }
    }
    if !without_errors {
        return Err("it did not say that there were no errors".to_owned());
    }
    if expected == Expected::NoErrors && !success {
        return Err("it said that there were no errors, and ended with one".to_owned());
    }
    Ok(())
}

fn is_summary(line: &str) -> bool {
    SUMMARY.iter().any(|beginning| line.starts_with(beginning))
}

/// The output without the provider's counters. They come by another stream than the test's own words, and the
/// launcher may put them into the middle of a line.
fn without_counters(output: &str) -> String {
    let mut text = String::new();
    let mut rest = output;
    while let Some((before, after)) = rest.split_once(PROVIDER) {
        text.push_str(before);
        let (line, next) = after.split_once('\n').unwrap_or((after, ""));
        if is_counter(line) {
            rest = next;
        } else {
            text.push_str(PROVIDER);
            rest = after;
        }
    }
    text + rest
}

/// "ADDRESS NAME VALUE". What the provider has to complain about has another form.
fn is_counter(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    matches!(words[..], [_, _, value] if value.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY_AND_COUNTERS: &str = "==== Various sizes and limits ====\nsizeof(MPIDI_per_vci_t): 192\n\
        libfabric provider: rdgram - 127.0.0.0/8\nthread level      : MPI_THREAD_SINGLE\n\
        rdgram: 127.0.0.1:42041 tx_datagrams 25641\n";

    #[test]
    fn what_is_not_the_tests_own_does_not_count() {
        let output = format!("{SUMMARY_AND_COUNTERS} No Errors\nrdgram: [::1]:42041 links 1\n");
        assert_eq!(judge(Expected::NoErrors, &output, true), Ok(()));
        let torn = " No Errorsrdgram: 127.0.0.1:42041 links 1\nrdgram: 127.0.0.1:42041 local_put 7\n\n";
        assert_eq!(judge(Expected::NoErrors, torn, true), Ok(()));
        assert!(judge(Expected::NoErrors, SUMMARY_AND_COUNTERS, true).is_err());
    }

    #[test]
    fn any_other_word_and_any_status_count() {
        for output in ["Found 1 errors\n No Errors\n", " No Errors\n No Errors\n", "\n", ""] {
            assert!(judge(Expected::NoErrors, output, true).is_err(), "{output:?}");
        }
        let complaint = " No Errors\nrdgram: no answer from 127.0.0.1:4000 for 10\n";
        assert!(judge(Expected::NoErrors, complaint, true).is_err());
        assert!(judge(Expected::NoErrors, " No Errors\n", false).is_err());
    }

    #[test]
    fn some_tests_have_to_fail() {
        assert_eq!(judge(Expected::Failure, "Abort(3)\n", false), Ok(()));
        assert!(judge(Expected::Failure, " No Errors\n", true).is_err());
        assert_eq!(judge(Expected::FailureNoErrors, " No Errors\n", false), Ok(()));
        assert!(judge(Expected::FailureNoErrors, "Abort(3)\n", false).is_err());
        assert!(judge(Expected::FailureNoErrors, " No Errors\n", true).is_err());
    }
}
