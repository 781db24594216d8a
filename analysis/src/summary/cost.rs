//! What a run costs besides CPU time in all, in words: the load generator against a replica, what replicas send, and
//! how many operations are under way for it.

use super::words::{count, digits, signed_percent};
use crate::report::Report;
use crate::traffic::Traffic;

/// What the load generator takes for an operation against one replica at the same load, and what follows where it takes
/// more; `None` where that was not measured.
pub(crate) fn of_generator(report: &Report) -> Option<String> {
    let (own, replica) = (report.cpu.us_per_op_clients, report.cpu.us_per_op_one_replica);
    let times = report.generator.cost_in_replicas;
    if times <= 0.0 || replica <= 0.0 {
        return None;
    }
    let mut text = format!("{own:.2} µs/op, {times:.1} times one replica's {replica:.2}");
    // What is shown as one is no more than that.
    if (times * 10.0).round() > 10.0 {
        text.push_str(": more than a replica; where they share cores, replicas alone would be faster");
    }
    Some(text)
}

/// What replicas sent for an operation, and how many times what is expected.
pub(crate) fn of_traffic(told: &Traffic) -> String {
    let times = |sent: f64, expected: f64| format!("{:.2} times", if expected > 0.0 { sent / expected } else { 0.0 });
    let messages = times(told.messages_per_op, told.expected_messages_per_op);
    let bytes = told.expected_bytes_per_op.map(|expected| format!(", {}", times(told.bytes_per_op, expected)));
    let (sent, sent_bytes) = (digits(told.messages_per_op), digits(told.bytes_per_op));
    let bytes = bytes.unwrap_or_default();
    format!("{sent} messages/op, {messages} what message complexity says; {sent_bytes} bytes/op{bytes}")
}

/// How many operations were under way on average, and how that agrees with the clients of a closed loop; `None` if it
/// is not known.
pub(crate) fn of_outstanding(report: &Report) -> Option<String> {
    let (outstanding, generator) = (report.throughput.outstanding?, &report.generator);
    let text = format!("{} operations under way on average (rate times mean latency)", digits(outstanding));
    if generator.mode != "closed" || generator.clients == 0 {
        return Some(text);
    }
    let clients = f64::from(generator.clients);
    let apart = signed_percent(100.0 * (outstanding / clients - 1.0));
    Some(format!("{text}, of {} clients in a closed loop: {apart}", count(clients)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(own: f64, replica: f64) -> Option<String> {
        let mut report = Report::default();
        (report.cpu.us_per_op_clients, report.cpu.us_per_op_one_replica) = (own, replica);
        report.generator.cost_in_replicas = if replica > 0.0 { own / replica } else { 0.0 };
        of_generator(&report)
    }

    #[test]
    fn it_is_told_whether_the_generator_costs_more_than_a_replica() {
        assert_eq!(told(0.17, 0.19).unwrap(), "0.17 µs/op, 0.9 times one replica's 0.19");
        assert_eq!(told(1.04, 1.0).unwrap(), "1.04 µs/op, 1.0 times one replica's 1.00");
        let more = told(4.25, 3.8125).unwrap();
        assert!(more.starts_with("4.25 µs/op, 1.1 times one replica's 3.81: more than a replica; "), "{more}");
        assert_eq!(told(1.0, 0.0), None);
    }

    /// Each client of a closed loop always has one operation under way.
    #[test]
    fn a_closed_loop_has_as_many_under_way_as_clients() {
        let mut report = Report::default();
        assert_eq!(of_outstanding(&report), None);
        report.throughput.outstanding = Some(404.0);
        (report.generator.mode, report.generator.clients) = ("closed".into(), 400);
        let told = of_outstanding(&report).unwrap();
        assert!(
            told.starts_with("404 operations under way") && told.ends_with(", of 400 clients in a closed loop: +1.0 %"),
            "{told}"
        );
        report.generator.mode = "poisson".into();
        assert!(!of_outstanding(&report).unwrap().contains("closed loop"));
    }

    #[test]
    fn what_was_sent_is_told_beside_what_is_expected() {
        let mut told = Traffic {
            messages_per_op: 0.0682,
            expected_messages_per_op: 0.062,
            bytes_per_op: 289.4,
            expected_bytes_per_op: Some(275.6),
            ..Traffic::default()
        };
        let expected = "0.0682 messages/op, 1.10 times what message complexity says; 289 bytes/op, 1.05 times";
        assert_eq!(of_traffic(&told), expected);
        told.expected_bytes_per_op = None;
        assert!(of_traffic(&told).ends_with("; 289 bytes/op"), "{}", of_traffic(&told));
    }
}
