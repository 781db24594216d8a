#![allow(clippy::print_stdout, missing_docs)]
use hippodrome_sim::hunt::{Hunt, hunt};
use hippodrome_sim::plan::Plan;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let first: u64 = a[1].parse().unwrap();
    let seeds: u64 = a[2].parse().unwrap();
    if let Some(m) = a.get(3) {
        use hippodrome_engine::protocol::planted::Planted;
        for &p in Planted::ALL.iter().filter(|p| m == "all" || p.name() == m) {
            let found = hippodrome_sim::mutants::find(p, first, seeds, 2, &|_, _| true);
            println!("{p} {:?} {:?}", found.took, found.found);
        }
        return;
    }
    if seeds == 0 {
        let plan = Plan::draw(first);
        println!("{}", serde_json::to_string_pretty(&plan).unwrap());
        let out = hippodrome_sim::run(&plan, None, true);
        for l in &out.trace {
            println!("{l}");
        }
        println!("{:?}\n{:?}", out.violation, out.coverage);
        return;
    }
    let t = std::time::Instant::now();
    let found = hunt(Hunt { first, seeds, jobs: 2, planted: None, stop_early: false }, &|_, _| true);
    for (s, v) in &found.violations {
        println!("{s} {}: {}", v.checker, v.detail);
    }
    println!(
        "{:?} {:?} {}",
        t.elapsed(),
        Hunt { first, seeds, jobs: 2, planted: None, stop_early: false },
        found.violations.len()
    );
    let f = &found;
    println!(
        "byz {} twins {} vc {} transfers {} crashed {} part {}\n{:?}",
        f.byzantine, f.twins, f.view_changes, f.transfers, f.crashed, f.partitioned, f.total
    );
}
