//! That costs are the same each time, that what has become dearer is noticed, and that the document shows the table.

mod allocations;
#[allow(dead_code, reason = "valgrind is the benchmark's")]
mod callgrind;
mod check;
mod cluster;
mod parts;
mod table;

use std::hint::black_box;
use std::path::Path;

use hippodrome_engine::pipeline::board::Board;
use hippodrome_engine::pipeline::stage::Stage;
use hippodrome_engine::types::Time;

use check::{Findings, compare};
use cluster::{CASES, Case, Cluster, Counted};
use parts::Part;
use table::{CaseCosts, TOTAL, Table};

/// A quarter of what is counted for the table: a few checkpoints are not needed here.
fn measured(cluster: Cluster, case: &Case) -> Counted {
    cluster.measure(case.warm_up / 4, case.operations / 4)
}

fn table_of(case: &Case, counted: &Counted) -> Table {
    let instructions = [100.0; Part::ALL.len()];
    let cases = vec![CaseCosts::new(case, counted, Some(&instructions))];
    Table { rustc: "1.2.3".to_owned(), machine: "x86_64, AVX2".to_owned(), cases }
}

/// A stage that allocates in every step what nobody needs.
struct Wasteful(Box<dyn Stage + Send>);

impl Stage for Wasteful {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn step(&mut self, now: Time) -> bool {
        black_box(vec![1_u8; 16]);
        self.0.step(now)
    }

    fn has_work(&self) -> bool {
        self.0.has_work()
    }

    fn queue_len(&self) -> usize {
        self.0.queue_len()
    }

    fn post(&mut self, board: &mut Board) {
        self.0.post(board);
    }
}

/// Were it otherwise, a gate with this in it would fail for no reason now and then.
#[test]
fn a_case_costs_the_same_each_time() {
    for case in CASES.iter().filter(|case| case.instructions) {
        let counted = measured(Cluster::start(case), case);
        assert!(counted.spent.iter().all(|spent| spent.allocations > 0), "{}: {counted:?}", case.name);
        let batch = counted.operations / counted.batches;
        assert!(if case.name == "one" { batch == 1 } else { (250..=1000).contains(&batch) }, "{}: {batch}", case.name);
        assert_eq!(counted, measured(Cluster::start(case), case), "{}", case.name);
    }
}

#[test]
fn one_more_allocation_in_one_stage_is_noticed() {
    let case = &CASES[0];
    let before = table_of(case, &measured(Cluster::start(case), case));
    let mut cluster = Cluster::start(case);
    let (part, stage) = cluster.replicas[0].stages.remove(0);
    assert_eq!(part, Part::PrimaryVerify);
    cluster.replicas[0].stages.insert(0, (part, Box::new(Wasteful(stage))));
    let after = table_of(case, &measured(cluster, case));
    let Findings { grown, fallen, elsewhere } = compare(&before, &after).unwrap();
    assert!(fallen.is_empty() && elsewhere.is_empty(), "{fallen:?} {elsewhere:?}");
    let [change] = &grown[..] else { panic!("{grown:?}") };
    assert_eq!((change.part.as_str(), change.figure), ("primary: verify", "allocations a batch"));
    // Back to what it was is cheaper, and told.
    let Findings { grown, fallen, .. } = compare(&after, &before).unwrap();
    assert_eq!((grown.len(), fallen.len()), (0, 1));
}

/// The default case at some cost, the same for each part.
fn flat(cost: table::Cost) -> Table {
    let counted = Counted { operations: 1, batches: 1, spent: Default::default() };
    let mut table = table_of(&CASES[0], &counted);
    table.cases[0].parts.values_mut().for_each(|part| *part = cost);
    table
}

type Change = fn(&mut table::Cost);

const COST: table::Cost = table::Cost { allocations: 10.0, bytes: 100.0, instructions: Some(1000.0) };

