#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hippodrome_fuzz::log(bytes));
