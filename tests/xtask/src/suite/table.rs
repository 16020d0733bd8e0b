//! The tables that the Intel MPI Benchmarks print, and `mpi-tests/patterns` in the same form.
//! It must never invent a number: a table that cannot be read is an error.

use std::collections::BTreeMap;

/// What IMB prints when all its benchmarks are through.
pub(crate) const COMPLETED: &str = "# All processes entering MPI_Finalize";

/// What stands before a benchmark's name.
const BENCHMARK: &str = "# Benchmarking ";

/// One row: the message size and the columns after the repetition count.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Bytes of a message; zero where the benchmark has no message.
    pub(crate) bytes: u64,
    /// What was measured, in the order of the table's columns.
    pub(crate) columns: Vec<f64>,
}

/// The tables of a run by the benchmark's name. A benchmark that ran with several process counts keeps the
/// last, which is the one with all processes.
pub(crate) fn tables(output: &str) -> BTreeMap<String, Vec<Row>> {
    let mut tables: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut current: Option<String> = None;
    let mut sized = true;
    for line in output.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix(BENCHMARK) {
            let name = rest.split_whitespace().next().unwrap_or_default().to_owned();
            tables.insert(name.clone(), Vec::new());
            current = Some(name);
        } else if line.starts_with("#bytes") || line.starts_with("#repetitions") {
            sized = line.starts_with("#bytes");
        } else if let (Some(name), Some(row)) = (&current, row(line, sized)) {
            if let Some(rows) = tables.get_mut(name) {
                rows.push(row);
            }
        }
    }
    tables
}

/// How many sizes IMB began and gave up because its time for the table was over.
pub(crate) fn left_out(output: &str) -> usize {
    output.lines().filter(|line| line.contains(" time-out.;")).count()
}

/// Did IMB give up sizes of this benchmark for lack of time?
pub(crate) fn left_out_of(output: &str, name: &str) -> bool {
    let mut current = "";
    for line in output.lines() {
        let begun = line.trim().strip_prefix(BENCHMARK).and_then(|rest| rest.split_whitespace().next());
        current = begun.unwrap_or(current);
        if current == name && left_out(line) > 0 {
            return true;
        }
    }
    false
}

/// Repetitions and what was measured, after the size where the benchmark has messages.
fn row(line: &str, sized: bool) -> Option<Row> {
    let mut words = line.split_whitespace();
    let bytes = if sized { words.next()?.parse().ok()? } else { 0 };
    let _repetitions: u64 = words.next()?.parse().ok()?;
    let columns: Vec<f64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    (!columns.is_empty()).then_some(Row { bytes, columns })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
#---------------------------------------------------
# Benchmarking PingPong 
# #processes = 2 
#---------------------------------------------------
       #bytes #repetitions      t[usec]   Mbytes/sec
            0         1000         6.02         0.00
           64         1000         5.17        12.39
# Benchmarking Barrier
 #repetitions  t_min[usec]  t_max[usec]  t_avg[usec]
         1000         4.03         4.14         4.08
# Benchmarking Allreduce 
       #bytes #repetitions  t_min[usec]  t_max[usec]  t_avg[usec]
            8         1000         6.29         6.72         6.51
";

    #[test]
    fn reads_the_tables_imb_prints() {
        let tables = tables(OUTPUT);
        assert_eq!(tables["PingPong"][1], Row { bytes: 64, columns: vec![5.17, 12.39] });
        assert_eq!(tables["Allreduce"], [Row { bytes: 8, columns: vec![6.29, 6.72, 6.51] }]);
    }

    #[test]
    fn a_table_without_sizes_keeps_its_times() {
        assert_eq!(tables(OUTPUT)["Barrier"], [Row { bytes: 0, columns: vec![4.03, 4.14, 4.08] }]);
    }

    #[test]
    fn sizes_given_up_are_counted() {
        assert_eq!(left_out(OUTPUT), 0);
        assert_eq!(
            left_out("       262144 time-out.; Time limit (secs_per_sample * msg_sizes_list_len) is over;\n"),
            1
        );
    }

    #[test]
    fn text_is_no_row() {
        assert_eq!(row("# All processes entering MPI_Finalize", true), None);
        assert_eq!(row("", true), None);
        assert_eq!(row("262144 time-out.; Time limit is over", true), None);
    }
}
