//! Machines that are described by a text or a file.

use sealbus_worker::topology::{Machine, Source, draw, load};

fn synthetic(text: &str) -> Machine {
    load(Source::Synthetic(text.to_owned())).expect(text)
}

#[test]
fn this_machine_is_described() {
    let machine = load(Source::ThisMachine).expect("machine");
    println!("{}{machine:#?}", draw::draw(&machine));
    let machine = synthetic("package:2 [numa(memory=256GB)] l3:8(size=32MB) core:8 pu:2");
    println!("{}", draw::draw(&machine));
}
