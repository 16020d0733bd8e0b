//! The Intel MPI Benchmarks: which ones are run, and reading the tables they print.
//! It must never invent a number: a table that cannot be read is an error.

use std::collections::BTreeMap;

/// The two-sided and collective benchmarks of IMB-MPI1.
pub(crate) const TWO_SIDED_AND_COLLECTIVE: &[&str] = &[
    "PingPong",
    "PingPing",
    "Sendrecv",
    "Exchange",
    "Uniband",
    "Biband",
    "Bcast",
    "Allgather",
    "Allgatherv",
    "Gather",
    "Gatherv",
    "Scatter",
    "Scatterv",
    "Alltoall",
    "Alltoallv",
    "Reduce",
    "Reduce_scatter",
    "Allreduce",
    "Barrier",
];

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
    for line in output.lines() {
        if let Some(rest) = line.trim().strip_prefix("# Benchmarking ") {
            let name = rest.split_whitespace().next().unwrap_or_default().to_owned();
            tables.insert(name.clone(), Vec::new());
            current = Some(name);
        } else if let (Some(name), Some(row)) = (&current, row(line)) {
            if let Some(rows) = tables.get_mut(name) {
                rows.push(row);
            }
        }
    }
    tables
}

fn row(line: &str) -> Option<Row> {
    let numbers: Vec<f64> = line.split_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    match numbers.as_slice() {
        // Barrier has no message size: repetitions and times only.
        [_repetitions, columns @ ..] if columns.len() == 3 => {
            Some(Row { bytes: 0, columns: columns.to_vec() })
        }
        [_, _, columns @ ..] if !columns.is_empty() => {
            let bytes = line.split_whitespace().next()?.parse().ok()?;
            Some(Row { bytes, columns: columns.to_vec() })
        }
        _ => None,
    }
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
        assert_eq!(tables(OUTPUT)["Barrier"].len(), 1);
    }

    #[test]
    fn text_is_no_row() {
        assert_eq!(row("# All processes entering MPI_Finalize"), None);
        assert_eq!(row(""), None);
    }
}
