//! Formulas: numbers from numbers, as a person writes them in a config.
//!
//! `+ - * /`, `//` (whole part towards minus infinity), `%`, `**`, comparisons (1 or 0), `and`, `or`, `not`, `a if c else b`, parentheses,
//! functions, and filters as in Jinja: `x | clamp(0, 100)` is `clamp(x, 0, 100)`, where a filter takes what stands directly before it.
//!
//! Everything that can be wrong with a formula as such is told when it is compiled, with its place. What is left for later is arithmetic: a division
//! by zero, or a result that is no number. There are no loops, so a formula costs what its text costs.

mod functions;
mod parse;

use std::ops::Range;

use self::functions::Function;

/// A compiled formula.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula(Node);

/// Why a text is no formula.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormulaError {
    /// Where, in bytes of the text.
    pub at: Range<usize>,
    /// A lower-case sentence without full stop.
    pub message: String,
    /// What is known in its place, where that helps.
    pub help: Option<String>,
}

/// Why a formula has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoValue {
    /// Divided by zero.
    #[error("division by zero")]
    Division,
    /// The square root of a negative number, the logarithm of zero, or too large a number.
    #[error("the result is no number")]
    NoNumber,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Number(f64),
    Variable(usize),
    Negative(Box<Node>),
    Not(Box<Node>),
    Two(Operator, Box<Node>, Box<Node>),
    /// Condition, then, else.
    If(Box<[Node; 3]>),
    Call(Function, Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Floor,
    Modulo,
    Power,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    Unequal,
    And,
    Or,
}

impl Formula {
    /// Compiles a formula whose variables have these names.
    ///
    /// # Errors
    /// The first thing that is wrong, at its place.
    pub fn compile(text: &str, names: &[&str]) -> Result<Self, FormulaError> {
        parse::parse(text, names).map(Self)
    }

    /// The value, with the variables in the order of their names.
    ///
    /// # Errors
    /// [`NoValue`]; a variable that is not given counts as no number.
    pub fn value(&self, variables: &[f64]) -> Result<f64, NoValue> {
        let value = eval(&self.0, variables)?;
        if value.is_finite() { Ok(value) } else { Err(NoValue::NoNumber) }
    }
}

fn eval(node: &Node, variables: &[f64]) -> Result<f64, NoValue> {
    Ok(match node {
        Node::Number(number) => *number,
        Node::Variable(index) => variables.get(*index).copied().ok_or(NoValue::NoNumber)?,
        Node::Negative(of) => -eval(of, variables)?,
        Node::Not(of) => truth(!is_true(eval(of, variables)?)),
        Node::Two(operator, left, right) => return two(*operator, left, right, variables),
        Node::If(parts) => {
            let [condition, then, otherwise] = &**parts;
            let chosen = if is_true(eval(condition, variables)?) { then } else { otherwise };
            return eval(chosen, variables);
        }
        Node::Call(function, arguments) => {
            let values = arguments.iter().map(|argument| eval(argument, variables)).collect::<Result<Vec<_>, _>>()?;
            function.value(&values).ok_or(NoValue::NoNumber)?
        }
    })
}

#[allow(clippy::float_cmp)] // a person who compares for equality means it
fn two(operator: Operator, left: &Node, right: &Node, variables: &[f64]) -> Result<f64, NoValue> {
    let left = eval(left, variables)?;
    match operator {
        Operator::And if !is_true(left) => return Ok(0.0),
        Operator::Or if is_true(left) => return Ok(1.0),
        _ => {}
    }
    let right = eval(right, variables)?;
    if matches!(operator, Operator::Divide | Operator::Floor | Operator::Modulo) && right == 0.0 {
        return Err(NoValue::Division);
    }
    Ok(match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        Operator::Floor => (left / right).floor(),
        Operator::Modulo => left - right * (left / right).floor(),
        Operator::Power => left.powf(right),
        Operator::Less => truth(left < right),
        Operator::LessOrEqual => truth(left <= right),
        Operator::Greater => truth(left > right),
        Operator::GreaterOrEqual => truth(left >= right),
        Operator::Equal => truth(left == right),
        Operator::Unequal => truth(left != right),
        Operator::And | Operator::Or => truth(is_true(right)),
    })
}

fn is_true(value: f64) -> bool {
    value != 0.0
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[cfg(test)]
mod tests;
