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

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}

/// The value below which this part of the others lies.
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1).expect("something was measured");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short list"
    )]
    let at = (last as f64 * part).round() as usize;
    values[at]
}