#[test]
fn what_grows_by_more_than_a_twentieth_fails_and_what_falls_is_told() {
    assert_eq!(compare(&flat(COST), &flat(COST)), Ok(Findings::default()));
    let change = |part: &str, change: Change| {
        let mut is = flat(COST);
        change(is.cases[0].parts.get_mut(part).unwrap());
        compare(&flat(COST), &is).unwrap()
    };
    let edges: [(&str, Change, Change); 3] = [
        (TOTAL, |cost| cost.allocations = 10.5, |cost| cost.allocations = 10.6),
        ("backup: order", |cost| cost.bytes = 105.0, |cost| cost.bytes = 107.0),
        ("client: send", |cost| cost.instructions = Some(1050.0), |cost| cost.instructions = Some(1055.0)),
    ];
    for (part, within, beyond) in edges {
        assert_eq!(change(part, within), Findings::default());
        let findings = change(part, beyond);
        assert_eq!((findings.grown.len(), findings.fallen.len(), findings.elsewhere.len()), (1, 0, 0));
        assert_eq!(findings.grown[0].part, part);
    }
    let told = change("client: send", |cost| cost.instructions = Some(1055.0)).grown[0].to_string();
    let expected =
        "default, client: send: instructions an operation: was 1000.00, is 1055.00, allowed 948.00 to 1052.00";
    assert_eq!(told, expected);
    let findings = change("client: send", |cost| cost.instructions = Some(900.0));
    assert_eq!((findings.grown.len(), findings.fallen.len()), (0, 1));
    // What was not counted is not compared.
    assert_eq!(change("client: send", |cost| cost.instructions = None), Findings::default());
}

#[test]
fn instructions_of_another_compiler_or_machine_are_told_and_not_judged() {
    let dearer = table::Cost { allocations: 12.0, instructions: Some(2000.0), ..COST };
    let others =
        [Table { rustc: "1.2.4".to_owned(), ..flat(dearer) }, Table { machine: "aarch64".to_owned(), ..flat(dearer) }];
    for is in others {
        let Findings { grown, fallen, elsewhere } = compare(&flat(COST), &is).unwrap();
        let rows = Part::ALL.len() + 1;
        assert_eq!((grown.len(), fallen.len(), elsewhere.len()), (rows, 0, rows));
        assert!(grown.iter().all(|change| change.figure == "allocations a batch"));
    }
}

#[test]
fn a_table_that_lacks_something_is_refused() {
    let is = flat(COST);
    let mut was = flat(table::Cost { instructions: None, ..COST });
    let lacks = compare(&was, &is).unwrap_err();
    assert!(lacks.contains("no instructions an operation"), "{lacks}");
    was.cases[0].parts.remove(TOTAL);
    assert!(compare(&was, &is).is_err());
    was.cases.clear();
    assert!(compare(&was, &is).unwrap_err().contains("default"));
}

#[test]
fn callgrinds_profiles_are_read() {
    let profile = "\
        fn=_ZN4cost7cluster4turnE\n0 10\n\
        cfi=parts.rs\ncfn=_ZN4cost5parts23cost_of_primary_verify17h01E\ncalls=3 0\n0 700\n\
        cob=libc.so\ncfn=malloc\ncalls=5 0\n0 50\n\
        cfn=_ZN4cost5parts24cost_of_client_receiving17h02E\ncalls=1 0\n0 9\n\n\
        fn=_ZN4cost7cluster6othersE\ncfn=_ZN4cost5parts23cost_of_primary_verify17h01E\ncalls=1 0\n0 30\n";
    let mut expected = vec![0; Part::ALL.len()];
    expected[Part::PrimaryVerify as usize] = 730;
    expected[Part::ClientReceives as usize] = 9;
    assert_eq!(callgrind::inclusive(profile), expected);
    for (part, other) in Part::ALL.iter().flat_map(|part| Part::ALL.iter().map(move |other| (part, other))) {
        assert!(part == other || !other.mark().contains(part.mark()), "{} is in {}", part.mark(), other.mark());
    }
}

fn read(from_package: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(from_package);
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{from_package}: {error}"))
}

#[test]
fn the_document_shows_the_table() {
    let text = read("testdata/cost.toml");
    let table = Table::parse(&text).unwrap();
    assert_eq!(table.to_toml(), text);
    let shown: Vec<&str> = table.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(shown, CASES.iter().map(|case| case.name).collect::<Vec<_>>());
    for (case, known) in table.cases.iter().zip(CASES) {
        assert_eq!(case.parts.len(), Part::ALL.len() + 1, "{}", case.name);
        assert!(case.parts.values().all(|cost| cost.instructions.is_some() == known.instructions), "{}", case.name);
    }
    assert!(
        read("../docs/performance.md").contains(&table.to_markdown()),
        "docs/performance.md: HIPPODROME_BLESS=1 cargo bench --workspace --bench cost -- --check"
    );
}
