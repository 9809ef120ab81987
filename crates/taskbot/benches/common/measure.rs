//! What a benchmark prints.

use serde_json::json;

/// Prints one figure: with `--json` as an object, else for people. `floor` is what the bare program reaches.
pub(crate) fn print(name: &str, value: f64, unit: &str, floor: Option<f64>) {
    let ratio = floor.map(|floor| value / floor);
    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", json!({"name": name, "value": value, "unit": unit, "floor": floor, "ratio": ratio}));
        return;
    }
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    println!("{name:44} {value:12.2} {unit:10} {:>12} {:>7}", number(floor), number(ratio));
}
