use proptest::prelude::*;

use super::*;

fn value(text: &str, x: f64) -> f64 {
    Formula::compile(text, &["x"]).unwrap_or_else(|error| panic!("{text}: {error:?}")).value(&[x]).unwrap()
}

fn refused(text: &str) -> (Range<usize>, String) {
    let error = Formula::compile(text, &["x", "humidity"]).unwrap_err();
    (error.at, error.message)
}

#[test]
fn operators_have_the_ranks_of_school() {
    for (text, expected) in [
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("7 / 2", 3.5),
        ("7 // 2", 3.0),
        ("-7 // 2", -4.0),
        ("-7 % 3", 2.0),
        ("2 ** 3 ** 2", 512.0),
        ("-2 ** 2", -4.0),
        ("2 ** -1", 0.5),
        ("10 - 4 - 3", 3.0),
        ("1.5e3 + .5", 1500.5),
        ("x * 0.0625", 1.25),
    ] {
        assert!((value(text, 20.0) - expected).abs() < 1e-12, "{text}: {}", value(text, 20.0));
    }
}

#[test]
fn a_filter_is_a_function_of_what_stands_before_it() {
    let soil = "((x - 200) / 10) | clamp(0, 100)";
    assert!((value(soil, 700.0) - 50.0).abs() < 1e-12);
    assert!(value(soil, 0.0).abs() < 1e-12);
    assert!((value(soil, 60_000.0) - 100.0).abs() < 1e-12);
    assert!((value("1 + x | abs", -2.0) - 3.0).abs() < 1e-12, "as in Jinja, the filter takes x alone");
    assert!((value("x | sqrt | round(2)", 2.0) - 1.41).abs() < 1e-12);
}

#[test]
fn conditions_choose_and_count_as_one_or_zero() {
    let text = "1 if x > 10 and not x == 12 else 2 if x < 0 or x >= 12 else 3";
    assert_eq!([11.0, 12.0, -1.0, 5.0].map(|x| value(text, x).to_string()), ["1", "2", "2", "3"]);
    assert_eq!(value("(x > 3) + (x != 3)", 4.0).to_string(), "2");
    // What is not chosen is not computed.
    assert_eq!(value("0 if x == 0 else 1 / x", 0.0).to_string(), "0");
}

/// The vapour pressure deficit of a greenhouse at 25 °C and 60 %, 1.267 kPa; the dew point there, 16.7 °C, and its 13.8 g/m³ of water.
#[test]
fn air_is_computed_as_the_tables_have_it() {
    let names = ["t", "h"];
    let at = |text: &str| Formula::compile(text, &names).unwrap().value(&[25.0, 60.0]).unwrap();
    assert!((at("0.6108*exp(17.27*t/(t+237.3))*(1-h/100)") - 1.267).abs() < 0.001);
    assert!((at("dewpoint(t, h)") - 16.7).abs() < 0.05, "{}", at("dewpoint(t, h)"));
    assert!((at("t | abs_humidity(h)") - 13.8).abs() < 0.1, "{}", at("t | abs_humidity(h)"));
}

#[test]
fn what_is_wrong_with_a_formula_is_told_at_its_place() {
    for (text, at, message) in [
        ("x +", 3..3, "the formula ends where a value should follow"),
        ("x + y", 4..5, "no value is named `y`"),
        ("2 x", 2..3, "`x` stands where an operator or the end should"),
        ("(x", 2..2, "the formula ends where `)` should follow"),
        ("x ; 1", 2..3, "`;` has no meaning in a formula"),
        ("lg(x)", 0..2, "no function is named `lg`"),
        ("clamp(x, 1)", 0..5, "`clamp` takes 3 arguments, not 2"),
        ("x | clamp", 4..9, "`clamp` takes 3 arguments, not 1"),
        ("min(1)", 0..3, "`min` takes 2 to 16 arguments, not 1"),
        ("sqrt", 0..4, "`sqrt` is a function: write `sqrt(…)`"),
        ("x if 1", 6..6, "the formula ends where `else` should follow"),
        ("2e", 1..2, "`e` stands where an operator or the end should"),
        ("1.2.3", 3..5, "0.3 stands where an operator or the end should"),
        ("", 0..0, "the formula ends where a value should follow"),
        ("µ", 0..2, "no value is named `µ`"),
    ] {
        assert_eq!(refused(text), (at, message.to_owned()), "{text}");
    }
    assert_eq!(Formula::compile("humidty", &["humidity"]).unwrap_err().help.as_deref(), Some("known: `humidity`"));
}

#[test]
fn what_has_no_value_says_why() {
    let at = |text: &str, x: f64| Formula::compile(text, &["x"]).unwrap().value(&[x]);
    assert_eq!(at("1 / x", 0.0), Err(NoValue::Division));
    assert_eq!(at("1 % x", 0.0), Err(NoValue::Division));
    assert_eq!(at("sqrt(x)", -1.0), Err(NoValue::NoNumber));
    assert_eq!(at("exp(x)", 1000.0), Err(NoValue::NoNumber));
    assert_eq!(Formula::compile("x", &["x"]).unwrap().value(&[]), Err(NoValue::NoNumber));
}

#[test]
fn a_formula_that_nests_without_end_is_refused_before_the_stack_is_full() {
    for text in ["(".repeat(900), "-".repeat(900), "not ".repeat(200), "2**".repeat(300), "abs(".repeat(250)] {
        assert!(refused(&text).1.contains("levels"), "{text}");
    }
    assert!(refused(&"1 if 1 else ".repeat(80)).1.contains("levels"));
    assert!(refused(&"x".repeat(2000)).1.contains("bytes"));
    assert!(refused(&("1".to_owned() + &"+1".repeat(400))).1.contains("in a row"));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[-+*/%()|,. xae0-9<>=!ifn]{0,60}", x in any::<f64>()) {
        if let Ok(formula) = Formula::compile(&text, &["x"]) {
            prop_assert!(formula.value(&[x]).is_ok_and(f64::is_finite) || formula.value(&[x]).is_err());
        }
    }

    #[test]
    fn no_characters_panic(text in any::<String>()) {
        let _ = Formula::compile(&text, &["x"]);
    }
}
